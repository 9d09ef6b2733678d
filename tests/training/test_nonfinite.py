"""Losses and gradients that are not finite: the run stops, or skips the batch and counts it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from small_networks import register_small_networks
from test_loop import read_lines, read_state, train_until_stopped
from test_objectives import create_small_parts

from colorjax import data
from colorjax.errors import TrainingError, UserError
from colorjax.training import loop, objectives
from colorjax.training.state import create_state
from colorjax.training.step import make_train_step
from configs import common

PREPARE = data.make_training_prepare(common.data(), image_size=8)


@dataclass(frozen=True)
class Poisoned(objectives.Reconstruction):
    """Reconstruction whose input or target is multiplied by something harmful at some steps."""

    bad_steps: tuple[int, ...] = ()
    place: str = "target"
    factor: float = math.nan

    def update(self, parts, state, example, key):
        is_bad = jnp.any(state.step == jnp.asarray((*self.bad_steps, -1)))
        factor = jnp.where(is_bad, self.factor, 1.0)
        if self.place == "target":
            example = example._replace(target=factor * example.target)
        else:
            example = example._replace(network_input=factor * example.network_input)
        return super().update(parts, state, example, key)


@pytest.fixture
def poisoned(tiny_config, monkeypatch) -> ConfigDict:
    """Two epochs of four steps, of which the bad ones are still to be named."""
    monkeypatch.setitem(objectives.OBJECTIVES, "poisoned", Poisoned)
    register_small_networks(monkeypatch.setitem)
    tiny_config.phase_order = ("pretraining",)
    tiny_config.generator = ConfigDict({"name": "small"})
    tiny_config.critic.name = ""
    fields = {"objective": "poisoned", "epochs": 2, "loss": "squared", "bad_steps": ()}
    tiny_config.phases.pretraining = ConfigDict(fields)
    tiny_config.on_nonfinite = "skip"
    return tiny_config


def numbers(path: Path) -> list[dict]:
    """Return the lines of metrics.jsonl, read by a parser that knows no NaN, as JSON has none."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("place", "factor", "shows_in_the_loss"),
    [
        ("target", math.nan, True),
        ("target", math.inf, True),
        ("input", 1e19, False),  # overflows batch norm's variance and nothing else
    ],
)
def test_a_skipped_step_leaves_the_state_as_it_was(place, factor, shows_in_the_loss):
    parts = create_small_parts()
    state = create_state(parts, 8, jax.random.key(0)).replace(step=jnp.asarray(3))
    objective = Poisoned(loss="squared", bad_steps=(3,), place=place, factor=factor)
    step = jax.jit(make_train_step(parts, objective, 0, PREPARE, skip_nonfinite=True))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    skipped, metrics = step(state, images)
    assert float(metrics["nonfinite"]) == 1.0
    assert math.isfinite(metrics["generator_loss"]) != shows_in_the_loss
    chex.assert_trees_all_equal(skipped, state.replace(step=jnp.asarray(4)))
    updated, metrics = step(skipped, images)
    assert float(metrics["nonfinite"]) == 0.0
    chex.assert_tree_all_finite(updated)
    assert step._cache_size() == 1
    # Without skipping the same batch does reach the state.
    keeping = jax.jit(make_train_step(parts, objective, 0, PREPARE))
    spoilt, metrics = keeping(state, images)
    assert float(metrics["nonfinite"]) == 1.0
    with pytest.raises(AssertionError):
        chex.assert_tree_all_finite(spoilt)


def test_skipped_batches_are_counted_and_leave_no_trace_in_the_means(poisoned, tmp_path):
    poisoned.phases.pretraining.bad_steps = (1, 5, 6)
    assert loop.train(poisoned, tmp_path / "run") == 0
    lines = numbers(tmp_path / "run/metrics.jsonl")
    steps = {line["step"]: line for line in lines if "validation/psnr" not in line}
    counts = [steps[step]["train/skipped_updates"] for step in range(1, 9)]
    assert counts == [0, 1, 1, 1, 1, 2, 3, 3]
    assert "train/l1" not in steps[2]
    first = next(line for line in lines if "validation/psnr" in line)
    l1 = [steps[step]["train/l1"] for step in (1, 3, 4)]
    np.testing.assert_allclose(first["train/l1"], np.mean(l1), rtol=1e-12)
    chex.assert_tree_all_finite(read_state(tmp_path / "run", 8))


def test_an_epoch_of_which_every_batch_is_skipped_passes(poisoned, tmp_path):
    poisoned.phases.pretraining.bad_steps = (4, 5, 6, 7)
    assert loop.train(poisoned, tmp_path / "run") == 0
    last = numbers(tmp_path / "run/metrics.jsonl")[-1]
    assert last["train/skipped_updates"] == 4
    assert "validation/psnr" in last
    before, after = (read_state(tmp_path / "run", step) for step in (4, 8))
    chex.assert_trees_all_equal(after.generator, before.generator)


def test_training_stops_after_so_many_in_a_row_also_across_a_resume(poisoned, tmp_path):
    poisoned.phases.pretraining.bad_steps = (0, 2, 3, 4)
    poisoned.nonfinite_limit = 3
    assert train_until_stopped(poisoned, tmp_path / "run", 2) == 143  # after step 3
    with pytest.raises(TrainingError, match="at step 5, the last of 3 batches in a row"):
        loop.train(poisoned, tmp_path / "run")
    chex.assert_tree_all_finite(read_state(tmp_path / "run", 4))
    poisoned.nonfinite_limit = 4  # may change on resuming
    assert loop.train(poisoned, tmp_path / "run") == 0
    assert read_lines(tmp_path / "run")[-1]["train/skipped_updates"] == 4


def test_by_default_the_run_stops_and_saves_nothing_of_it(poisoned, tmp_path):
    poisoned.on_nonfinite = common.get_config().on_nonfinite
    poisoned.phases.pretraining.bad_steps = (6,)
    poisoned.checkpoint.every_steps = 1
    with pytest.raises(TrainingError, match="train/generator_loss is nan at step 7"):
        loop.train(poisoned, tmp_path / "run")
    steps = sorted(int(path.name) for path in (tmp_path / "run/steps").iterdir())
    assert steps[-1] == 6
    chex.assert_tree_all_finite(read_state(tmp_path / "run", 6))


def test_a_wrong_choice_is_named(tiny_config, tmp_path):
    tiny_config.on_nonfinite = "ignore"
    with pytest.raises(UserError, match=r"config\.on_nonfinite='ignore': choose stop or skip"):
        loop.train(tiny_config, tmp_path / "run")
