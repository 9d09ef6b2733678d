"""The numbers that a config's field may have."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from colorjax.errors import UserError


@dataclass(frozen=True)
class Range:
    """The finite numbers from `lowest` to `highest`, both included but for `excluded`."""

    lowest: float
    highest: float = math.inf
    excluded: float | None = None

    def __contains__(self, number: float) -> bool:
        within = self.lowest <= number <= self.highest and number < math.inf
        return within and number != self.excluded

    def __str__(self) -> str:
        if self.highest < math.inf:
            text = f"from {self.lowest} to {self.highest}"
        else:
            text = f"of {self.lowest} or more"
        return text if self.excluded is None else f"{text}, but not {self.excluded}"


def check_numbers(
    fields: Mapping[str, Any], ranges: Mapping[str, Range], prefix: str = "config."
) -> None:
    """Check the numbers among some fields, those that there are.

    Args:
      fields: by name.
      ranges: of the fields, by name.
      prefix: of the names, for the error.

    Raises:
      UserError: naming the first field that is out of its range.
    """
    for name, numbers in ranges.items():
        if name in fields and fields[name] not in numbers:
            raise UserError(f"{prefix}{name}={fields[name]}: give a number {numbers}.")
