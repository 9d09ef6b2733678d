"""How the program starts: its commands, with and without compiled programs on disk."""

import os
import sys
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from colorjax import checkpoint, configuration
from colorjax.models import create_networks

ROOT = Path(__file__).parents[1]
Command = tuple[list[str], dict[str, str]]


def make_commands(folder: Path) -> dict[str, Command]:
    """Return commands and their environments by what they do, in the order to run them.

    Args:
      folder: an empty one; it gets a photo, a model of `configs/wgan.py:small` with weights as they
        start, and the compiled programs.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    save_model(folder / "model")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    program = [sys.executable, "-m", "colorjax"]
    colorize = [*program, "colorize", str(folder / "photo.jpg"), "--model", str(folder / "model")]
    colorize += ["--output", str(folder / "colored"), "--overwrite"]
    return {
        "colorjax --help": ([*program, "--help"], environment),
        "colorize one photo, nothing compiled": (colorize, environment),
        "colorize one photo, compiled before": (colorize, environment),
    }


def save_model(folder: Path) -> None:
    """Make a model of `configs/wgan.py:small`, with weights as they start, in a new folder."""
    config = configuration.load_recipe(str(ROOT / "configs/wgan.py:small"))
    generator = create_networks(config).generator
    blank = np.zeros((1, config.image_size, config.image_size, 1), np.float32)
    folder.mkdir()
    configuration.save_config(config, folder)
    checkpoint.save_model(folder, generator.init(jax.random.key(0), blank, False))
