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
NEW = "NEW"  # stands in a command for a folder that isn't there yet


def make_commands(folder: Path) -> dict[str, Command]:
    """Return commands and their environments by what they do, in the order to run them.

    Args:
      folder: an empty one; it gets a photo, a model of `configs/wgan.py:small` with weights as they
        start, drawn pictures and the compiled programs.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    save_model(folder / "model")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    program = [sys.executable, "-m", "colorjax"]
    colorize = [*program, "colorize", str(folder / "photo.jpg"), "--model", str(folder / "model")]
    colorize += ["--output", str(folder / "colored"), "--overwrite"]
    train = [sys.executable, str(ROOT / "train.py"), "--config", f"{ROOT}/configs/wgan.py:small"]
    train += ["--config.data.source=garden", "--config.data.garden_images=32", f"--workdir={NEW}"]
    # One batch of each phase.
    train += ["--config.steps_per_epoch=1", "--config.phases.pretraining.epochs=1"]
    train += ["--config.phases.adversarial.epochs=1"]
    return {
        "colorjax --help": ([*program, "--help"], environment),
        "colorize one photo, nothing compiled": (colorize, environment),
        "colorize one photo, compiled before": (colorize, environment),
        "train two batches, nothing compiled": (train, environment),
        "train two batches, compiled before": (train, environment),
    }


def save_model(folder: Path) -> None:
    """Make a model of `configs/wgan.py:small`, with weights as they start, in a new folder."""
    config = configuration.load_recipe(str(ROOT / "configs/wgan.py:small"))
    generator = create_networks(config).generator
    blank = np.zeros((1, config.image_size, config.image_size, 1), np.float32)
    folder.mkdir()
    configuration.save_config(config, folder)
    checkpoint.save_model(folder, generator.init(jax.random.key(0), blank, False))
