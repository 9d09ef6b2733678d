"""A config's pictures, decoded and divided: what training and evaluation start from."""

from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from colorjax.data.cache import Skipped, open_cache
from colorjax.data.sources import open_source
from colorjax.data.splits import SPLITS, split_items
from colorjax.errors import UserError


@dataclass(frozen=True)
class Pictures:
    """The decoded pictures of one source at one size.

    Attributes:
      images: read-only memory map, uint8 (N, size, size, 3).
      names: of the N pictures, in the same order.
      splits: `train`, `validation` and `test`, each with its int64 indices into `images`.
      skipped: the pictures that could not be read.
    """

    images: np.ndarray
    names: tuple[str, ...]
    splits: dict[str, np.ndarray]
    skipped: tuple[Skipped, ...]


def load_pictures(data: ConfigDict, image_size: int) -> Pictures:
    """Return the pictures of `data.source`, each squashed to a square.

    Args:
      data: the fields of `configs.common.data`.
      image_size: the square's side, in pixels.

    Raises:
      UserError: if the source is unknown, missing or holds no readable picture, or if the cache
        can't be written.
    """
    source = open_source(data)
    cached = open_cache(source, image_size, data.cache_dir, data.threads)
    splits = split_items(cached.items, source.split_by, data.split_fractions, data.split_seed)
    names = tuple(item.name for item in cached.items)
    return Pictures(cached.images, names, splits, cached.skipped)


def split_indices(pictures: Pictures, split: str) -> np.ndarray:
    """Return the int64 indices of `train`, `validation`, `test` or `all` into `pictures.images`.

    Raises:
      UserError: if there is no such split, or no picture in it.
    """
    if split == "all":
        return np.arange(len(pictures.images))
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}: it is train, validation, test or all.")
    indices = pictures.splits[split]
    if not len(indices):
        count = len(pictures.images)
        raise UserError(
            f"The {split} split of these {count} pictures is empty: add pictures, change "
            "data.split_fractions, or evaluate --split all."
        )
    return indices
