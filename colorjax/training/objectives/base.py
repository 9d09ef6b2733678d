"""What every objective offers, and the generator's part, which all of them share."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from colorjax import losses, parallel
from colorjax.models import CLASS_SCORES, convolution
from colorjax.training.state import NetworkState, Parts, TrainState

Metrics = dict[str, jax.Array]
CriticFunction = Callable[[jax.Array], jax.Array]  # images (B, H, W, 3) to scores (B, ...)


class Example(NamedTuple):
    """What a step is shown, encoded.

    Attributes:
      network_input: (B, H, W, channels).
      target: (B, H, W, channels), what should come out.
      labels: int32 (B,), of what the pictures show, where a phase learns from them.
    """

    network_input: jax.Array
    target: jax.Array
    labels: jax.Array | None = None


class Objective(Protocol):
    """What the step, the evaluation and the optimisers' schedules need of an objective."""

    @property
    def generator_steps(self) -> int:
        """The generator's updates per batch, at least 1."""

    @property
    def critic_steps(self) -> int:
        """The critic's updates per batch."""

    def update(
        self, parts: Parts, state: TrainState, example: Example, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Return the state after one batch, and mean metrics."""

    def critic_metrics(
        self, critic_fn: CriticFunction, real: jax.Array, fake: jax.Array, key: jax.Array
    ) -> Metrics:
        """Return what a critic says of real and generated pictures, one value a picture."""


def update_generator(
    parts: Parts,
    state: TrainState,
    example: Example,
    key: jax.Array,
    loss_terms: Callable[[jax.Array], Metrics],
    weights: Mapping[str, float],
    following: int,
) -> tuple[TrainState, Metrics]:
    """Return the state after one update of the generator, and its metrics.

    Args:
      parts: networks and optimisers.
      state: what is trained.
      example: network input, target and perhaps labels, whose loss and accuracy are then reported.
      key: of dropout.
      loss_terms: the named, scalar terms of the loss of a prediction.
      weights: of the terms that the loss sums; terms without a weight are reported only.
      following: updates of the generator that follow in the same step.
    """
    generator = state.generator

    @spare_memory
    def generate_with(params: Any) -> tuple[jax.Array, Any, jax.Array | None]:
        return generate(parts, generator.replace(params=params), example.network_input, key)

    def generator_loss(params: Any) -> tuple[jax.Array, tuple[Any, Metrics]]:
        prediction, batch_stats, scores = generate_with(params)
        terms = {"l1": jnp.mean(losses.absolute_error(prediction, example.target))}
        if example.labels is not None:
            terms["class_loss"] = jnp.mean(losses.class_loss(scores, example.labels))
            terms["class_accuracy"] = jnp.mean(jnp.argmax(scores, axis=-1) == example.labels)
        terms |= loss_terms(prediction)
        total = jnp.asarray(sum(weight * terms[name] for name, weight in weights.items()))
        return total, (batch_stats, terms | {"generator_loss": total})

    gradients, (batch_stats, metrics) = jax.grad(generator_loss, has_aux=True)(generator.params)
    generator = apply_gradients(
        generator, gradients, parts.generator_optimizer, state.step, following
    )
    return state.replace(generator=generator.replace(batch_stats=batch_stats)), metrics


def count_following(keys: jax.Array) -> Iterator[tuple[jax.Array, int]]:
    """Yield the key of each update, and how many of the same network follow in the step."""
    return zip(keys, reversed(range(len(keys))), strict=True)


def apply_gradients(
    network: NetworkState,
    gradients: Any,
    optimizer: optax.GradientTransformation,
    step: jax.Array,
    following: int,
) -> NetworkState:
    """Return a network after one update.

    Of two updates in one step XLA would compute the first one's moments along with the second's,
    and keep the gradient and the old moments until then. A choice whose outcome it can't foresee
    makes it compute them at once, in the old ones' place (docs/performance.md). On CPUs alone: an
    accelerator would have to ask the host. The environment variable COLORJAX_SETTLE_UPDATES=0
    switches it off.

    Args:
      network: its state.
      gradients: of the loss in its parameters.
      optimizer: its own.
      step: the state's, at least 0.
      following: updates of this network that follow in the same step.
    """

    def update(network: NetworkState, gradients: Any) -> NetworkState:
        return network.apply_gradients(gradients, optimizer)

    if not (following and parallel.is_cpu_way("COLORJAX_SETTLE_UPDATES")):
        return update(network, gradients)
    return jax.lax.cond(step >= 0, update, lambda network, _: network, network, gradients)


def spare_memory(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function's gradient keep the results of convolutions and matrix products alone.

    What norms and activations make of them is computed again, which on a CPU takes no longer than
    keeping it and needs a fifth less memory (docs/performance.md). Only there; the environment
    variable COLORJAX_RECOMPUTE=0 switches it off.
    """
    if not parallel.is_cpu_way("COLORJAX_RECOMPUTE"):
        return function
    return jax.checkpoint(function, policy=_is_dear, prevent_cse=False)


def _is_dear(primitive: Any, *_: Any, **parameters: Any) -> bool:
    if primitive.name == "name":  # convolutions with derivatives of their own have no other
        return parameters["name"] == convolution.NAME
    return primitive.name in ("conv_general_dilated", "dot_general")


def generate(
    parts: Parts, generator: NetworkState, network_input: jax.Array, key: jax.Array
) -> tuple[jax.Array, Any, jax.Array | None]:
    """Return the prediction with the batch's statistics, and the running ones it leads to.

    The third is the scores of what the pictures show, (B, classes) float32; None of a generator
    without `classes`.
    """
    prediction, updated = parts.generator.apply(
        generator.variables,
        network_input,
        train=True,
        mutable=["batch_stats", "intermediates"],
        rngs={"dropout": key},
    )
    (scores,) = updated.get("intermediates", {}).get(CLASS_SCORES, (None,))
    return prediction, updated.get("batch_stats", {}), scores


def mean_reports(reports: list[Metrics]) -> Metrics:
    """Return the mean of each metric over the updates that one batch made."""
    return jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *reports) if reports else {}
