"""Many files coloured in one go: what can be done is done, what can't is named."""

import contextlib
import itertools
import os
import posixpath
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
from colorjax.colorize.film_progress import FilmProgress, tidied_on_sigterm
from colorjax.colorize.film_reading import FilmError, Span, is_film
from colorjax.colorize.hints import Hint
from colorjax.colorize.inputs import Problem, find_inputs, plan_outputs, real_path
from colorjax.colorize.links import Limits, Link, downloaded, is_link
from colorjax.colorize.model import find_model
from colorjax.colorize.painting import Look
from colorjax.colorize.pictures import Photo, count_pixels, read_photo, save_picture
from colorjax.colorize.reference import Palette, read_palette
from colorjax.colorize.storage import (
    StoredFile,
    find_stored,
    is_stored,
    list_urls,
    normalize,
    strip_local,
)
from colorjax.console import notice, printable, say
from colorjax.data.decode import explain
from colorjax.errors import UserError
from colorjax.files import check_folder, create_folder

# Pixels of the pictures that are under way at a time. The largest picture is alone then, and takes
# the memory that many smaller ones share.
_PORTION_PIXELS = 60_000_000
_LINK_PIXELS = 10_000_000  # of a link's picture, as long as it isn't known
_BYTE_PIXELS = 10  # of a stored picture, for each byte of its file: JPEG's photos have 2 to 10
_AHEAD = 8  # pictures that are decoded ahead, and that wait to be encoded


