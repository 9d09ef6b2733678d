"""A folder of pictures: any tree, found recursively."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from colorjax.console import notice, printable
from colorjax.data.decode import decode, explain
from colorjax.data.sources import Item
from colorjax.errors import UserError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


class FolderSource:
    """Every picture below a folder, named by its path relative to it with forward slashes.

    Files are known by their extension; hidden files and folders are left out. Top folders named
    `train`, `validation` (or `valid`, `val`) and `test` set the split, provided that `train` is
    among them: a folder of that name alone could as well be one kind of picture among others.
    The first folder below these is a picture's label.
    """

    split_by = "hash"

    def __init__(self, path: str):
        """Look through the folder.

        Raises:
          UserError: if it is missing, is no folder, can't be listed or has no image files.
        """
        self.root = Path(path).expanduser()
        if not self.root.exists():
            raise UserError(f"There is no folder {path!r}: folder:PATH takes one that there is.")
        if not self.root.is_dir():
            raise UserError(f"{path!r} is a file: folder:PATH takes the folder that holds it.")
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise UserError(f"The folder {path!r} may not be read: change its permissions.")
        self.key = f"folder:{self.root.resolve()}"
        names = sorted(find_images(self.root, _tell))
        if not names:
            extensions = ", ".join(sorted(EXTENSIONS))
            raise UserError(f"The folder {path!r} holds no image files ({extensions}).")
        divided = any(name.startswith("train/") for name in names)
        self.items: Sequence[Item] = [
            Item(
                name,
                _version(self.root / name),
                split=_split(name) if divided else None,
                label=_label(name, divided),
            )
            for name in names
        ]

    def read(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """Return picture `index` as uint8 (height, width, 3)."""
        return decode(self.root / self.items[index].name, shape)


def find_images(
    root: Path, on_error: Callable[[OSError], object], extensions: Collection[str] = EXTENSIONS
) -> Iterator[str]:
    """Yield the relative paths of image files, through links but round no loop of them.

    Args:
      root: of the tree.
      on_error: told of folders that can't be listed; the error holds their `filename`.
      extensions: of the files that are meant, in lower case.
    """
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=on_error, followlinks=True):
        try:
            status = os.stat(folder)
        except OSError as error:
            on_error(error)
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in extensions:
                yield (relative / name).as_posix()


def _tell(error: OSError) -> None:
    notice(f"{printable(error.filename)} is left out: {explain(error)}.")


def _version(path: Path) -> str:
    """Return a file's size and modification time; a dangling link has neither."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size}-{status.st_mtime_ns}"


def _split(name: str) -> str | None:
    return SPLIT_FOLDERS.get(name.partition("/")[0]) if "/" in name else None


def _label(name: str, divided: bool) -> str | None:
    """Return a path's first folder, below the split's where there is one; None for none."""
    folders = name.split("/")[1 if divided else 0 : -1]
    return folders[0] if folders else None
