"""The state that a training step takes and gives: arrays only."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from colorjax.color import Codec
from colorjax.models import naming_impossible_network
from colorjax.models.convolution import portable_convolutions


@dataclass(frozen=True)
class Parts:
    """What a config chose: functions and small values, nothing that training changes.

    `critic` and `critic_optimizer` are None in a recipe without a critic.
    """

    codec: Codec
    generator: nn.Module
    generator_optimizer: optax.GradientTransformation
    critic: nn.Module | None = None
    critic_optimizer: optax.GradientTransformation | None = None
    ema_decay: float = 0.0
    steps_per_epoch: int = 1


class NetworkState(struct.PyTreeNode):
    """One network's parameters, batch statistics and optimiser state."""

    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `Module.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def apply_gradients(
        self, gradients: Any, optimizer: optax.GradientTransformation
    ) -> "NetworkState":
        """Return the state after one update of the optimiser."""
        updates, opt_state = optimizer.update(gradients, self.opt_state, self.params)
        return self.replace(params=optax.apply_updates(self.params, updates), opt_state=opt_state)


class TrainState(struct.PyTreeNode):
    """Everything on the device that carries on from step to step.

    `average` is the generator's moving average, {} where it is off; `step` counts batches.
    """

    step: jax.Array
    generator: NetworkState
    critic: NetworkState | None
    average: Any

    @property
    def inference_variables(self) -> dict[str, Any]:
        """The generator that is evaluated and shipped: its average, or itself without one."""
        return self.average or self.generator.variables


def create_state(parts: Parts, image_size: int, key: jax.Array) -> TrainState:
    """Return the state before the first step.

    Args:
      parts: the networks and optimisers.
      image_size: pixels of the square pictures.
      key: seeds the weights.
    """
    generator_key, critic_key = jax.random.split(key)
    shape = (1, image_size, image_size)
    network_input = jnp.zeros((*shape, parts.codec.input_channels))
    generator = _create_network(
        parts.generator, parts.generator_optimizer, network_input, generator_key
    )
    critic = None
    if parts.critic is not None and parts.critic_optimizer is not None:
        critic = _create_network(
            parts.critic, parts.critic_optimizer, jnp.zeros((*shape, 3)), critic_key
        )
    average = generator.variables if parts.ema_decay else {}
    return start_average(TrainState(jnp.zeros((), jnp.int32), generator, critic, average))


def start_average(state: TrainState) -> TrainState:
    """Return the state whose average, where there is one, is the generator as it is now."""
    if not state.average:
        return state
    # A copy: the step is given the state's memory, and no array may be given twice.
    return state.replace(average=jax.tree.map(jnp.copy, state.generator.variables))


def restart_optimizers(
    parts: Parts, state: TrainState, *, generator: bool, critic: bool
) -> TrainState:
    """Return the state with a new optimiser of the generator, the critic, or both."""
    if generator:
        opt_state = parts.generator_optimizer.init(state.generator.params)
        state = state.replace(generator=state.generator.replace(opt_state=opt_state))
    if critic and state.critic is not None and parts.critic_optimizer is not None:
        opt_state = parts.critic_optimizer.init(state.critic.params)
        state = state.replace(critic=state.critic.replace(opt_state=opt_state))
    return state


def restart_schedules(state: TrainState) -> TrainState:
    """Return the state as that of step 0: weights and moments kept, learning rates from the start.

    Without this a run that starts from one whose rate decayed to 0 would train nothing.
    """

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def restart(node: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, node) if is_schedule(node) else node

    state = jax.tree.map(restart, state, is_leaf=is_schedule)
    return state.replace(step=jnp.zeros_like(state.step))


def _create_network(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    example: jax.Array,
    key: jax.Array,
) -> NetworkState:
    # Of XLA's own convolutions each is one program to compile.
    with naming_impossible_network(), portable_convolutions():
        variables = network.init({"params": key, "dropout": key}, example, train=False)
    params = variables["params"]
    return NetworkState(params, variables.get("batch_stats", {}), optimizer.init(params))
