"""From a config's names and numbers to phases, networks and optimisers."""

import itertools
from dataclasses import dataclass
from functools import partial

import jax
import optax
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

    def updates(self, optimizer: str) -> int:
        """Return how many updates `generator_optimizer` or `critic_optimizer` makes a batch."""
        is_generator = optimizer == "generator_optimizer"
        return self.objective.generator_steps if is_generator else self.objective.critic_steps


def create_phases(config: ConfigDict) -> tuple[Phase, ...]:
    """Return the phases of a run in their order, those without epochs left out.

    Raises:
      UserError: if a phase isn't defined, there is nothing to train, or several phases are to
        stop early.
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
    if config.get("patience") and len(phases) > 1:
        raise UserError(
            f"config.patience={config.patience} is for a run of one phase, and this has "
            f"{len(phases)}: set it to 0, or the others' epochs."
        )
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

    def create_optimizer(name: str, frozen: tuple[str, ...] = ()) -> optax.GradientTransformation:
        sharing = _sharing_phases(config, phases, phase, name)
        updates = sum(each.epochs * steps_per_epoch * each.updates(name) for each in sharing)
        return make_optimizer(config.phases[phase.name].get(name, config[name]), updates, frozen)

    frozen = frozen_prefixes(networks.generator)
    return Parts(
        networks.codec,
        networks.generator,
        create_optimizer("generator_optimizer", frozen),
        networks.critic,
        create_optimizer("critic_optimizer") if networks.critic else None,
        config.ema_decay,
        steps_per_epoch,
    )


def begins_anew(config: ConfigDict, phases: tuple[Phase, ...], phase: Phase, name: str) -> bool:
    """Return whether a phase drops the state that an optimiser has from the phase before.

    It does if either has a `generator_optimizer` (or `critic_optimizer`, the `name`) of its own.
    """
    first = _sharing_phases(config, phases, phase, name)[0]
    return phase is first and phase is not phases[0]


def _sharing_phases(
    config: ConfigDict, phases: tuple[Phase, ...], phase: Phase, name: str
) -> tuple[Phase, ...]:
    """Return the phases, one after the other, that go through one optimiser with `phase`."""

    def owner(each: Phase) -> str:
        return each.name if name in config.phases[each.name] else ""

    groups = (tuple(group) for _, group in itertools.groupby(phases, owner))
    return next(group for group in groups if phase in group)


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
