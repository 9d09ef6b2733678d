"""Objectives: how one batch changes the networks, and what is reported of it.

An objective is a frozen dataclass whose fields are the options of its phase in the config. Its
`update` is a pure function; `critic_metrics` scores predictions with the critic, per picture.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from colorjax.errors import UserError
from colorjax.training.objectives.adversarial import GAN, WGANGP
from colorjax.training.objectives.base import Metrics, Objective
from colorjax.training.objectives.reconstruction import Reconstruction

__all__ = ["GAN", "OBJECTIVES", "WGANGP", "Metrics", "Objective", "Reconstruction"]

OBJECTIVES: dict[str, type] = {"reconstruction": Reconstruction, "gan": GAN, "wgan_gp": WGANGP}

# What a phase says beside its objective's own options.
_PHASE_FIELDS = ("objective", "epochs", "generator_optimizer", "critic_optimizer")


def create_objective(fields: Mapping[str, Any]) -> Objective:
    """Return the objective that one of `config.phases` describes.

    Args:
      fields: `objective` (its name), `epochs`, perhaps optimisers, and the objective's own options.

    Raises:
      UserError: for an unknown objective or option.
    """
    name = fields["objective"]
    if name not in OBJECTIVES:
        raise UserError(f"Unknown objective {name!r}: choose one of {', '.join(OBJECTIVES)}.")
    options = {field: fields[field] for field in fields if field not in _PHASE_FIELDS}
    unknown = options.keys() - {field.name for field in dataclasses.fields(OBJECTIVES[name])}
    if unknown:
        raise UserError(f"The objective {name} has no option {sorted(unknown)[0]!r}: remove it.")
    objective: Objective = OBJECTIVES[name](**options)
    if objective.generator_steps < 1 or objective.critic_steps < 0:
        raise UserError(f"The objective {name} needs generator_steps >= 1 and critic_steps >= 0.")
    return objective
