"""The pictures of a source as a model's config divides them, for commands that show or measure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from ml_collections import ConfigDict

    from colorjax.data import Pictures


def name_source(config: "ConfigDict", source: str | None, split: str) -> str:
    """Return the source that pictures come from.

    Args:
      config: of a model.
      source: the one that was asked for; None for what the model was trained on, whose validation
        split is `data.validation_source` where there is one.
      split: train, validation, test or all.
    """
    validation_source = config.data.get("validation_source") if split == "validation" else ""
    return source or validation_source or config.data.source


def load_split(
    config: "ConfigDict", source: str | None, split: str, size: int
) -> tuple["Pictures", "np.ndarray"]:
    """Return pictures, and the indices of those that belong to a split; see `name_source`.

    They are whole and squashed to a square, also where the model's recipe trains on a cut
    (`data.load_size`, `data.crop_size`): all models are asked the same.

    Args:
      config: of the model.
      source: of the pictures; None for the one that the model was trained on.
      split: train, validation, test or all.
      size: of the squares, in pixels.

    Raises:
      UserError: if the pictures can't be read, or the split is empty.
    """
    from colorjax import data

    fields = config.data.copy_and_resolve_references()
    fields.source = name_source(config, source, split)
    fields.load_size, fields.crop_size = (), 0
    fields.cache_dir = ""  # where to write is not for a model to say, which may be anybody's
    is_trained_on = fields.source == config.data.source
    if not is_trained_on:
        fields.tfds_split = ""
    is_validation_source = source is None and not is_trained_on
    field = "validation_source" if is_validation_source else "source"
    pictures = data.load_pictures(fields, size, "--data" if source else f"config.data.{field}")
    return pictures, data.split_indices(pictures, "all" if is_validation_source else split)


def take_every(indices: "np.ndarray", every: int | None, count: int | None) -> "np.ndarray":
    """Return the k-th, 2k-th, ... of the indices: a fixed rule, so that nobody chooses by hand.

    Args:
      indices: (N,).
      every: k; None for one that spreads `count` of them, or 8, over all.
      count: at most so many; None for 8, or for all that a given k takes.

    Raises:
      UserError: if there are fewer than k.
    """
    from colorjax.errors import UserError

    if every is None:
        count = count or 8
        every = max(1, len(indices) // count)
    if every > len(indices):
        raise UserError(f"--every {every} takes none of {len(indices)} pictures: give less.")
    return indices[every - 1 :: every][:count]
