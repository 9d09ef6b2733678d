"""Optax optimisers and learning-rate schedules from a config."""

from collections.abc import Callable
from typing import Any

import optax

from colorjax.errors import UserError
from colorjax.models.frozen import trainable_labels


def make_optimizer(
    fields: Any, updates: int, frozen: tuple[str, ...] = ()
) -> optax.GradientTransformation:
    """Return the optimiser that `config.generator_optimizer` (or critic's) describes.

    Args:
      fields: the config's fields of one optimiser; configs/common.py explains each.
      updates: how many updates the whole run makes, for schedules that end.
      frozen: prefixes of the parameters that are never updated, and for which the optimiser
        holds no state; see `models.frozen`.

    Raises:
      UserError: for an unknown name or schedule, or a prefix that names nothing.
    """
    schedule = make_schedule(fields, updates)
    adam = {"b1": fields.b1, "b2": fields.b2, "eps": fields.eps}
    optimizers: dict[str, Callable[[], optax.GradientTransformation]] = {
        "adam": lambda: optax.adam(schedule, **adam),
        "adamw": lambda: optax.adamw(schedule, **adam, weight_decay=fields.weight_decay),
    }
    if fields.name not in optimizers:
        raise UserError(f"Unknown optimizer {fields.name!r}: choose {' or '.join(optimizers)}.")
    optimizer = optimizers[fields.name]()
    if fields.gradient_clip:
        optimizer = optax.chain(optax.clip_by_global_norm(fields.gradient_clip), optimizer)
    if not frozen:
        return optimizer
    return optax.multi_transform(
        {"trainable": optimizer, "frozen": optax.set_to_zero()},
        lambda params: trainable_labels(params, frozen),
    )


def make_schedule(fields: Any, updates: int) -> optax.Schedule:
    """Return the learning rate as a function of the number of updates made.

    Raises:
      UserError: for an unknown schedule.
    """
    rate = fields.learning_rate
    schedules: dict[str, Callable[[], optax.Schedule]] = {
        "constant": lambda: optax.constant_schedule(rate),
        "linear": lambda: optax.linear_schedule(rate, 0.0, updates),
        "cosine": lambda: optax.warmup_cosine_decay_schedule(
            0.0 if fields.warmup_steps else rate,
            rate,
            fields.warmup_steps,
            max(updates, fields.warmup_steps + 1),
        ),
    }
    if fields.schedule not in schedules:
        raise UserError(f"Unknown schedule {fields.schedule!r}: choose {', '.join(schedules)}.")
    return schedules[fields.schedule]()
