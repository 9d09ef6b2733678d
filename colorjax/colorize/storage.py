"""Pictures on storage that fsspec reaches, such as buckets: found, fetched, and put whole."""

import glob
import posixpath
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from colorjax.colorize.film_reading import FILM_EXTENSIONS
from colorjax.colorize.inputs import Problem
from colorjax.colorize.links import is_link
from colorjax.data.decode import explain
from colorjax.data.folder import EXTENSIONS
from colorjax.errors import UserError

_LOCAL = ("file://", "local://")
# Of object stores: a key is there once its upload has ended, and can't be seen before.
_WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci"})


@dataclass(frozen=True)
class StoredFile:
    """A file on storage.

    Attributes:
      url: such as s3://bucket/photos/a.jpg.
      place: in the tree that it was found in.
      size: in bytes, as its listing says; 0 if it doesn't.
    """

    url: str
    place: Path = field(default=Path(), compare=False)
    size: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.url

    def exists(self) -> bool:
        """Return whether there is such a file."""
        files, key = _open(self.url)
        return bool(files.exists(key))

    @contextmanager
    def fetched(self) -> Iterator[Path]:
        """Provide a local copy for as long as the context lasts.

        Raises:
          UserError: if it can't be fetched; the message says why, without the URL.
        """
        with tempfile.TemporaryDirectory(prefix="colorjax-") as folder:
            path = Path(folder) / f"picture{self.place.suffix or PurePosixPath(self.url).suffix}"
            files, key = _open(self.url)
            try:
                files.get_file(key, str(path))
            except FileNotFoundError:
                raise UserError("there is no such file") from None
            except Exception as error:  # each kind of storage has its own
                raise UserError(f"it can't be fetched: {explain(error)}") from error
            yield path

    def store(self, write: Callable[[Path], object]) -> None:
        """Let `write` make a local file, and put that here; it appears whole or not at all.

        Raises:
          OSError: if it can't be put.
        """
        with tempfile.TemporaryDirectory(prefix="colorjax-") as folder:
            path = Path(folder) / f"picture{PurePosixPath(self.url).suffix}"
            write(path)
            files, key = _open(self.url)
            try:
                _put(files, path, key)
            except OSError:
                raise
            except Exception as error:  # each kind of storage has its own
                raise OSError(explain(error)) from error


def is_stored(name: str) -> bool:
    """Return whether a name on the command line is a URL of storage."""
    is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name)
    return bool(is_url) and not is_link(name) and not name.startswith(_LOCAL)


def strip_local(name: str) -> str:
    """Return the path that a URL of a local file names; any other name as it is."""
    for prefix in _LOCAL:
        name = name.removeprefix(prefix)
    return name


def find_stored(
    names: Sequence[str], output: str, has_others: bool = False
) -> tuple[list[StoredFile], list[Problem]]:
    """Return the pictures that URLs stand for, each once, and what stands for none.

    Folders are looked through as local ones are: recursively, hidden files left out, sorted.

    Args:
      names: URLs of files and folders, and patterns.
      output: where results go; these are no inputs where they lie in an input folder.
      has_others: whether there are inputs beside these.

    Raises:
      UserError: if there is nothing to colour, or a library is missing.
    """
    found: dict[str, StoredFile] = {}
    problems = []
    for name in names:
        try:
            for item in _expand(name, output):
                if ".." in item.place.parts:
                    problems.append(Problem(item.url, "its name leads out of the folder"))
                else:
                    found.setdefault(item.url, item)
        except FileNotFoundError as error:
            problems.append(Problem(name, str(error)))
    if problems and not (found or has_others):
        raise UserError(f"{problems[0].name}: {problems[0].reason}.")
    return list(found.values()), problems


def list_urls(folder: str) -> set[str]:
    """Return the URLs of all files under a folder, in one listing; none if there is no folder.

    Raises:
      UserError: if it can't be listed.
    """
    files, key = _open(folder)
    with _explained(folder):
        return {files.unstrip_protocol(name) for name in _list(files, key)}


def normalize(url: str) -> str:
    """Return a URL as listings spell it.

    Raises:
      UserError: if it is on no storage that fsspec, as it is installed, knows.
    """
    files, key = _open(url)
    return str(files.unstrip_protocol(key))


def _open(url: str) -> tuple[Any, str]:
    """Return the file system that a URL names, and the key within it.

    Raises:
      UserError: if fsspec, or the library that it needs for this kind of storage, is missing.
    """
    try:
        import fsspec
    except ImportError:
        raise UserError(f"{url} needs fsspec: pip install 'colorjax[ray]'.") from None
    try:
        files, key = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(f"{url} needs a library that isn't installed: {error}.") from None
    except ValueError as error:
        raise UserError(f"{url} is on no storage that fsspec knows: {error}.") from None
    return files, key


def _expand(name: str, output: str) -> list[StoredFile]:
    files, key = _open(name)
    with _explained(name):
        if files.isfile(key):
            return [_describe(files, files.info(key), posixpath.dirname(key))]
        listed = _list(files, key)
        if listed:
            return _choose_pictures(files, list(listed.values()), key, output)
        if glob.has_magic(key):
            matches = files.glob(key, detail=True).values()
            found = [_describe(files, match) for match in matches if match["type"] == "file"]
            shown = [item for item in found if not item.place.name.startswith(".")]
            return sorted(shown, key=lambda item: item.url)
    raise FileNotFoundError("there is no such file, nor a folder of pictures")


def _list(files: Any, key: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = files.find(key, detail=True)
    except FileNotFoundError:
        return {}
    return found


def _choose_pictures(
    files: Any, listed: Sequence[dict[str, Any]], root: str, output: str
) -> list[StoredFile]:
    """Return what a folder's listing has of pictures, without results of before."""
    every = [_describe(files, info, root) for info in listed]
    pictures = [
        item
        for item in every
        if item.place.suffix.lower() in EXTENSIONS | FILM_EXTENSIONS
        and not any(part.startswith(".") and part != ".." for part in item.place.parts)
    ]
    if not pictures:
        raise FileNotFoundError("the folder holds no image files or films")
    results = output.rstrip("/") + "/"
    inputs = [item for item in pictures if not item.url.startswith(results)]
    # A folder that lies inside the output folder is meant: it was named.
    return sorted(inputs or pictures, key=lambda item: item.place.as_posix())


def _describe(files: Any, info: dict[str, Any], root: str = "") -> StoredFile:
    name = info["name"]
    place = name.removeprefix(root).lstrip("/") if root else posixpath.basename(name)
    return StoredFile(files.unstrip_protocol(name), Path(place), info.get("size") or 0)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what storage raises for a folder into a UserError; that nothing is there passes."""
    try:
        yield
    except (FileNotFoundError, UserError):
        raise
    except Exception as error:  # each kind of storage has its own
        raise UserError(f"{url} can't be listed: {explain(error)}.") from error


def _put(files: Any, path: Path, key: str) -> None:
    protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
    if protocols & _WHOLE_PUTS:
        files.put_file(str(path), key)
        return
    parent = posixpath.dirname(key)
    draft = posixpath.join(parent, f".{uuid.uuid4().hex}.tmp")
    files.makedirs(parent, exist_ok=True)
    try:
        files.put_file(str(path), draft)
        files.mv(draft, key)
    finally:
        if files.exists(draft):
            files.rm_file(draft)
