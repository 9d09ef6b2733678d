"""Objectives: how one batch changes the networks, and what is reported of it.

An objective is a frozen dataclass whose fields are the options of its phase in the config. Its
`update` is a pure function; `critic_metrics` scores predictions with the critic, per picture.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from colorjax.errors import UserError
from colorjax.ranges import Range, check_numbers
from colorjax.training.objectives.adversarial import GAN, WGANGP
from colorjax.training.objectives.base import Example, Metrics, Objective
from colorjax.training.objectives.reconstruction import Reconstruction

__all__ = ["GAN", "OBJECTIVES", "WGANGP", "Example", "Metrics", "Objective", "Reconstruction"]

OBJECTIVES: dict[str, type] = {"reconstruction": Reconstruction, "gan": GAN, "wgan_gp": WGANGP}

# What a phase says beside its objective's own options.
_PHASE_FIELDS = ("objective", "epochs", "generator_optimizer", "critic_optimizer")

_RANGES = {
    "generator_steps": Range(1, 1000),
    "critic_steps": Range(1, 1000),
    "reconstruction_weight": Range(0.0),
    "class_weight": Range(0.0),
    "adversarial_weight": Range(0.0),
    "gradient_penalty_weight": Range(0.0),
    "critic_gate": Range(0.0, 1.0),
    "noise_every_epochs": Range(0),
}


def create_objective(fields: Mapping[str, Any]) -> Objective:
    """Return the objective that one of `config.phases` describes.

    Args:
      fields: `objective` (its name), `epochs`, perhaps optimisers, and the objective's own options.

    Raises:
      UserError: for an unknown objective or option, or a number out of its range.
    """
    name = fields["objective"]
    if name not in OBJECTIVES:
        raise UserError(
            f"config.phases.*.objective is {name!r}: choose one of {', '.join(OBJECTIVES)}."
        )
    options = {field: fields[field] for field in fields if field not in _PHASE_FIELDS}
    unknown = options.keys() - {field.name for field in dataclasses.fields(OBJECTIVES[name])}
    if unknown:
        raise UserError(f"The objective {name} has no option {sorted(unknown)[0]!r}: remove it.")
    check_numbers(options, _RANGES, "config.phases.*.")
    objective: Objective = OBJECTIVES[name](**options)
    return objective
