"""Files that appear whole or not at all, locked folders, and whether a place can be written."""

import contextlib
import fcntl
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from colorjax.errors import UserError

LOCK = ".lock"  # of a folder that a program is at work in


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a hidden file beside `path`, then move it there; folders are created.

    Args:
      path: of the file.
      write: takes the hidden file's path, whose suffix is that of `path`, since libraries know a
        format by it.

    Raises:
      OSError: if it can't be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def check_folder(folder: Path, option: str) -> None:
    """Check that a folder is there, or could be made, and may be written in; nothing is written.

    Args:
      folder: that a command is to write in.
      option: of the command that names another one, such as `--output`.

    Raises:
      UserError: if it may not be.
    """
    path = folder.absolute()
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{folder} can't be written: name another folder with {option}.")


def check_file(path: Path, option: str) -> None:
    """Check that a file may be written there, its folder made if need be; nothing is written.

    Args:
      path: of the file.
      option: of the command that names it, such as `--json`.

    Raises:
      UserError: if it may not be.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file with {option}.")
    check_folder(path.parent, option)


def create_folder(folder: Path, option: str) -> None:
    """Create a folder and those above it; see `check_folder`.

    Raises:
      UserError: if it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} can't be written ({find_reason(error)}): name another folder with {option}."
        ) from error


@contextlib.contextmanager
def lock_folder(folder: Path, option: str) -> Iterator[None]:
    """Keep other programs that lock the folder out of it; the system unlocks it at a kill.

    Where the file system knows no locks, the folder stays open to others.

    Args:
      folder: that is there.
      option: of the command that names another one, such as `--workdir`.

    Raises:
      UserError: if another program has it.
      OSError: if it can't be written.
    """
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another program is at work in {folder}: wait for its end, or name another folder "
                f"with {option}."
            ) from None
        except OSError:  # of a file system without locks
            pass
        yield


def find_reason(error: BaseException) -> str:
    """Return why the system refused, for instance `no space left on device`.

    TensorStore gives its number within a message of paths.
    """
    found = re.search(r"os_error_code='(\d+)'", str(error))
    number = int(found[1]) if found else getattr(error, "errno", None)
    text = os.strerror(number) if number else (str(error).splitlines() or [""])[0]
    return (text or type(error).__name__).lower()
