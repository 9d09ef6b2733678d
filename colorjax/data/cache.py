"""Decoded pictures on disk: each is read and resized once, then mapped into memory."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from colorjax.console import notice
from colorjax.data.decode import DECODER_VERSION, explain
from colorjax.data.sources import Item, Source
from colorjax.errors import UserError

SECONDS_BETWEEN_LINES = 10.0  # of progress, where there is no terminal
_SECONDS_BETWEEN_WRITES = 0.5


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Cached:
    """The readable pictures of a source.

    Attributes:
      images: read-only memory map, uint8 (N, height, width, 3).
      items: the N readable items, in the source's order.
      skipped: the items that could not be read.
      decoded: how many pictures were tried this time, rather than found.
    """

    images: np.ndarray
    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...]
    decoded: int


@dataclass
class Index:
    """What a cache's JSON file says: which picture each row holds, and what was broken."""

    images: str  # the name of the file of pixels
    rows: dict[str, str]  # picture's name -> version, in the order of the rows
    broken: dict[str, tuple[str, str]]  # picture's name -> version, reason


def open_cache(
    source: Source, shape: tuple[int, int], cache_dir: str = "", threads: int = 4
) -> Cached:
    """Return a source's pictures, decoding those that the cache doesn't hold as they are now.

    A cache is a folder that is named after the source and the shape. It holds the pixels as raw
    bytes and an index in JSON; both are written under other names first, so that they are whole
    whenever they are there, and a lock keeps other processes out meanwhile. Pictures that are no
    longer in the source leave the cache with the next change.

    Args:
      source: what to read.
      shape: (height, width) of the decoded pictures, in pixels.
      cache_dir: where caches lie; empty for `$XDG_CACHE_HOME/colorjax` or `~/.cache/colorjax`.
      threads: that decode.

    Raises:
      UserError: if no picture can be read, or if the cache can't be written.
    """
    parent = _cache_root(cache_dir)
    name = _shape_name(shape)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", source.key)[-40:].strip("-")
    digest = hashlib.sha256(os.fsencode(f"{source.key}\n{name}")).hexdigest()[:12]
    folder = parent / f"{slug}-{name}-{digest}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(parent / f"{folder.name}.lock"):
            return _update(source, shape, folder, threads)
    except OSError as error:
        raise UserError(
            f"The cache of decoded pictures can't be written in {str(folder)!r} "
            f"({explain(error)}): set data.cache_dir to a folder that can."
        ) from error


def _shape_name(shape: tuple[int, int]) -> str:
    """Return `128` for a square and `218x178`, height by width, for others."""
    height, width = shape
    return str(height) if height == width else f"{height}x{width}"


def _cache_root(cache_dir: str) -> Path:
    if cache_dir:
        return Path(cache_dir).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "colorjax"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notice(f"Waiting for another program that prepares {path.stem}.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file unlocks it


def _update(source: Source, shape: tuple[int, int], folder: Path, threads: int) -> Cached:
    """Return the cache's pictures, after writing it anew if the source has changed."""
    index = _read_index(folder, shape)
    wanted = {item.name: item.version for item in source.items}
    known = index.rows | {name: version for name, (version, _) in index.broken.items()}
    decoded = sum(known.get(name) != version for name, version in wanted.items())
    if decoded or known.keys() != wanted.keys():
        index = _write(source, shape, folder, index, decoded, threads)
    items = tuple(item for item in source.items if item.name in index.rows)
    images = np.memmap(folder / index.images, np.uint8, mode="r", shape=(len(items), *shape, 3))
    return Cached(images, items, _report_skipped(source, index), decoded)


def _report_skipped(source: Source, index: Index) -> tuple[Skipped, ...]:
    skipped = [
        Skipped(item.name, index.broken[item.name][1])
        for item in source.items
        if item.name in index.broken
    ]
    for each in skipped:
        notice(f"Skipped {each.name}: {each.reason}.")
    return tuple(skipped)


def _read_index(folder: Path, shape: tuple[int, int]) -> Index:
    """Return the index, or an empty one where it is missing, damaged or not of this decoder."""
    try:
        fields = json.loads((folder / "index.json").read_text())
        if fields.pop("decoder") != DECODER_VERSION:
            raise ValueError("made by another version")
        index = Index(**fields)
        expected = len(index.rows) * _picture_bytes(shape)
        if Path(index.images).name != index.images:
            raise ValueError("pixels outside the cache")
        if (folder / index.images).stat().st_size != expected:
            raise ValueError("pixels missing")
        all(version + reason for version, reason in index.broken.values())
        return index
    except FileNotFoundError:
        return Index("", {}, {})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        notice(f"The cache in {folder} is damaged ({error}) and is made again.")
        return Index("", {}, {})


def _picture_bytes(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1] * 3


def _write(
    source: Source,
    shape: tuple[int, int],
    folder: Path,
    old: Index,
    decoded: int,
    threads: int,
) -> Index:
    """Write the pixels and the index anew; pictures that haven't changed are copied."""
    count = len(source.items)
    needed = count * _picture_bytes(shape)
    notice(
        f"Decoding {decoded} of {count} pictures once, to {shape[0]}x{shape[1]}; they take "
        f"{needed / 1e6:.0f} MB in {folder}."
    )
    folder.mkdir(exist_ok=True)
    partial = folder / "images.partial"
    try:
        _check_space(folder, needed)
        with partial.open("w+b", buffering=0) as file:
            rows = _Rows(file, count, shape)
            with rows.written_meanwhile():
                reasons = _fill(rows, source, folder, old, threads)
            kept = [number for number in range(count) if reasons[number] is None]
            if not kept:
                first = f"{source.items[0].name}: {reasons[0]}"
                raise UserError(
                    f"None of the {count} pictures of {source.key} can be read ({first})."
                )
            rows.keep(kept)
        return _publish(source.items, reasons, folder, partial)
    finally:
        partial.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"The decoded pictures need {needed / 1e6:.0f} MB in {str(folder)!r}, where "
            f"{free / 1e6:.0f} MB are free: set data.cache_dir to a larger disk, or make "
            "image_size or data.load_size smaller."
        )


