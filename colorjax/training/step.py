"""The training step: a pure function (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from colorjax.data import TrainingPrepare
from colorjax.training.objectives import Example, Metrics, Objective
from colorjax.training.state import Parts, TrainState

Batch = jax.Array | tuple[jax.Array, jax.Array]  # uint8 pictures; or these and labels
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    parts: Parts,
    objective: Objective,
    seed: int,
    prepare: TrainingPrepare,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """Return the step of one phase.

    Args:
      parts: networks, optimisers and codec.
      objective: the phase's.
      seed: of all randomness; what a step draws is a function of it and of `state.step`.
      prepare: makes a batch of loaded pictures and a key the rgb to train on; see
        `data.make_training_prepare`.
      skip_nonfinite: whether a batch that leads to anything that is not finite changes nothing of
        the state but `step`. The device then holds the state twice, the old one and the new.

    Returns:
      A function of the state and (B, H, W, 3) uint8 pictures, or a pair of these and their (B,)
      int32 labels, that gives the next state and scalar metrics, of which `nonfinite` is 1 where
      another metric or the new state is not finite.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        images, labels = batch if isinstance(batch, tuple) else (batch, None)
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        prepare_key, update_key = jax.random.split(key)
        example = Example(*parts.codec.encode(prepare(images, prepare_key)), labels)
        updated, metrics = objective.update(parts, state, example, update_key)
        updated = update_average(updated, parts.ema_decay)
        networks = [updated.generator.params, updated.critic.params if updated.critic else {}]
        metrics["parameter_norm"] = optax.global_norm(networks)
        # A step's loss tells nothing of the weights it leads to. A gradient that isn't finite, or
        # whose square isn't, shows in the optimiser's moments even where the weights hide it.
        finite = all_finite((updated, metrics))
        if skip_nonfinite:
            updated = jax.tree.map(partial(jnp.where, finite), updated, state)
        metrics["nonfinite"] = 1.0 - finite
        return updated.replace(step=state.step + 1), metrics

    return train_step


def all_finite(tree: Any) -> jax.Array:
    """Return, as a scalar on the device, whether every number in a tree of arrays is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def update_average(state: TrainState, decay: float) -> TrainState:
    """Move the generator's average towards its parameters and batch statistics.

    Early on the decay is (1 + step) / (10 + step), so that a short run's average is not that of
    its first, random weights.
    """
    if not state.average:
        return state
    step = state.step.astype(jnp.float32)
    step_size = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))

    def move(new: jax.Array, old: jax.Array) -> jax.Array:
        # In this form, unlike optax.incremental_update's, what is frozen stays the same to the bit.
        return old + step_size * (new - old)

    return state.replace(average=jax.tree.map(move, state.generator.variables, state.average))
