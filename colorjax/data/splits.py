"""Which pictures are for training, validation and test."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from colorjax.console import notice
from colorjax.data.sources import Item
from colorjax.errors import UserError

SPLITS = ("train", "validation", "test")
RULES = ("hash", "permutation", "ordered")


def split_items(
    items: Sequence[Item],
    split_by: str,
    fractions: Sequence[float],
    seed: int,
    rule: str = "",
) -> dict[str, np.ndarray]:
    """Divide a source's pictures into `train`, `validation` and `test`.

    With a `rule` all pictures are divided by it, whatever split they carry. Without, those that
    carry one keep it (see `_split_as_given`), and where none does `split_by` is the rule:

    - `hash`: by a hash of the seed and the name, so that a picture stays in its split when
      others are added; the counts follow the fractions only roughly;
    - `permutation`: by a random order drawn from the seed; the counts are exact to rounding;
    - `ordered`: as the source has them, test first, then validation, then train; the counts are
      exact to rounding.

    Three pictures are enough for all: a split with a positive fraction that came out empty then
    gets one from the largest split.

    Args:
      items: the readable pictures.
      split_by: the source's own rule, one of `RULES`.
      fractions: the shares of train, validation and test, which sum to 1.
      seed: of the division.
      rule: one of `RULES`, or empty for the source's way.

    Returns:
      For each split its sorted int64 indices into `items`; disjoint.

    Raises:
      UserError: if the fractions are not three shares of 1, or there is no such rule.
    """
    _check_fractions(fractions)
    if rule and rule not in RULES:
        raise UserError(
            f"data.split_rule is {rule!r}: choose one of {', '.join(RULES)}, or leave it empty "
            "for the source's own."
        )
    if any(item.split for item in items) and not rule:
        assigned = _split_as_given(items, fractions, seed)
    else:
        assigned = _split_by_rule(items, rule or split_by, fractions, seed)
    return {split: np.flatnonzero(assigned == number) for number, split in enumerate(SPLITS)}


def _check_fractions(fractions: Sequence[float]) -> None:
    valid = len(fractions) == 3 and min(fractions) >= 0 and abs(sum(fractions) - 1) < 1e-6
    if not valid:
        raise UserError(
            f"data.split_fractions is {tuple(fractions)}, but it takes three shares (train, "
            "validation, test) of at least 0 that sum to 1."
        )


def _split_as_given(items: Sequence[Item], fractions: Sequence[float], seed: int) -> np.ndarray:
    """Return the number of each item's own split, -1 for none.

    Training needs a validation split: where none is given it is cut out of train by hash, in the
    proportion of their fractions. A test split that isn't given stays empty.
    """
    assigned = np.array([SPLITS.index(item.split) if item.split else -1 for item in items])
    outside = int((assigned == -1).sum())
    if outside:
        notice(f"{outside} pictures lie outside the split folders and are in no split.")
    total = fractions[0] + fractions[1]
    if not (assigned == 1).any() and total > 0:
        train = np.flatnonzero(assigned == 0)
        shares = (fractions[0] / total, fractions[1] / total, 0.0)
        assigned[train] = _split_by_hash([items[int(index)].name for index in train], shares, seed)
    return assigned


def _split_by_rule(
    items: Sequence[Item], rule: str, fractions: Sequence[float], seed: int
) -> np.ndarray:
    count = len(items)
    if rule == "hash":
        return _split_by_hash([item.name for item in items], fractions, seed)
    if rule == "permutation":
        return _split_by_order(np.random.default_rng(seed).permutation(count), fractions)
    # Train comes first in `fractions`, and last here.
    return _split_by_order(np.arange(count)[::-1], fractions)


def _split_by_hash(names: Sequence[str], fractions: Sequence[float], seed: int) -> np.ndarray:
    positions = np.array([_hash_to_unit(name, seed) for name in names])
    edges = np.cumsum(fractions)
    edges[-1] = 1.0
    assigned = np.searchsorted(edges, positions, side="right")
    return _fill_empty_splits(assigned, fractions, positions)


def _split_by_order(order: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """Give the first in `order`, a permutation, to train, the next to validation, then to test."""
    count = len(order)
    positions = np.empty(count)
    positions[order] = (np.arange(count) + 0.5) / max(count, 1)
    edges = np.round(np.cumsum(fractions) * count).astype(int)
    assigned = np.empty(count, int)
    assigned[order] = np.searchsorted(edges, np.arange(count), side="right")
    return _fill_empty_splits(assigned, fractions, positions)


def _hash_to_unit(name: str, seed: int) -> float:
    """Return a number in [0, 1) that the seed and the name alone decide."""
    text = os.fsencode(f"{seed}:{name}")
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / 2**48


def _fill_empty_splits(
    assigned: np.ndarray, fractions: Sequence[float], positions: np.ndarray
) -> np.ndarray:
    """Give each empty split of a positive fraction the nearest picture of the largest split.

    Nearest is the picture whose position in [0, 1) is the closest to the middle of the split's
    own part of [0, 1). Fewer than three pictures are left as they fell.
    """
    if len(assigned) < len(SPLITS):
        return assigned
    assigned = assigned.copy()
    middles = np.cumsum(fractions) - np.asarray(fractions) / 2
    for number, fraction in enumerate(fractions):
        if fraction > 0 and not (assigned == number).any():
            largest = np.bincount(assigned, minlength=len(SPLITS)).argmax()
            candidates = np.flatnonzero(assigned == largest)
            nearest = np.abs(positions[candidates] - middles[number]).argmin()
            assigned[candidates[nearest]] = number
    return assigned
