"""Every recipe: a run that goes on from a checkpoint within an epoch ends as if never stopped."""

import dataclasses
import shutil
from pathlib import Path

import chex
import pytest
from ml_collections import ConfigDict
from test_loop import read_lines

from colorjax import configuration
from colorjax.training import loop
from colorjax.training.interruption import Interruption
from conftest import ROOT

STEPS_PER_EPOCH = 4
# Networks as narrow as they can be: what carries on from step to step is the same.
NARROW = {
    "wgan": {"generator.widths": (2, 4), "critic.widths": (2, 4)},
    "cgan": {"generator.widths": (2, 4, 4), "critic.widths": (2, 4, 4, 4)},
    "pix2pix": {"generator.widths": (2, 4, 4, 4), "critic.widths": (2, 4)},
    "resnet_unet": {"critic.widths": (2, 4)},
    "resnet50": {"generator.depth": 18},
}


def create_config(recipe: str, folder: Path) -> ConfigDict:
    """Return a recipe in which whatever it carries from step to step has to be carried."""
    config = configuration.load_recipe(f"{ROOT}/configs/{recipe}.py:tiny")
    config.batch_size = 4
    config.sample_images = 1
    config.log_every_steps = 1
    config.data.garden_images = 24
    config.data.cache_dir = str(folder / "cache")
    config.checkpoint.keep, config.checkpoint.every_steps = 100, 1
    config.on_nonfinite = "skip"
    with config.unlocked():
        config.update_from_flattened_dict(NARROW.get(recipe, {}))
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
def test_a_recipe_resumed_within_an_epoch_ends_bit_for_bit_alike(recipe, tmp_path):
    config = create_config(recipe, tmp_path)
    whole = finish(config, tmp_path / "whole")
    assert whole.steps_per_epoch == STEPS_PER_EPOCH
    # In the second epoch: of noise, of the second phase, after an epoch that was judged.
    kill_at(STEPS_PER_EPOCH + 2, tmp_path / "whole", tmp_path / "killed")
    resumed = loop.Run(config, tmp_path / "killed")
    assert resumed.host.step == STEPS_PER_EPOCH + 2
    with resumed, Interruption() as interruption:
        assert resumed.train(interruption) == 0
    chex.assert_trees_all_equal(resumed.state, whole.state)
    assert dataclasses.asdict(resumed.host) == dataclasses.asdict(whole.host)
    assert read_lines(tmp_path / "killed") == read_lines(tmp_path / "whole")
