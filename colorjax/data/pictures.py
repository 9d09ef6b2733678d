"""A config's pictures, decoded and divided: what training and evaluation start from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from colorjax.configuration import check_load_size
from colorjax.data.cache import Skipped, open_cache
from colorjax.data.sources import open_source
from colorjax.data.splits import SPLITS, split_items
from colorjax.errors import UserError


@dataclass(frozen=True)
class Pictures:
    """The decoded pictures of one source at one shape.

    Attributes:
      images: read-only memory map, uint8 (N, height, width, 3).
      names: of the N pictures, in the same order.
      splits: `train`, `validation` and `test`, each with its int64 indices into `images`.
      skipped: the pictures that could not be read.
      labels: the name of what each shows, None where the source doesn't say.
    """

    images: np.ndarray
    names: tuple[str, ...]
    splits: dict[str, np.ndarray]
    skipped: tuple[Skipped, ...]
    labels: tuple[str | None, ...]


def load_pictures(
    data: ConfigDict, image_size: int, origin: str = "config.data.source"
) -> Pictures:
    """Return the pictures of `data.source`, each squashed to `data.load_size` or to a square.

    Args:
      data: the fields of `configs.common.data`.
      image_size: the side in pixels of the square, where `data.load_size` is empty.
      origin: the field or option that `data.source` was taken from, for errors.

    Raises:
      UserError: if the source is unknown, missing or holds no readable picture, if a field can't
        be used, or if the cache can't be written.
    """
    # Models trained before these fields were born have configs without them.
    shape = _load_shape(data.get("load_size", ()), image_size)
    rule = data.get("split_rule", "")
    source = open_source(data, origin)
    cached = open_cache(source, shape, data.cache_dir, data.threads)
    splits = split_items(cached.items, source.split_by, data.split_fractions, data.split_seed, rule)
    names = tuple(item.name for item in cached.items)
    labels = tuple(item.label for item in cached.items)
    return Pictures(cached.images, names, splits, cached.skipped, labels)


def load_validation_pictures(data: ConfigDict, image_size: int) -> Pictures:
    """Return the pictures of `data.validation_source`, loaded as those of `data.source` are.

    All of them are for validation: their splits mean nothing, and `data.tfds_split` is of
    `data.source` alone.

    Args:
      data: the fields of `configs.common.data`, with a `validation_source`.
      image_size: as for `load_pictures`.

    Raises:
      UserError: as `load_pictures`.
    """
    fields = data.copy_and_resolve_references()
    fields.source, fields.tfds_split = data.validation_source, ""
    return load_pictures(fields, image_size, "config.data.validation_source")


def _load_shape(load_size: Sequence[int], image_size: int) -> tuple[int, int]:
    check_load_size(load_size)
    if not load_size:
        return image_size, image_size
    height, width = load_size
    return height, width


def number_labels(pictures: Pictures, indices: np.ndarray, classes: int) -> np.ndarray:
    """Return the numbers of what pictures show, int32 (N,): in [0, classes), -1 for the others.

    Args:
      pictures: N, with labels.
      indices: (M,), those that are to be numbered; labels have the order of their names.
      classes: how many kinds of things they may show.

    Raises:
      UserError: if one of them has no label, or they show more than `classes` kinds or but one.
    """
    names = [pictures.labels[index] for index in indices]
    if None in names:
        raise UserError(
            f"{pictures.names[indices[names.index(None)]]} has no label, which "
            "config.phases.*.class_weight needs: take folder:PATH, the pictures sorted into "
            "folders by what they show, or set it to 0."
        )
    known = sorted({str(name) for name in names})
    if len(known) == 1:
        raise UserError(
            f"All pictures lie in the folder {known[0]}: sort them by what they show, or set "
            "config.phases.*.class_weight to 0."
        )
    if len(known) > classes:
        raise UserError(
            f"The pictures show {len(known)} kinds of things: set config.generator.classes, which "
            f"is {classes}, to {len(known)}."
        )
    numbers = {label: number for number, label in enumerate(known)}
    numbered = np.full(len(pictures.labels), -1, np.int32)
    numbered[indices] = [numbers[str(name)] for name in names]
    return numbered


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
