"""From a config's names and numbers to phases, networks and optimisers."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from colorjax.errors import UserError
from colorjax.models import create_networks
from colorjax.training.objectives import Objective, create_objective
from colorjax.training.optimizers import make_optimizer
from colorjax.training.state import Parts


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs under one objective; epochs are counted from 0 over the whole run."""

    name: str
    objective: Objective
    first_epoch: int
    epochs: int


def create_phases(config: ConfigDict) -> tuple[Phase, ...]:
    """Return the phases of a run in their order, those without epochs left out.

    Raises:
      UserError: if a phase isn't defined, or there is nothing to train.
    """
    phases: list[Phase] = []
    first_epoch = 0
    for name in config.phase_order:
        if name not in config.phases:
            raise UserError(f"config.phase_order names {name!r}, which config.phases doesn't have.")
        fields = config.phases[name]
        if fields.epochs < 0:
            raise UserError(f"config.phases.{name}.epochs={fields.epochs}: give 0 or more.")
        objective = create_objective(fields)
        if fields.epochs:
            phases.append(Phase(name, objective, first_epoch, fields.epochs))
            first_epoch += fields.epochs
    if not phases:
        raise UserError("No phase of this config has an epoch: set config.phases.*.epochs.")
    return tuple(phases)


def phase_at(phases: tuple[Phase, ...], epoch: int) -> Phase:
    """Return the phase that an epoch belongs to."""
    return next(phase for phase in reversed(phases) if phase.first_epoch <= epoch)


def create_parts(config: ConfigDict, phases: tuple[Phase, ...], steps_per_epoch: int) -> Parts:
    """Return networks, codec and optimisers.

    Args:
      config: a whole recipe.
      phases: from `create_phases`; they say how many updates the schedules span.
      steps_per_epoch: batches in an epoch.

    Raises:
      UserError: for an unknown name, or pictures that the networks can't take.
    """
    networks = create_networks(config)
    batches = [phase.epochs * steps_per_epoch for phase in phases]
    generator_updates = sum(
        count * phase.objective.generator_steps
        for count, phase in zip(batches, phases, strict=True)
    )
    critic_updates = sum(
        count * phase.objective.critic_steps for count, phase in zip(batches, phases, strict=True)
    )
    return Parts(
        networks.codec,
        networks.generator,
        make_optimizer(config.generator_optimizer, generator_updates),
        networks.critic,
        make_optimizer(config.critic_optimizer, critic_updates) if networks.critic else None,
        config.ema_decay,
    )
