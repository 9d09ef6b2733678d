"""Files of the server: each under a name that no one else can guess, and none for long."""

import asyncio
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from colorjax.web.service import RefusedError

KEPT = 3600.0  # seconds for which the page's pictures are kept
_SWEEP = 60.0  # seconds between looking for older ones


@contextmanager
def received(file: BinaryIO, size: int) -> Iterator[Path]:
    """Provide an upload as a file for as long as the context lasts.

    Args:
      file: opened.
      size: bytes that it may have.

    Raises:
      RefusedError: if it has more.
    """
    with tempfile.TemporaryDirectory(prefix="colorjax-") as folder:
        path = Path(folder) / "picture"
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
        check_upload(path, size)
        yield path


def check_upload(path: Path, size: int) -> None:
    """Raise a RefusedError if a file has more bytes than it may."""
    if path.stat().st_size > size:
        raise RefusedError(413, f"The file has more than {size / 1e6:g} MB.")


def name_result(name: str) -> str:
    """Return what the result of a photo of that name, as its sender gives it, is called."""
    stem = re.sub(r"[^\w .()+,-]+", "_", PureWindowsPath(name).stem)  # parts at / as well
    return f"{stem.strip(' .')[-100:] or 'picture'}.png"


def create_place(folder: Path, name: str) -> Path:
    """Return a path for a new file of that name, in a new folder of a random name."""
    place = folder / uuid.uuid4().hex
    place.mkdir(parents=True)
    return place / name


@asynccontextmanager
async def swept(folder: Path, age: float = KEPT, pause: float = _SWEEP) -> AsyncIterator[None]:
    """Delete what grows old in a folder, but not what was there before, until the context ends.

    Args:
      folder: looked through recursively.
      age: seconds since a file was last written.
      pause: seconds between two looks.
    """
    kept = frozenset(folder.rglob("*"))

    async def sweep_on() -> None:
        while True:
            await asyncio.to_thread(sweep, folder, age, kept)
            await asyncio.sleep(pause)

    task = asyncio.create_task(sweep_on())
    try:
        yield
    finally:
        task.cancel()


def sweep(folder: Path, age: float, kept: frozenset[Path] = frozenset()) -> None:
    """Delete the files of a folder that are older than `age` seconds, and emptied folders."""
    oldest = time.time() - age
    # The deepest first, so that folders are empty when their turn comes.
    for path in sorted(folder.rglob("*"), reverse=True):
        with suppress(OSError):  # another thread may write, or delete, at the same time
            if path in kept or path.stat().st_mtime > oldest:
                continue
            path.rmdir() if path.is_dir() else path.unlink()