@dataclass(frozen=True)
class Options:
    """What is asked of the results; see `Colorizer.colorize` for the first six.

    Attributes:
      size: of the network's square.
      saturation: factor of the colour.
      upsample: `guided` or `bicubic`.
      lightness: `input` or `network`.
      reference: a picture whose palette is followed, or its palette.
      hints: for one picture.
      keep_metadata: whether EXIF and XMP go with the results.
      overwrite: whether existing files are written anew, instead of left as they are.
      extension: of the results of pictures, `.png` or `.jpg`.
      span: the part of films that is coloured.
      frame_by_frame: whether a film's frames are coloured each by itself.
      limits: of what is spent on a link.
    """

    size: int | None = None
    saturation: float = 1.0
    upsample: str = "guided"
    lightness: str = "input"
    reference: Path | Palette | None = None
    hints: Sequence[Hint] = ()
    keep_metadata: bool = False
    overwrite: bool = False
    extension: str = ".png"
    span: Span = field(default_factory=Span)
    frame_by_frame: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Job:
    """A file or link, and where its picture in colour goes."""

    source: Path | Link | StoredFile
    target: Path | StoredFile


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
      job: that was to be done.
      problem: why there is no result; "" if there is one.
      remarks: of what is not as it was in the picture's file.
    """

    job: Job
    problem: str = ""
    remarks: tuple[str, ...] = ()


# Colours the pictures of jobs with the model of that name. The outcomes come one by one, in any
# order; what is wrong with the call is raised before the first.
Engine = Callable[[Sequence[Job], str | None, Options], Iterator[Outcome]]


@dataclass
class Report:
    """Tells what becomes of each file: a bar on a terminal, a line for each when piped."""

    total: int
    failures: int = 0
    bar: tqdm = field(init=False)

    def __post_init__(self) -> None:
        self.bar = tqdm(total=self.total, unit="picture", disable=not sys.stderr.isatty())

    def tell(self, outcome: Outcome) -> None:
        """Tell of a picture that was to be coloured."""
        if outcome.problem:
            self.failed(outcome.job.source, outcome.problem)
            return
        self.done(outcome.job)
        for remark in outcome.remarks:
            notice(f"{printable(outcome.job.source)}: {remark}")

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

    def failed(self, name: str | Path | Link | StoredFile, reason: str) -> None:
        """Tell of an input that could not be coloured."""
        self.bar.update()
        self.failures += 1
        notice(f"{printable(name)}: failed, {printable(reason)}")


def colorize_here(jobs: Sequence[Job], model: str | None, options: Options) -> Iterator[Outcome]:
    """Colour pictures in this process: the engine `local`; see `Engine`."""
    return colorize_jobs(jobs, Colorizer.load(model), options)


def colorize_files(
    names: Sequence[str],
    model: str | None,
    output: Path | str,
    options: Options | None = None,
    engine: Engine = colorize_here,
) -> int:
    """Colour files into a folder; each result appears whole or not at all.

    Args:
      names: files, folders, patterns, links and URLs of storage; a folder's tree is kept under
        `output`.
      model: see `Colorizer.load`.
      output: the folder of the results, or a URL of storage; created.
      options: what is asked of the results.
      engine: does the work.

    Returns:
      0 if every picture is there, 1 if some failed; these are named on stderr.

    Raises:
      UserError: if the call is wrong; nothing is written then.
    """
    options = options or Options()
    find_model(model)
    folder = _parse_output(output)
    jobs, problems = _plan(names, folder, options.extension)
    if options.hints and len(jobs) + len(problems) != 1:
        raise UserError("Hints are places in one picture: name one file with them.")
    _check_films(jobs, options)
    if isinstance(folder, Path):
        check_folder(folder, "--output")
    report = Report(len(jobs) + len(problems))
    for problem in problems:
        report.failed(problem.name, problem.reason)
    todo = _choose(jobs, folder, options.overwrite, report)
    if todo:
        with warnings.catch_warnings():  # here, as it counts for all threads
            warnings.simplefilter("ignore")
            outcomes = engine(todo, model, options)
            with _created(folder):
                for outcome in outcomes:
                    report.tell(outcome)
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


def _parse_output(output: Path | str) -> Path | StoredFile:
    """Return the folder of the results, on this machine or on storage."""
    name = str(output)
    return StoredFile(normalize(name)) if is_stored(name) else Path(strip_local(name))


def _plan(
    names: Sequence[str], output: Path | StoredFile, extension: str
) -> tuple[list[Job], list[Problem]]:
    """Return what is to be coloured, files before links, and what names nothing."""
    links = [Link(name) for name in dict.fromkeys(names) if is_link(name)]
    stored_names = [name for name in names if is_stored(name)]
    files = [strip_local(name) for name in names if not (is_link(name) or is_stored(name))]
    has_others = bool(links or stored_names)
    inputs, problems = find_inputs(files, Path(str(output)), has_others)
    stored, more_problems = find_stored(stored_names, str(output), bool(links or inputs))
    sources: list[Path | Link | StoredFile] = [*(item.path for item in inputs), *stored, *links]
    places = [*(i.place for i in inputs), *(i.place for i in stored), *(i.place for i in links)]
    targets = _plan_targets(places, output, extension)
    jobs = [Job(*pair) for pair in zip(sources, targets, strict=True)]
    return jobs, problems + more_problems


def _plan_targets(
    places: Sequence[Path], output: Path | StoredFile, extension: str
) -> Sequence[Path | StoredFile]:
    if isinstance(output, Path):
        return plan_outputs(places, output, extension)
    planned = plan_outputs(places, Path(), extension)
    return [StoredFile(posixpath.join(output.url, place.as_posix())) for place in planned]


def _choose(
    jobs: Sequence[Job], output: Path | StoredFile, overwrite: bool, report: Report
) -> list[Job]:
    """Return what is to be done: not over existing files, and never over an input."""
    sources = {_identify(job.source) for job in jobs}
    # One listing instead of a question for each file.
    listed = None if isinstance(output, Path) else list_urls(output.url)
    todo, existing = [], []
    for job in jobs:
        name = str(job.target)
        exists = os.path.exists(name) if listed is None else name in listed
        if _identify(job.target) in sources:
            report.failed(job.source, f"{job.target} is itself an input: name another --output")
        elif exists and not overwrite:
            existing.append(job)
        else:
            todo.append(job)
    report.skipped(existing)
    return todo


def _identify(place: Path | Link | StoredFile) -> Path | Link | StoredFile:
    return real_path(place) if isinstance(place, Path) else place


def colorize_jobs(jobs: Sequence[Job], colorizer: Colorizer, options: Options) -> Iterator[Outcome]:
    """Return an iterator over what becomes of each job; the work is done as it goes on.

    Raises:
      UserError: if the reference can't be read, or, with films, an option is out of range.
    """
    colorize = _make_colorize(colorizer, options)
    pictures = [job for job in jobs if not _is_film(job)]
    films = [job for job in jobs if _is_film(job)]
    if films:  # what is wrong with the call is raised before anything is written
        Look(options.saturation, options.upsample)
        colorizer.predict_many((), size=options.size)
    portions = (_colorize_portion(portion, colorize, options) for portion in _divide(pictures))
    return itertools.chain(
        itertools.chain.from_iterable(portions),
        (_colorize_film(job, colorizer, options) for job in films),
    )


def _is_film(job: Job) -> bool:
    return not isinstance(job.source, Link) and is_film(str(job.source))


def _check_films(jobs: Sequence[Job], options: Options) -> None:
    """Check that what is asked for can be had of films, or without them."""
    if not any(map(_is_film, jobs)):
        if options.span != Span():
            raise UserError("--start and --end cut films: name one with them.")
    elif options.hints:
        raise UserError("Hints are places in one picture, and films move: leave --hint out.")
    elif options.lightness != "input":
        raise UserError("Films keep their own lightness: leave --lightness network out.")


def _colorize_film(job: Job, colorizer: Colorizer, options: Options) -> Outcome:
    from colorjax.colorize.film import colorize_film  # heavy, and few calls have films

    progress = FilmProgress(printable(job.source))

    def write(source: Path, target: Path) -> None:
        colorize_film(
            colorizer,
            source,
            target,
            start=options.span.start,
            end=options.span.end,
            size=options.size,
            saturation=options.saturation,
            upsample=options.upsample,
            reference=options.reference,
            frame_by_frame=options.frame_by_frame,
            keep_metadata=options.keep_metadata,
            progress=progress.update,
        )

    try:
        with tidied_on_sigterm(), _at_hand(job.source, options.limits) as source:
            if isinstance(job.target, Path):
                write(source, job.target)
            else:
                job.target.store(partial(write, source))
    except FilmError as error:
        return Outcome(job, error.reason)
    except (UserError, OSError) as error:  # of storage, or the model's weights
        return Outcome(job, explain(error))
    finally:
        progress.close()
    return Outcome(job)


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
    reference = options.reference
    if isinstance(reference, Path):
        reference = read_palette(reference)
    shared: dict[str, Any] = {
        "size": options.size,
        "saturation": options.saturation,
        "upsample": options.upsample,
        "lightness": options.lightness,
        "reference": reference,
    }
    if options.hints:
        return partial(map, partial(colorizer.colorize, hints=options.hints, **shared))
    return partial(colorizer.colorize_many, **shared)


def _divide(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield portions whose pictures fit in memory together."""
    portion: list[Job] = []
    total = 0
    for job in jobs:
        pixels = _guess_pixels(job.source)
        if portion and total + pixels > _PORTION_PIXELS:
            yield portion
            portion, total = [], 0
        portion.append(job)
        total += pixels
    if portion:
        yield portion