class _Rows:
    """A file of so many pictures, one after another, which is written row by row.

    A map of it in memory would hold Python's lock, and so the other threads, for each new page.
    """

    def __init__(self, file: FileIO, count: int, shape: tuple[int, int]):
        self.shape = shape
        self._file = file
        self._bytes = _picture_bytes(shape)
        size = count * self._bytes
        if hasattr(os, "posix_fallocate"):  # a full disk is found now
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)

    def write(self, row: int, picture: np.ndarray) -> None:
        """Write uint8 (height, width, 3), contiguous; threads may write at once."""
        self._write_at(row * self._bytes, picture.data.cast("B"))

    def _write_at(self, place: int, rest: memoryview) -> None:
        while rest:
            written = os.pwrite(self._file.fileno(), rest, place)
            rest, place = rest[written:], place + written

    @contextlib.contextmanager
    def written_meanwhile(self) -> Iterator[None]:
        """Have the disk take pages as they are filled, so that few wait at the end.

        Raises:
          OSError: at the end, if it refused some; the system tells that once alone.
        """
        done = threading.Event()

        def keep_writing() -> None:
            while not done.wait(_SECONDS_BETWEEN_WRITES):
                _flush(self._file.fileno())

        with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
            writing = pool.submit(keep_writing)
            try:
                yield
            finally:
                done.set()
        writing.result()

    def keep(self, kept: Sequence[int]) -> None:
        """Move those rows up over the others, leave those out, and have the disk take all."""
        file = self._file.fileno()
        for row, number in enumerate(kept):
            if row != number:
                pixels = os.pread(file, self._bytes, number * self._bytes)
                self._write_at(row * self._bytes, memoryview(pixels))
        self._file.truncate(len(kept) * self._bytes)
        _flush(file)


def _flush(file: int) -> None:
    getattr(os, "fdatasync", os.fsync)(file)


def _fill(rows: _Rows, source: Source, folder: Path, old: Index, threads: int) -> list[str | None]:
    """Fill every row; return for each picture None, or the reason why it can't be read."""
    old_row = {name: row for row, name in enumerate(old.rows)}
    old_shape = (len(old_row), *rows.shape, 3)
    old_images = np.memmap(folder / old.images, np.uint8, "r", shape=old_shape) if old_row else None

    def fill(number: int) -> str | None:
        item = source.items[number]
        if old_images is not None and old.rows.get(item.name) == item.version:
            rows.write(number, old_images[old_row[item.name]])
            return None
        version, reason = old.broken.get(item.name, ("", ""))
        if reason and version == item.version:
            return reason
        picture = np.empty((*rows.shape, 3), np.uint8)
        try:
            picture[...] = source.read(number, rows.shape)
        except Exception as error:  # Pillow's plugins raise nearly everything
            return explain(error)
        rows.write(number, picture)
        return None

    pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="decode")
    try:
        count = len(source.items)
        return list(_with_progress(pool.map(fill, range(count)), count))
    finally:
        pool.shutdown(cancel_futures=True)


def _with_progress(reasons: Iterator[str | None], total: int) -> Iterator[str | None]:
    """Show a bar on a terminal, and a line now and then elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(reasons, total=total, desc="Decoding", unit="picture", leave=False)
        return
    last = time.monotonic()
    for done, reason in enumerate(reasons, start=1):
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            notice(f"Decoded {done} of {total} pictures.")
        yield reason


def _publish(
    items: Sequence[Item], reasons: list[str | None], folder: Path, partial: Path
) -> Index:
    """Give the pixels their name, then the index that refers to it, then drop older pixels."""
    pairs = list(zip(items, reasons, strict=True))
    rows = {item.name: item.version for item, reason in pairs if reason is None}
    broken = {item.name: (item.version, reason) for item, reason in pairs if reason is not None}
    # A name of its own for every writing: a program that maps older pixels keeps them.
    index = Index(f"images-{uuid.uuid4().hex}.bin", rows, broken)
    partial.rename(folder / index.images)
    fields: dict[str, Any] = {"decoder": DECODER_VERSION, **asdict(index)}
    draft = folder / "index.partial"
    draft.write_text(json.dumps(fields))
    draft.rename(folder / "index.json")
    for older in folder.glob("images-*.bin"):
        if older.name != index.images:
            older.unlink()
    return index
