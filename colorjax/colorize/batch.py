"""Many files coloured in one go: what can be done is done, what can't is named."""

import contextlib
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from colorjax.colorize.ahead import map_ahead
from colorjax.colorize.colorizer import Colorizer
from colorjax.colorize.hints import Hint
from colorjax.colorize.inputs import Problem, find_inputs, plan_outputs, real_path
from colorjax.colorize.links import Limits, Link, downloaded, is_link
from colorjax.colorize.model import find_model
from colorjax.colorize.pictures import Photo, count_pixels, read_photo, save_picture
from colorjax.colorize.reference import read_palette
from colorjax.console import notice, printable, say
from colorjax.data.decode import explain
from colorjax.errors import UserError
from colorjax.files import check_folder, create_folder

# Pixels of the pictures that are under way at a time. The largest picture is alone then, and takes
# the memory that many smaller ones share.
_PORTION_PIXELS = 60_000_000
_LINK_PIXELS = 10_000_000  # of a link's picture, as long as it isn't known
_AHEAD = 8  # pictures that are decoded ahead, and that wait to be encoded


@dataclass(frozen=True)
class Options:
    """What is asked of the results; see `Colorizer.colorize` for the first six.

    Attributes:
      size: of the network's square.
      saturation: factor of the colour.
      upsample: `guided` or `bicubic`.
      lightness: `input` or `network`.
      reference: a picture whose palette is followed.
      hints: for one picture.
      keep_metadata: whether EXIF and XMP go with the results.
      overwrite: whether existing files are written anew, instead of left as they are.
      extension: of the results, `.png` or `.jpg`.
      limits: of what is spent on a link.
    """

    size: int | None = None
    saturation: float = 1.0
    upsample: str = "guided"
    lightness: str = "input"
    reference: Path | None = None
    hints: Sequence[Hint] = ()
    keep_metadata: bool = False
    overwrite: bool = False
    extension: str = ".png"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Job:
    """A file or link, and where its picture in colour goes."""

    source: Path | Link
    target: Path


@dataclass
class Report:
    """Tells what becomes of each file: a bar on a terminal, a line for each when piped."""

    total: int
    failures: int = 0
    bar: tqdm = field(init=False)

    def __post_init__(self) -> None:
        self.bar = tqdm(total=self.total, unit="picture", disable=not sys.stderr.isatty())

    def done(self, job: Job) -> None:
        """Tell of a picture that was written."""
        self.bar.update()
        if self.bar.disable:
            say(f"{printable(job.source)} -> {printable(job.target)}")

    def skipped(self, jobs: Sequence[Job]) -> None:
        """Tell of results that were there before."""
        self.bar.total -= len(jobs)  # the rate, and the time left, are of what is to be done
        self.bar.refresh()
        if len(jobs) == 1:
            source, target = printable(jobs[0].source), printable(jobs[0].target)
            notice(f"{source}: skipped, as {target} exists (--overwrite: anew)")
        elif jobs:
            notice(
                f"{len(jobs)} pictures skipped, as the result of each exists (--overwrite: anew)"
            )

    def failed(self, name: str | Path | Link, reason: str) -> None:
        """Tell of an input that could not be coloured."""
        self.bar.update()
        self.failures += 1
        notice(f"{printable(name)}: failed, {printable(reason)}")


def colorize_files(
    names: Sequence[str], model: str | None, output: Path, options: Options | None = None
) -> int:
    """Colour files into a folder; each result appears whole or not at all.

    Args:
      names: files, folders, patterns and links; a folder's tree is kept under `output`.
      model: see `Colorizer.load`.
      output: the folder of the results; created.
      options: what is asked of the results.

    Returns:
      0 if every picture is there, 1 if some failed; these are named on stderr.

    Raises:
      UserError: if the call is wrong; nothing is written then.
    """
    options = options or Options()
    find_model(model)
    jobs, problems = _plan(names, output, options.extension)
    if options.hints and len(jobs) + len(problems) != 1:
        raise UserError("Hints are places in one picture: name one file with them.")
    check_folder(output, "--output")
    report = Report(len(jobs) + len(problems))
    for problem in problems:
        report.failed(problem.name, problem.reason)
    todo = _choose(jobs, options.overwrite, report)
    if todo:
        with warnings.catch_warnings():  # here, as it counts for all threads
            warnings.simplefilter("ignore")
            _colorize_jobs(todo, Colorizer.load(model), output, report, options)
    report.bar.close()
    return 1 if report.failures else 0


def colorize_photo(
    photo: Photo, colorizer: Colorizer, target: Path, options: Options
) -> np.ndarray:
    """Colour one photo into a file, to the very bytes that `colorize_files` writes.

    Args:
      photo: as `read_photo` gives it.
      colorizer: of the model.
      target: the file of the result.
      options: what is asked of the result.

    Returns:
      The result, (H, W, 3) of the type of the photo's pixels.

    Raises:
      UserError: if an option is out of range.
      OSError: if the file can't be written.
    """
    [image] = _make_colorize(colorizer, options)([photo])
    _save(photo, image, target, options)
    return image


