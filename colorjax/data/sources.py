"""A source is a list of named pictures that can be read at any shape; its prefix picks its kind."""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from colorjax.data.decode import squash
from colorjax.errors import UserError


@dataclass(frozen=True)
class Item:
    """One picture of a source.

    Attributes:
      name: unique within its source.
      version: changes whenever the picture's pixels may have changed.
      split: `train`, `validation` or `test` where the source says so, else None.
      label: the name of what it shows, where the source divides its pictures so.
    """

    name: str
    version: str
    split: str | None = None
    label: str | None = None


class Source(Protocol):
    """What a folder, a TFDS dataset and the garden have in common."""

    key: str  # names the source among the caches: two sources never share one
    items: Sequence[Item]
    split_by: str  # how items without a split of their own are divided: see `splits.split_items`

    def read(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """Return picture `index` as uint8 (height, width, 3), or raise if it can't be read."""
        ...


def open_source(data: ConfigDict, origin: str = "config.data.source") -> Source:
    """Return the source that `data.source` names: `folder:PATH`, `tfds:NAME` or `garden`.

    Args:
      data: the fields of `configs.common.data`.
      origin: the field or option that `data.source` was taken from, for errors.

    Raises:
      UserError: if there is no such source, or nothing in it.
    """
    kind, colon, argument = data.source.partition(":")
    if kind == "garden" and not colon:
        return GardenSource(data.garden_images)
    # Each kind is imported when it is asked for: TFDS alone takes seconds.
    if kind == "folder" and argument:
        from colorjax.data.folder import FolderSource

        return FolderSource(argument)
    if kind == "tfds" and argument:
        from colorjax.data.tfds import TfdsSource

        return TfdsSource(argument, data.tfds_dir, data.manual_dir, data.get("tfds_split", ""))
    raise UserError(
        f"{origin} is {data.source!r}, but a source is folder:PATH, tfds:NAME or garden."
    )


class GardenSource:
    """The pictures that `colorjax.data.garden` draws, each from its index alone."""

    split_by = "permutation"

    def __init__(self, count: int):
        if count < 1:
            raise UserError(f"data.garden_images is {count}, but the garden needs at least 1.")
        from colorjax.data.garden import draw

        self._draw = draw
        self.key = f"garden-{count}"
        # The drawing's own code stands in for a modification time.
        code = inspect.getsource(inspect.getmodule(draw) or draw)
        version = hashlib.sha256(code.encode()).hexdigest()[:16]
        self.items: Sequence[Item] = [
            Item(f"garden-{index:06d}", version) for index in range(count)
        ]

    def read(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """Draw picture `index`, a square, squashed to uint8 (height, width, 3)."""
        return squash(Image.fromarray(self._draw(index, max(shape))), shape)
