"""Objectives: how one batch changes the networks, and what is reported of it.

An objective is a frozen dataclass whose fields are the options of its phase in the config. Its
`update` is a pure function; `critic_metrics` scores predictions with the critic, per picture.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax import losses
from colorjax.color import Codec
from colorjax.errors import UserError
from colorjax.models import predict
from colorjax.training.state import NetworkState, Parts, TrainState

Metrics = dict[str, jax.Array]


class Objective(Protocol):
    """What the step, the evaluation and the optimisers' schedules need of an objective."""

    generator_steps: int
    critic_steps: int

    def update(
        self, parts: Parts, state: TrainState, example: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Return the state after one batch (network input, target), and mean metrics."""

    def critic_metrics(
        self,
        codec: Codec,
        critic: nn.Module,
        variables: Any,
        example: tuple[jax.Array, jax.Array],
        prediction: jax.Array,
        key: jax.Array,
    ) -> Metrics:
        """Return what the critic says of predictions, one value a picture; {} without a critic."""


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The generator alone, on the mean absolute error."""

    generator_steps: int = 1
    critic_steps: int = 0

    def update(
        self, parts: Parts, state: TrainState, example: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Update the generator; the critic stays as it is."""
        reports: list[Metrics] = []
        for update_key in jax.random.split(key, self.generator_steps):
            generator, metrics = _update_generator(
                parts, state.generator, example, update_key, lambda prediction: {}
            )
            state = state.replace(generator=generator)
            reports.append(metrics)
        return state, _mean(reports)

    def critic_metrics(
        self,
        codec: Codec,
        critic: nn.Module,
        variables: Any,
        example: tuple[jax.Array, jax.Array],
        prediction: jax.Array,
        key: jax.Array,
    ) -> Metrics:
        """Nothing: an untrained critic has nothing to say."""
        return {}


@dataclasses.dataclass(frozen=True)
class WGANGP:
    """WGAN with gradient penalty (Gulrajani et al., arXiv 1704.00028) plus L1.

    The score of a picture is the mean of its map. Each update of the critic sees a freshly
    generated picture, made with the batch's own statistics as in the generator's updates; the
    running statistics move with the generator's updates alone.
    """

    generator_steps: int = 2
    critic_steps: int = 1
    reconstruction_weight: float = 1.0
    adversarial_weight: float = 1.0
    gradient_penalty_weight: float = 10.0

    def update(
        self, parts: Parts, state: TrainState, example: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Update the generator `generator_steps` times, then the critic `critic_steps` times."""
        keys = jax.random.split(key, self.generator_steps + self.critic_steps)
        generator_reports: list[Metrics] = []
        critic_reports: list[Metrics] = []
        for update_key in keys[: self.generator_steps]:
            state, metrics = self._update_generator(parts, state, example, update_key)
            generator_reports.append(metrics)
        for update_key in keys[self.generator_steps :]:
            state, metrics = self._update_critic(parts, state, example, update_key)
            critic_reports.append(metrics)
        return state, _mean(generator_reports) | _mean(critic_reports)

    def critic_metrics(
        self,
        codec: Codec,
        critic: nn.Module,
        variables: Any,
        example: tuple[jax.Array, jax.Array],
        prediction: jax.Array,
        key: jax.Array,
    ) -> Metrics:
        """Return gan_loss, critic_loss, wasserstein (the estimate) and gradient_penalty."""
        network_input, target = example

        def critic_fn(image: jax.Array) -> jax.Array:
            return _scores(predict(critic, variables, image))

        real = codec.critic_image(network_input, target)
        fake = codec.critic_image(network_input, prediction)
        real_scores, fake_scores = critic_fn(real), critic_fn(fake)
        penalty = losses.gradient_penalties(critic_fn, real, fake, key)
        critic_loss = losses.wasserstein_critic_loss(real_scores, fake_scores)
        return {
            "gan_loss": losses.wasserstein_generator_loss(fake_scores),
            "critic_loss": critic_loss + self.gradient_penalty_weight * penalty,
            "wasserstein": -critic_loss,
            "gradient_penalty": penalty,
        }

    def _update_generator(
        self, parts: Parts, state: TrainState, example: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        critic, critic_state = _critic_of(parts, state)

        def gan_loss(prediction: jax.Array) -> Metrics:
            image = parts.codec.critic_image(example[0], prediction)
            scores = predict(critic, critic_state.variables, image)
            return {"gan_loss": jnp.mean(losses.wasserstein_generator_loss(scores))}

        generator, metrics = _update_generator(
            parts,
            state.generator,
            example,
            key,
            gan_loss,
            {"l1": self.reconstruction_weight, "gan_loss": self.adversarial_weight},
        )
        return state.replace(generator=generator), metrics

    def _update_critic(
        self, parts: Parts, state: TrainState, example: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        critic, critic_state = _critic_of(parts, state)
        if critic_state.batch_stats:
            raise UserError(
                "The gradient penalty is taken picture by picture, which batch norm in the critic "
                "mixes up: set config.critic.norm to instance or none."
            )
        generate_key, penalty_key = jax.random.split(key)
        prediction, _ = _generate(parts, state.generator, example[0], generate_key)

        def critic_loss(params: Any) -> tuple[jax.Array, Metrics]:
            metrics = self.critic_metrics(
                parts.codec, critic, {"params": params}, example, prediction, penalty_key
            )
            metrics = {name: jnp.mean(value) for name, value in metrics.items()}
            del metrics["gan_loss"]  # the generator's own updates report it
            return metrics["critic_loss"], metrics

        gradients, metrics = jax.grad(critic_loss, has_aux=True)(critic_state.params)
        assert parts.critic_optimizer is not None
        updated = critic_state.apply_gradients(gradients, parts.critic_optimizer)
        return state.replace(critic=updated), metrics


OBJECTIVES: dict[str, type] = {"reconstruction": Reconstruction, "wgan_gp": WGANGP}


def create_objective(fields: Mapping[str, Any]) -> Objective:
    """Return the objective that one of `config.phases` describes.

    Args:
      fields: `objective` (its name), `epochs` and the objective's own options.

    Raises:
      UserError: for an unknown objective or option.
    """
    name = fields["objective"]
    if name not in OBJECTIVES:
        raise UserError(f"Unknown objective {name!r}: choose one of {', '.join(OBJECTIVES)}.")
    options = {field: fields[field] for field in fields if field not in ("objective", "epochs")}
    unknown = options.keys() - {field.name for field in dataclasses.fields(OBJECTIVES[name])}
    if unknown:
        raise UserError(f"The objective {name} has no option {sorted(unknown)[0]!r}: remove it.")
    objective = OBJECTIVES[name](**options)
    if objective.generator_steps < 1 or objective.critic_steps < 0:
        raise UserError(f"The objective {name} needs generator_steps >= 1 and critic_steps >= 0.")
    return objective


def _mean(reports: list[Metrics]) -> Metrics:
    """Return the mean of each metric over the updates that one batch made."""
    return jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *reports) if reports else {}


def _update_generator(
    parts: Parts,
    generator: NetworkState,
    example: tuple[jax.Array, jax.Array],
    key: jax.Array,
    more_losses: Any,
    weights: Mapping[str, float] | None = None,
) -> tuple[NetworkState, Metrics]:
    """Update the generator on the weighted sum of L1 and what `more_losses(prediction)` gives."""
    network_input, target = example

    def generator_loss(params: Any) -> tuple[jax.Array, tuple[Any, Metrics]]:
        prediction, batch_stats = _generate(
            parts, generator.replace(params=params), network_input, key
        )
        terms = {"l1": jnp.mean(losses.absolute_error(prediction, target))}
        terms |= more_losses(prediction)
        total = sum((weights or {}).get(name, 1.0) * value for name, value in terms.items())
        return jnp.asarray(total), (batch_stats, terms | {"generator_loss": jnp.asarray(total)})

    gradients, (batch_stats, metrics) = jax.grad(generator_loss, has_aux=True)(generator.params)
    generator = generator.apply_gradients(gradients, parts.generator_optimizer)
    return generator.replace(batch_stats=batch_stats), metrics


def _generate(
    parts: Parts, generator: NetworkState, network_input: jax.Array, key: jax.Array
) -> tuple[jax.Array, Any]:
    """Return the prediction with the batch's statistics, and the running ones it leads to."""
    prediction, updated = parts.generator.apply(
        generator.variables,
        network_input,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
    )
    return prediction, updated.get("batch_stats", {})


def _critic_of(parts: Parts, state: TrainState) -> tuple[nn.Module, NetworkState]:
    if parts.critic is None or state.critic is None:
        raise UserError("An adversarial phase needs a critic: set config.critic.name.")
    return parts.critic, state.critic


def _scores(score_map: jax.Array) -> jax.Array:
    """Return one score a picture, the mean of its map."""
    return jnp.mean(score_map, axis=tuple(range(1, score_map.ndim)))
