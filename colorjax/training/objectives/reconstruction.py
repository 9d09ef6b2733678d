"""The generator alone, against the true colours."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from colorjax import losses
from colorjax.errors import UserError
from colorjax.training.objectives.base import (
    CriticFunction,
    Example,
    Metrics,
    count_following,
    mean_reports,
    update_generator,
)
from colorjax.training.state import Parts, TrainState


@dataclass(frozen=True)
class Reconstruction:
    """The mean absolute or squared error of the prediction.

    Attributes:
      generator_steps: updates per batch.
      loss: absolute (L1) or squared.
      class_weight: of the cross-entropy of what the pictures show, their labels; see `ClassScores`.
    """

    generator_steps: int = 1
    loss: str = "absolute"
    class_weight: float = 0.0

    critic_steps = 0

    def __post_init__(self) -> None:
        if self.loss not in losses.RECONSTRUCTION_LOSSES:
            known = ", ".join(losses.RECONSTRUCTION_LOSSES)
            raise UserError(f"config.phases.*.loss is {self.loss!r}: choose one of {known}.")

    def update(
        self, parts: Parts, state: TrainState, example: Example, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Update the generator; the critic stays as it is."""
        loss = losses.RECONSTRUCTION_LOSSES[self.loss]

        def loss_terms(prediction: jax.Array) -> Metrics:
            return {"reconstruction": jnp.mean(loss(prediction, example.target))}

        weights = {"reconstruction": 1.0}
        if self.class_weight:
            weights["class_loss"] = self.class_weight

        reports: list[Metrics] = []
        keys = jax.random.split(key, self.generator_steps)
        for update_key, following in count_following(keys):
            state, metrics = update_generator(
                parts, state, example, update_key, loss_terms, weights, following
            )
            if not self.class_weight:
                del metrics["reconstruction"]  # it is the generator's loss
            reports.append(metrics)
        return state, mean_reports(reports)

    def critic_metrics(
        self, critic_fn: CriticFunction, real: jax.Array, fake: jax.Array, key: jax.Array
    ) -> Metrics:
        """Nothing: an untrained critic has nothing to say."""
        return {}
