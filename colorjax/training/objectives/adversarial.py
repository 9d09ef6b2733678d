"""Generator against critic: what the adversarial objectives share, and two of them."""

import abc
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax import losses
from colorjax.errors import UserError
from colorjax.training.objectives.base import (
    CriticFunction,
    Example,
    Metrics,
    apply_gradients,
    count_following,
    generate,
    mean_reports,
    update_generator,
)
from colorjax.training.state import NetworkState, Parts, TrainState


@dataclass(frozen=True)
class Adversarial(abc.ABC):
    """A critic judges pictures; the generator learns from L1 and from the critic.

    The critic's running statistics move with its own updates alone, the generator's with its.
    """

    generator_steps: int = 1
    critic_steps: int = 1
    reconstruction_weight: float = 1.0
    adversarial_weight: float = 1.0
    critic_gate: float = 1.0  # the critic skips a batch that it judges more accurately than this
    noise_every_epochs: int = 0  # of every n epochs the last has noise for fakes; 0: none has

    @abc.abstractmethod
    def update(
        self, parts: Parts, state: TrainState, example: Example, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Update the generator `generator_steps` times and the critic `critic_steps` times."""

    @abc.abstractmethod
    def critic_metrics(
        self, critic_fn: CriticFunction, real: jax.Array, fake: jax.Array, key: jax.Array
    ) -> Metrics:
        """Return gan_loss, critic_loss and critic_accuracy among others, one value a picture."""

    @abc.abstractmethod
    def train_critic_metrics(
        self,
        critic: nn.Module,
        variables: dict[str, Any],
        real: jax.Array,
        fake: jax.Array,
        key: jax.Array,
    ) -> tuple[Metrics, Any]:
        """Return the metrics as in training, and the critic's new batch statistics."""

    @abc.abstractmethod
    def generator_loss(self, fake_scores: jax.Array) -> jax.Array:
        """Return the generator's adversarial loss of each picture, (B,)."""

    def _update_generators(
        self, parts: Parts, state: TrainState, example: Example, keys: jax.Array
    ) -> tuple[TrainState, list[Metrics]]:
        """Update the generator once for each key."""
        critic, critic_state = _critic_of(parts, state)
        weights = {"l1": self.reconstruction_weight, "gan_loss": self.adversarial_weight}
        reports: list[Metrics] = []
        for key, following in count_following(keys):
            generate_key, critic_key = jax.random.split(key)

            def loss_terms(prediction: jax.Array, critic_key: jax.Array = critic_key) -> Metrics:
                image = parts.codec.critic_image(example.network_input, prediction)
                scores, _ = apply_critic(critic, critic_state.variables, image, critic_key)
                return {"gan_loss": jnp.mean(self.generator_loss(scores))}

            state, metrics = update_generator(
                parts, state, example, generate_key, loss_terms, weights, following
            )
            reports.append(metrics)
        return state, reports

    def _update_critics(
        self, parts: Parts, state: TrainState, example: Example, keys: jax.Array
    ) -> tuple[TrainState, list[Metrics]]:
        """Update the critic once for each key, on a freshly generated picture each time."""
        reports: list[Metrics] = []
        for key, following in count_following(keys):
            critic_state, metrics = self._update_critic(parts, state, example, key, following)
            state = state.replace(critic=critic_state)
            reports.append(metrics)
        return state, reports

    def _update_critic(
        self, parts: Parts, state: TrainState, example: Example, key: jax.Array, following: int
    ) -> tuple[NetworkState, Metrics]:
        critic, critic_state = _critic_of(parts, state)
        generate_key, critic_key = jax.random.split(key)
        critic_key, noise_key = jax.random.split(critic_key)
        prediction, *_ = generate(parts, state.generator, example.network_input, generate_key)
        prediction = self._replace_by_noise(parts, state, prediction, example.target, noise_key)
        real = parts.codec.critic_image(example.network_input, example.target)
        fake = parts.codec.critic_image(example.network_input, prediction)

        def critic_loss(params: Any) -> tuple[jax.Array, tuple[Metrics, Any]]:
            variables = critic_state.replace(params=params).variables
            values, batch_stats = self.train_critic_metrics(
                critic, variables, real, fake, critic_key
            )
            metrics = {name: jnp.mean(value) for name, value in values.items()}
            del metrics["gan_loss"]  # the generator's own updates report it
            return metrics["critic_loss"], (metrics, batch_stats)

        gradients, (metrics, batch_stats) = jax.grad(critic_loss, has_aux=True)(critic_state.params)
        assert parts.critic_optimizer is not None
        updated = apply_gradients(
            critic_state, gradients, parts.critic_optimizer, state.step, following
        )
        return self._pass_gate(critic_state, updated.replace(batch_stats=batch_stats), metrics)

    def _pass_gate(
        self, before: NetworkState, updated: NetworkState, metrics: Metrics
    ) -> tuple[NetworkState, Metrics]:
        """Return the critic as it was, optimiser included, if it was more accurate than the gate.

        The choice is made on the device, so that it costs neither a wait nor a compilation.
        """
        if self.critic_gate >= 1.0:
            return updated, metrics
        trains = metrics["critic_accuracy"] <= self.critic_gate
        chosen = jax.tree.map(partial(jnp.where, trains), updated, before)
        return chosen, metrics | {"critic_trained": trains.astype(jnp.float32)}

    def _replace_by_noise(
        self,
        parts: Parts,
        state: TrainState,
        prediction: jax.Array,
        target: jax.Array,
        key: jax.Array,
    ) -> jax.Array:
        """Return the prediction, in an epoch of noise uniform noise of the target's range."""
        if not self.noise_every_epochs:
            return prediction
        epoch = state.step // parts.steps_per_epoch + 1
        noise = jax.random.uniform(
            key, target.shape, minval=jnp.min(target), maxval=jnp.max(target)
        )
        return jnp.where(epoch % self.noise_every_epochs == 0, noise, prediction)


@dataclass(frozen=True)
class GAN(Adversarial):
    """A critic that tells real from fake, each score by itself (pix2pix, arXiv 1611.07004).

    Of each batch first the critic learns, its loss halved, then the generator.
    """

    reconstruction_weight: float = 100.0
    loss: str = "bce"  # bce, flipped_bce (real is 0), least_squares or hinge

    def __post_init__(self) -> None:
        if self.loss not in losses.ADVERSARIAL_LOSSES:
            known = ", ".join(losses.ADVERSARIAL_LOSSES)
            raise UserError(f"config.phases.*.loss is {self.loss!r}: choose one of {known}.")

    def update(
        self, parts: Parts, state: TrainState, example: Example, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Update the critic `critic_steps` times, then the generator `generator_steps` times."""
        # With the same key the first update of both begins with the same picture, as in pix2pix:
        # XLA then generates it once.
        keys = jax.random.split(key, max(self.critic_steps, self.generator_steps))
        state, critic_reports = self._update_critics(
            parts, state, example, keys[: self.critic_steps]
        )
        state, generator_reports = self._update_generators(
            parts, state, example, keys[: self.generator_steps]
        )
        return state, mean_reports(generator_reports) | mean_reports(critic_reports)

    def critic_metrics(
        self, critic_fn: CriticFunction, real: jax.Array, fake: jax.Array, key: jax.Array
    ) -> Metrics:
        """Return gan_loss, critic_loss and critic_accuracy, one value a picture."""
        return self._metrics(critic_fn(real), critic_fn(fake))

    def train_critic_metrics(
        self,
        critic: nn.Module,
        variables: dict[str, Any],
        real: jax.Array,
        fake: jax.Array,
        key: jax.Array,
    ) -> tuple[Metrics, Any]:
        """Return the metrics with the statistics of the fakes' and of the reals' own batch."""
        fake_key, real_key = jax.random.split(key)
        fake_scores, batch_stats = apply_critic(critic, variables, fake, fake_key)
        variables = variables | {"batch_stats": batch_stats}
        real_scores, batch_stats = apply_critic(critic, variables, real, real_key)
        return self._metrics(real_scores, fake_scores), batch_stats

    def generator_loss(self, fake_scores: jax.Array) -> jax.Array:
        """Return the generator's adversarial loss of each picture, (B,)."""
        loss = losses.ADVERSARIAL_LOSSES[self.loss]
        return losses.mean_per_image(loss.generator(fake_scores))

    def _metrics(self, real_scores: jax.Array, fake_scores: jax.Array) -> Metrics:
        loss, mean = losses.ADVERSARIAL_LOSSES[self.loss], losses.mean_per_image
        right_of_real = mean(loss.looks_real(real_scores))
        right_of_fake = 1.0 - mean(loss.looks_real(fake_scores))
        return {
            "gan_loss": self.generator_loss(fake_scores),
            "critic_loss": 0.5 * (mean(loss.real(real_scores)) + mean(loss.fake(fake_scores))),
            "critic_accuracy": 0.5 * (right_of_real + right_of_fake),
        }


@dataclass(frozen=True)
class WGANGP(Adversarial):
    """WGAN with gradient penalty (Gulrajani et al., arXiv 1704.00028) plus L1.

    The score of a picture is the mean of its map. Of each batch first the generator learns, then
    the critic, on freshly generated pictures. Its accuracy is the share of pictures whose real
    score is above their generated one.
    """

    generator_steps: int = 2
    gradient_penalty_weight: float = 10.0

    def update(
        self, parts: Parts, state: TrainState, example: Example, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Update the generator `generator_steps` times, then the critic `critic_steps` times."""
        keys = jax.random.split(key, self.generator_steps + self.critic_steps)
        state, generator_reports = self._update_generators(
            parts, state, example, keys[: self.generator_steps]
        )
        state, critic_reports = self._update_critics(
            parts, state, example, keys[self.generator_steps :]
        )
        return state, mean_reports(generator_reports) | mean_reports(critic_reports)

    def critic_metrics(
        self, critic_fn: CriticFunction, real: jax.Array, fake: jax.Array, key: jax.Array
    ) -> Metrics:
        """Return gan_loss, critic_loss, critic_accuracy, wasserstein and gradient_penalty."""

        def score(image: jax.Array) -> jax.Array:
            return losses.mean_per_image(critic_fn(image))

        real_scores, fake_scores = score(real), score(fake)
        penalty = losses.gradient_penalties(score, real, fake, key)
        critic_loss = losses.wasserstein_critic_loss(real_scores, fake_scores)
        return {
            "gan_loss": self.generator_loss(fake_scores),
            "critic_loss": critic_loss + self.gradient_penalty_weight * penalty,
            "critic_accuracy": (real_scores > fake_scores).astype(jnp.float32),
            "wasserstein": -critic_loss,
            "gradient_penalty": penalty,
        }

    def train_critic_metrics(
        self,
        critic: nn.Module,
        variables: dict[str, Any],
        real: jax.Array,
        fake: jax.Array,
        key: jax.Array,
    ) -> tuple[Metrics, Any]:
        """Return the metrics; the critic has no batch statistics.

        Raises:
          UserError: if it has.
        """
        if variables["batch_stats"]:
            raise UserError(
                "The gradient penalty is taken picture by picture, which batch norm in the critic "
                "mixes up: set config.critic.norm to instance or none."
            )
        critic_key, penalty_key = jax.random.split(key)

        def critic_fn(image: jax.Array) -> jax.Array:
            return apply_critic(critic, variables, image, critic_key)[0]

        return self.critic_metrics(critic_fn, real, fake, penalty_key), {}

    def generator_loss(self, fake_scores: jax.Array) -> jax.Array:
        """Return the negated score of each picture, (B,)."""
        return losses.wasserstein_generator_loss(fake_scores)


def apply_critic(
    critic: nn.Module, variables: dict[str, Any], image: jax.Array, key: jax.Array
) -> tuple[jax.Array, Any]:
    """Return scores with the batch's statistics, and the running ones they lead to."""
    scores, updated = critic.apply(
        variables, image, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    return scores, updated.get("batch_stats", {})


def _critic_of(parts: Parts, state: TrainState) -> tuple[nn.Module, NetworkState]:
    if parts.critic is None or state.critic is None:
        raise UserError("An adversarial phase needs a critic: set config.critic.name.")
    return parts.critic, state.critic
