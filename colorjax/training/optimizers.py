"""Optax optimisers and learning-rate schedules from a config."""

from collections.abc import Callable
from typing import Any

import optax

from colorjax.errors import UserError
from colorjax.models.frozen import trainable_labels
from colorjax.ranges import Range, check_numbers

_RANGES = {
    "learning_rate": Range(0.0),
    "warmup_steps": Range(0),
    "b1": Range(0.0, 1.0, excluded=1.0),
    "b2": Range(0.0, 1.0, excluded=1.0),
    "eps": Range(0.0, excluded=0.0),
    "weight_decay": Range(0.0),
    "gradient_clip": Range(0.0),
}


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
      UserError: for an unknown name or schedule, a number out of its range, or a prefix that
        names nothing.
    """
    check_numbers(fields, _RANGES, "config.*_optimizer.")
    schedule = make_schedule(fields, updates)
    adam = {"b1": fields.b1, "b2": fields.b2, "eps": fields.eps}
    optimizers: dict[str, Callable[[], optax.GradientTransformation]] = {
        "adam": lambda: optax.adam(schedule, **adam),
        "adamw": lambda: optax.adamw(schedule, **adam, weight_decay=fields.weight_decay),
    }
    if fields.name not in optimizers:
        raise UserError(
            f"config.*_optimizer.name is {fields.name!r}: choose {' or '.join(optimizers)}."
        )
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
        raise UserError(
            f"config.*_optimizer.schedule is {fields.schedule!r}: choose one of "
            f"{', '.join(schedules)}."
        )
    return schedules[fields.schedule]()