def _guess_pixels(source: Path | Link | StoredFile) -> int:
    if isinstance(source, Path):
        return count_pixels(source)
    return getattr(source, "size", 0) * _BYTE_PIXELS or _LINK_PIXELS


def _read(limits: Limits, job: Job) -> tuple[Job, Photo | Exception]:
    try:
        with _at_hand(job.source, limits) as path:
            return job, read_photo(path)
    except (UserError, OSError) as error:  # OSError: where a download is kept, the disk may be full
        return job, error


def _at_hand(
    source: Path | Link | StoredFile, limits: Limits
) -> contextlib.AbstractContextManager[Path]:
    """Provide a source as a file on this machine."""
    if isinstance(source, Path):
        return contextlib.nullcontext(source)
    return source.fetched() if isinstance(source, StoredFile) else downloaded(source, limits)


def _colorize_portion(
    jobs: Sequence[Job],
    colorize: Callable[[Iterable[Photo]], Iterator[np.ndarray]],
    options: Options,
) -> Iterator[Outcome]:
    """Yield what becomes of each job.

    Threads decode the next pictures and encode the last ones while the network is at work.
    """
    waiting: deque[tuple[Job, Photo]] = deque()
    unread: deque[Outcome] = deque()

    def read_each() -> Iterator[Photo]:
        for job, photo in map_ahead(partial(_read, options.limits), jobs, ahead=_AHEAD):
            if isinstance(photo, Exception):
                unread.append(Outcome(job, explain(photo)))
                continue
            waiting.append((job, photo))
            yield photo

    def save(result: tuple[Job, Photo, np.ndarray]) -> Outcome:
        job, photo, image = result
        try:
            _save(photo, image, job.target, options)
        except Exception as error:  # a full disk, or what a format can't hold in many kinds
            return Outcome(job, f"{job.target} can't be written: {explain(error)}")
        return Outcome(job, remarks=tuple(_remarks(photo, options)))

    results = ((*waiting.popleft(), image) for image in colorize(read_each()))
    for outcome in map_ahead(save, results, ahead=_AHEAD):
        while unread:
            yield unread.popleft()
        yield outcome
    yield from unread


def _save(photo: Photo, image: np.ndarray, target: Path | StoredFile, options: Options) -> None:
    """Write a photo's result; see `save_picture`."""

    def write(path: Path) -> None:
        metadata = photo.metadata if options.keep_metadata else None
        save_picture(image, path, photo.alpha, metadata)

    write(target) if isinstance(target, Path) else target.store(write)


@contextlib.contextmanager
def _created(folder: Path | StoredFile) -> Iterator[None]:
    """Create a folder, and take it away again if nothing came into it; storage needs none."""
    if not isinstance(folder, Path):
        yield
        return
    existed = folder.exists()
    create_folder(folder, "--output")
    try:
        yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                folder.rmdir()
