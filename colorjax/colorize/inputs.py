"""Which files a command line names, and where the result of each goes."""

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from colorjax.colorize.film_reading import FILM_EXTENSIONS, is_film
from colorjax.data.decode import explain
from colorjax.data.folder import EXTENSIONS, find_images
from colorjax.errors import UserError

_EXTENSIONS = EXTENSIONS | FILM_EXTENSIONS


@dataclass(frozen=True)
class Input:
    """A file to colour, and its place in the tree that it was found in."""

    path: Path
    place: Path


@dataclass(frozen=True)
class Problem:
    """Something a command line names that gives no picture."""

    name: str
    reason: str


def find_inputs(
    names: Iterable[str], output: Path, has_others: bool = False
) -> tuple[list[Input], list[Problem]]:
    """Return the files that names stand for, each once, and what stands for none.

    Args:
      names: files, folders (looked through recursively) and glob patterns.
      output: the folder of the results, which are no inputs where it lies in an input folder.
      has_others: whether there are inputs beside these.

    Raises:
      UserError: if there is nothing to colour: no file is named, no folder or pattern gives one,
        and there are no others.
    """
    found: dict[Path, Input] = {}
    problems: list[Problem] = []
    wrong: list[Problem] = []
    for name in names:
        try:
            for item in _expand(name, real_path(output)):
                if isinstance(item, Problem):
                    problems.append(item)
                else:
                    found.setdefault(real_path(item.path), item)
        except OSError as error:
            problems.append(Problem(name, explain(error)))
        except UserError as error:
            wrong.append(Problem(name, str(error)))
    if wrong and not (found or problems or has_others):
        raise UserError(wrong[0].reason)
    return list(found.values()), problems + wrong


def plan_outputs(places: Sequence[Path], output: Path, extension: str) -> list[Path]:
    """Return a path for each input, no two alike even where the file system ignores case.

    An input's tree is kept. Where inputs share a stem they keep their own extension too
    (`a.jpg.png`), and are numbered where that isn't enough.

    Args:
      places: of the inputs, in a fixed order.
      output: the folder of the results.
      extension: of the results of pictures, with its dot; films become MP4.
    """
    extensions = [".mp4" if is_film(place) else extension for place in places]
    pairs = list(zip(places, extensions, strict=True))
    shared = Counter(_key(place.with_suffix(extension)) for place, extension in pairs)
    used: set[str] = set()
    planned = []
    for place, extension in pairs:
        unique = shared[_key(place.with_suffix(extension))] == 1
        base = place.with_suffix("") if unique else place
        path = base.with_name(base.name + extension)
        number = 2
        while _key(path) in used:
            path = base.with_name(f"{base.name}-{number}{extension}")
            number += 1
        used.add(_key(path))
        planned.append(output / path)
    return planned


def real_path(path: Path) -> Path:
    """Return a path without links, also where links lead round in a loop."""
    return Path(os.path.realpath(path))


def _expand(name: str, output: Path) -> Iterator[Input | Problem]:
    """Yield what a name stands for.

    Raises:
      OSError: if there is something of that name, or seems to be meant, that can't be reached.
      UserError: if there is nothing to colour.
    """
    path = Path(os.path.expanduser(name))
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        yield from _expand_missing(name, output)
    else:
        yield from _expand_folder(path, output) if is_folder else [Input(path, Path(path.name))]


def _expand_missing(name: str, output: Path) -> Iterator[Input]:
    """Yield the files that a name stands for as a pattern."""
    if glob.has_magic(name):
        yield from _expand_pattern(name, output)
    elif os.path.islink(name):
        raise FileNotFoundError("it is a link to a file that is not there")
    elif Path(name).suffix.lower() in _EXTENSIONS:
        raise FileNotFoundError("there is no such file")
    else:
        raise UserError(f"There is no file or folder {name}.")


def _expand_folder(folder: Path, output: Path) -> Iterator[Input | Problem]:
    if real_path(folder) == output:
        raise UserError(
            f"{folder} is also where results go, which would become inputs: name another --output."
        )
    errors: list[OSError] = []
    places = [Path(name) for name in sorted(find_images(folder, errors.append, _EXTENSIONS))]
    for error in errors:
        yield Problem(error.filename, explain(error))
    if not (places or errors):
        extensions = ", ".join(sorted(_EXTENSIONS))
        raise UserError(f"The folder {folder} holds no image files or films ({extensions}).")
    inside = [place for place in places if output not in real_path(folder / place).parents]
    # A folder that lies inside the output folder is meant: it was named.
    for place in inside or places:
        yield Input(folder / place, place)


def _expand_pattern(pattern: str, output: Path) -> Iterator[Input]:
    paths = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    files = [
        path for path in paths if not os.path.isdir(path) and output not in real_path(path).parents
    ]
    if not files:
        raise UserError(f"No file matches the pattern {pattern}.")
    for path in files:
        yield Input(path, Path(path.name))


def _key(path: Path) -> str:
    return path.as_posix().casefold()
