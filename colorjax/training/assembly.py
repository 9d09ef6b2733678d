"""From a config's names and numbers to phases, networks and optimisers."""

from dataclasses import dataclass
from functools import partial

import jax
from ml_collections import ConfigDict

from colorjax.errors import UserError
from colorjax.models import create_networks
from colorjax.models.frozen import frozen_prefixes
from colorjax.training.objectives import Objective, create_objective
from colorjax.training.optimizers import make_optimizer
from colorjax.training.state import Parts, TrainState, restart_optimizers


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs under one objective; epochs are counted from 0 over the whole run."""

    name: str
    objective: Objective
    first_epoch: int
    epochs: int

    @property
    def last_epoch(self) -> int:
        """The last epoch that belongs to it."""
        return self.first_epoch + self.epochs - 1


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


def create_parts(
    config: ConfigDict,
    phases: tuple[Phase, ...],
    steps_per_epoch: int,
    phase: Phase | None = None,
) -> Parts:
    """Return networks, codec and optimisers.

    Args:
      config: a whole recipe.
      phases: from `create_phases`; they say how many updates the schedules span.
      steps_per_epoch: batches in an epoch.
      phase: which of the phases the optimisers are for; None for the first.

    Raises:
      UserError: for an unknown name, or pictures that the networks can't take.
    """
    phase = phase or phases[0]
    networks = create_networks(config)
    counts = {each.name: each.epochs * steps_per_epoch for each in phases}
    sharing = [each for each in phases if _shares(config, each, phase, "generator_optimizer")]
    generator_updates = sum(counts[each.name] * each.objective.generator_steps for each in sharing)
    sharing = [each for each in phases if _shares(config, each, phase, "critic_optimizer")]
    critic_updates = sum(counts[each.name] * each.objective.critic_steps for each in sharing)
    generator_optimizer = make_optimizer(
        _optimizer_fields(config, phase, "generator_optimizer"),
        generator_updates,
        frozen_prefixes(networks.generator),
    )
    critic_optimizer = make_optimizer(
        _optimizer_fields(config, phase, "critic_optimizer"), critic_updates
    )
    return Parts(
        networks.codec,
        networks.generator,
        generator_optimizer,
        networks.critic,
        critic_optimizer if networks.critic else None,
        config.ema_decay,
        steps_per_epoch,
    )


def has_own_optimizer(config: ConfigDict, phase: Phase, name: str) -> bool:
    """Return whether a phase says what its `generator_optimizer` or `critic_optimizer` is.

    Such an optimiser begins anew with the phase; the others' state carries on through them all.
    """
    return name in config.phases[phase.name]


def check_optimizers(parts: Parts, state: TrainState, phase: str) -> None:
    """Check that a phase's optimisers can go on with the state that the phases share.

    Args:
      parts: the phase's.
      state: the run's, as shapes or arrays.
      phase: its name, for the error.

    Raises:
      UserError: if they hold another kind of state.
    """
    fresh = jax.eval_shape(partial(restart_optimizers, parts, generator=True, critic=True), state)
    if str(jax.tree.structure(fresh)) != str(jax.tree.structure(state)):
        raise UserError(
            f"The optimisers of config.phases.{phase} are of another kind than the first phase's: "
            "give both the same name and gradient_clip."
        )


def _optimizer_fields(config: ConfigDict, phase: Phase, name: str) -> ConfigDict:
    return config.phases[phase.name].get(name, config[name])


def _shares(config: ConfigDict, one: Phase, other: Phase, name: str) -> bool:
    """Return whether two phases go through one optimiser's schedule."""
    own = [has_own_optimizer(config, phase, name) for phase in (one, other)]
    return one.name == other.name or not any(own)