def _plan(names: Sequence[str], output: Path, extension: str) -> tuple[list[Job], list[Problem]]:
    """Return what is to be coloured, files before links, and what names nothing."""
    links = [Link(name) for name in dict.fromkeys(names) if is_link(name)]
    files = [name for name in names if not is_link(name)]
    inputs, problems = find_inputs(files, output, has_others=bool(links))
    sources: list[Path | Link] = [*(item.path for item in inputs), *links]
    places = [*(item.place for item in inputs), *(link.place for link in links)]
    targets = plan_outputs(places, output, extension)
    return [Job(*pair) for pair in zip(sources, targets, strict=True)], problems


def _choose(jobs: Sequence[Job], overwrite: bool, report: Report) -> list[Job]:
    """Return what is to be done: not over existing files, and never over an input."""
    sources = {real_path(job.source) for job in jobs if isinstance(job.source, Path)}
    todo, existing = [], []
    for job in jobs:
        if real_path(job.target) in sources:
            report.failed(job.source, f"{job.target} is itself an input: name another --output")
        elif os.path.exists(job.target) and not overwrite:
            existing.append(job)
        else:
            todo.append(job)
    report.skipped(existing)
    return todo


def _colorize_jobs(
    jobs: Sequence[Job], colorizer: Colorizer, output: Path, report: Report, options: Options
) -> None:
    colorize = _make_colorize(colorizer, options)
    with _created(output):
        for portion in _divide(jobs):
            for job, photo, error in _colorize_portion(portion, colorize, report, options):
                if error:
                    report.failed(job.source, f"{job.target} can't be written: {explain(error)}")
                    continue
                report.done(job)
                for remark in _remarks(photo, options):
                    notice(f"{printable(job.source)}: {remark}")


def _remarks(photo: Photo, options: Options) -> Iterator[str]:
    """Yield what is not as it was in a photo's file."""
    if photo.has_more:
        yield "the first of several frames or pages is coloured"
    if photo.alpha is not None and options.extension == ".jpg":
        yield "transparent parts are laid on white, as JPEG has none"
    if photo.metadata.is_damaged and options.keep_metadata:
        yield "its EXIF is damaged and left out"


def _make_colorize(
    colorizer: Colorizer, options: Options
) -> Callable[[Iterable[Photo]], Iterator[np.ndarray]]:
    """Return what colours photos, in order.

    Raises:
      UserError: if the reference can't be read.
    """
    shared: dict[str, Any] = {
        "size": options.size,
        "saturation": options.saturation,
        "upsample": options.upsample,
        "lightness": options.lightness,
        "reference": None if options.reference is None else read_palette(options.reference),
    }
    if options.hints:
        return partial(map, partial(colorizer.colorize, hints=options.hints, **shared))
    return partial(colorizer.colorize_many, **shared)


def _divide(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield portions whose pictures fit in memory together."""
    portion: list[Job] = []
    total = 0
    for job in jobs:
        pixels = _LINK_PIXELS if isinstance(job.source, Link) else count_pixels(job.source)
        if portion and total + pixels > _PORTION_PIXELS:
            yield portion
            portion, total = [], 0
        portion.append(job)
        total += pixels
    if portion:
        yield portion


def _read(limits: Limits, job: Job) -> tuple[Job, Photo | Exception]:
    try:
        if isinstance(job.source, Path):
            return job, read_photo(job.source)
        with downloaded(job.source, limits) as path:
            return job, read_photo(path)
    except (UserError, OSError) as error:  # OSError: where a download is kept, the disk may be full
        return job, error


def _colorize_portion(
    jobs: Sequence[Job],
    colorize: Callable[[Iterable[Photo]], Iterator[np.ndarray]],
    report: Report,
    options: Options,
) -> Iterator[tuple[Job, Photo, Exception | None]]:
    """Yield each job whose picture could be read, and what kept its result from being written.

    Threads decode the next pictures and encode the last ones while the network is at work.
    """
    waiting: deque[tuple[Job, Photo]] = deque()

    def read_each() -> Iterator[Photo]:
        for job, photo in map_ahead(partial(_read, options.limits), jobs, ahead=_AHEAD):
            if isinstance(photo, Exception):
                report.failed(job.source, explain(photo))
                continue
            waiting.append((job, photo))
            yield photo

    def save(result: tuple[Job, Photo, np.ndarray]) -> tuple[Job, Photo, Exception | None]:
        job, photo, image = result
        try:
            _save(photo, image, job.target, options)
        except Exception as error:  # a full disk, or what a format can't hold in many kinds
            return job, photo, error
        return job, photo, None

    results = ((*waiting.popleft(), image) for image in colorize(read_each()))
    yield from map_ahead(save, results, ahead=_AHEAD)


def _save(photo: Photo, image: np.ndarray, target: Path, options: Options) -> None:
    """Write a photo's result; see `save_picture`."""
    metadata = photo.metadata if options.keep_metadata else None
    save_picture(image, target, photo.alpha, metadata)


@contextlib.contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create a folder, and take it away again if nothing came into it."""
    existed = folder.exists()
    create_folder(folder, "--output")
    try:
        yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                folder.rmdir()
