"""Every recipe: a run that goes on from a checkpoint within an epoch ends as if never stopped."""

import dataclasses
import shutil
from pathlib import Path

import chex
import pytest
from ml_collections import ConfigDict
from small_networks import register_small_networks
from test_loop import read_lines

from colorjax import configuration
from colorjax.training import loop
from colorjax.training.interruption import Interruption
from conftest import ROOT

STEPS_PER_EPOCH = 4
KILLED = 6  # in the second epoch: of noise, of the second phase, after an epoch that was judged


def create_config(recipe: str, folder: Path) -> ConfigDict:
    """Return a recipe in which whatever it carries from step to step has to be carried.

    Its networks are small ones with batch statistics and dropout: of a network nothing else could
    be carried, and compiling the recipe's own takes half a minute.
    """
    config = configuration.load_recipe(f"{ROOT}/configs/{recipe}.py:tiny")
    config.generator = ConfigDict({"name": "small", "dropout": 0.5})
    if config.critic.name:
        norm = "none" if "wgan_gp" in str(config.phases) else "batch"
        config.critic = ConfigDict({"name": "small", "norm": norm, "dropout": 0.5})
    config.image_size, config.batch_size = 16, 4
    config.sample_images = 1
    config.log_every_steps = 1
    config.data.garden_images = 24
    config.data.cache_dir = str(folder / "cache")
    config.checkpoint.keep, config.checkpoint.every_steps = 100, KILLED
    config.on_nonfinite = "skip"
    phases = [config.phases[name] for name in config.phase_order]
    for phase in phases:
        phase.epochs = 2 if len(phases) == 1 else 1
        if phase.get("noise_every_epochs"):
            phase.noise_every_epochs = 2
    config.patience = 5 if len(phases) == 1 else 0
    return config


def finish(config: ConfigDict, workdir: Path) -> loop.Run:
    """Train to the end."""
    with loop.Run(config, workdir) as run, Interruption() as interruption:
        assert run.train(interruption) == 0
    return run


def kill_at(step: int, whole: Path, killed: Path) -> None:
    """Make a folder as a run that was killed leaves it: later lines, and a best that is later."""
    shutil.copytree(whole, killed)
    for folder in (killed / "steps").iterdir():
        if int(folder.name) > step:
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    "recipe", sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "common")
)
def test_a_recipe_resumed_within_an_epoch_ends_bit_for_bit_alike(recipe, tmp_path, monkeypatch):
    register_small_networks(monkeypatch.setitem)
    config = create_config(recipe, tmp_path)
    whole = finish(config, tmp_path / "whole")
    assert whole.steps_per_epoch == STEPS_PER_EPOCH
    kill_at(KILLED, tmp_path / "whole", tmp_path / "killed")
    resumed = loop.Run(config, tmp_path / "killed")
    assert resumed.host.step == KILLED
    with resumed, Interruption() as interruption:
        assert resumed.train(interruption) == 0
    chex.assert_trees_all_equal(resumed.state, whole.state)
    assert dataclasses.asdict(resumed.host) == dataclasses.asdict(whole.host)
    assert read_lines(tmp_path / "killed") == read_lines(tmp_path / "whole")
