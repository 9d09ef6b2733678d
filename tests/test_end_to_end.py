"""The README's first command, from drawn pictures to a trained model that colours flowers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from colorjax import Colorizer, parallel
from colorjax.data import garden

ROOT = Path(__file__).parents[1]
PICTURES = 600
CONFTESTS = ("XLA_FLAGS", "COLORJAX_KEEP_PROGRAMS")  # variables that users don't set
UNSEEN = range(5000, 5060)  # pictures of the garden beyond those that the recipe draws


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in os.environ if name not in CONFTESTS}
    return subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run of `configs/wgan.py:tiny`, with one epoch as a GAN, and what it said."""
    folder = tmp_path_factory.mktemp("tiny")
    command = [sys.executable, "train.py", "--config", "configs/wgan.py:tiny"]
    command += ["--config.phases.pretraining.epochs=3", "--config.phases.adversarial.epochs=1"]
    command += [f"--config.data.garden_images={PICTURES}"]
    command += ["--config.phases.adversarial.generator_steps=1"]  # that much less to compile
    command += ["--workdir", str(folder / "run")]
    result = run(*command, f"--config.data.cache_dir={folder / 'cache'}")
    assert result.returncode == 0, result.stderr
    return folder / "run", result.stdout


def test_a_run_tells_and_leaves_what_a_user_looks_for(trained):
    workdir, output = trained
    cores = parallel.count_devices(parallel.count_cores(), batch_size=16)
    assert output.startswith(f"devices: {cores} x cpu" if jax.default_backend() == "cpu" else "dev")
    for name in ("config.json", "metrics.jsonl", "plots/losses.png", "samples/epoch_0004.png"):
        assert (workdir / name).is_file(), name
    assert Image.open(workdir / "samples/epoch_0004.png").width == 7 * (64 + 4) + 4
    assert "best validation PSNR" in output


def test_it_beats_the_best_constant_colour_by_a_decibel(trained, tmp_path):
    workdir, _ = trained
    command = [sys.executable, "-m", "colorjax", "evaluate", "--models", str(workdir)]
    result = run(*command, "--split", "validation", "--json", str(tmp_path / "figures.json"))
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())[str(workdir)]
    assert figures["images"] == PICTURES * 0.15
    assert figures["psnr"] > figures["constant_psnr"] + 1.0
    assert figures["colorfulness"] > 0.5 * figures["colorfulness_real"]
    assert np.isfinite(figures["gan_loss"])


def test_most_unseen_flowers_get_the_right_hue(trained):
    workdir, _ = trained
    colorizer = Colorizer.load(workdir)
    originals = [garden.draw(index, 64) for index in UNSEEN]
    errors = [
        hue_error(original, predicted)
        for original, predicted in zip(originals, colorizer.colorize_many(originals), strict=True)
    ]
    assert np.mean(np.array(errors) < 45.0) > 0.6


def hue_error(original: np.ndarray, predicted: np.ndarray) -> float:
    """Return the angle in degrees between the mean ab of the flower's most colourful pixels."""
    true, guess = rgb2lab(original)[16:48, 16:48], rgb2lab(predicted)[16:48, 16:48]
    chroma = np.hypot(true[..., 1], true[..., 2])
    flower = chroma >= np.quantile(chroma, 0.5)
    a, b = (np.mean(lab[flower][:, 1:] @ (1, 1j)) for lab in (true, guess))
    return float(np.degrees(abs(np.angle(a / b))))
