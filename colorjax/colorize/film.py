"""Films in colour: what is predicted for each frame, steadied along the motion, then joined."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from colorjax.colorize.ahead import WORKERS, map_ahead
from colorjax.colorize.colorizer import Colorizer
from colorjax.colorize.film_reading import (
    FilmError,
    FilmReader,
    Frame,
    Span,
    is_lying,
    to_image,
)
from colorjax.colorize.film_writing import FilmWriter
from colorjax.colorize.motion import Motion, Stabilizer, find_motion, shrink_gray
from colorjax.colorize.painting import Look, paint, square_lightness
from colorjax.colorize.pictures import Photo, Picture
from colorjax.colorize.reference import Palette, read_palette
from colorjax.files import write_whole

# Frames that are read ahead of the network, and their pixels; one in any case.
_AHEAD = 8
_AHEAD_PIXELS = 20_000_000

Progress = Callable[[int, int | None], object]


@dataclass(frozen=True)
class _Shot:
    """A frame on its way.

    Attributes:
      frame: when it is shown; its picture is let go.
      photo: the frame upright.
      aspect: of a pixel as shown, width by height; None if the film doesn't say.
      gray: on which motion is found.
      motion: from the frame before; None to start anew.
    """

    frame: Frame
    photo: Photo
    aspect: Fraction | None
    gray: np.ndarray
    motion: Motion | None = None


def colorize_film(
    colorizer: Colorizer,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    start: Fraction | float = 0,
    end: Fraction | float | None = None,
    size: int | None = None,
    saturation: float = 1.0,
    upsample: str = "guided",
    reference: Palette | Picture | None = None,
    frame_by_frame: bool = False,
    keep_metadata: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a film in colour, with its own lightness, size, times and sound.

    Predicted colours are carried along the motion, so that they don't flicker; a cut starts anew.
    Frames pass through the network in batches; decoding, the network, and encoding overlap, and
    memory doesn't grow with the film.

    Args:
      colorizer: the model.
      source: a film of any kind that FFmpeg reads.
      target: MP4 (H.264), which appears whole or not at all, in place of what is there.
      start: seconds from the film's beginning; frames from here on are taken.
      end: seconds from the film's beginning; frames before it are taken. None for all.
      size: see `Colorizer.colorize`, as for the next three.
      saturation: factor of the predicted colour.
      upsample: `guided` or `bicubic`.
      reference: a picture whose palette the predicted colours are given.
      frame_by_frame: whether each frame is coloured by itself instead.
      keep_metadata: whether title, date and the like go with it.
      progress: called after each frame with how many are written and about how many there will
        be, None if the film doesn't say.

    Raises:
      FilmError: if the film can't be read to its end, or the result can't be written.
      UserError: if an argument is out of range.
    """
    if reference is not None and not isinstance(reference, Palette):
        reference = read_palette(reference)
    look = Look(saturation, upsample, palette=reference)
    span = Span(_to_fraction(start), None if end is None else _to_fraction(end))
    path = Path(target)
    with FilmReader(source, span) as reader:
        shots = _read_shots(reader)
        if not frame_by_frame:
            shots = _find_motions(shots)
        colored = _predict(shots, colorizer, size, look)
        total = reader.count_frames()

        def report(count: int) -> None:
            if progress:
                progress(count, total)

        try:
            write_whole(
                path,
                lambda draft: _write(draft, path, reader, colored, look, keep_metadata, report),
            )
        except OSError as error:
            raise FilmError(path, "written", (error.strerror or str(error)).lower()) from error


def _read_shots(reader: FilmReader) -> Iterator[_Shot]:
    def read(frame: Frame) -> _Shot:
        image = to_image(frame.picture)
        aspect = reader.aspect
        if aspect and is_lying(frame.picture):
            aspect = 1 / aspect
        return _Shot(replace(frame, picture=None), Photo(image), aspect, shrink_gray(image))

    ahead = max(1, min(_AHEAD, _AHEAD_PIXELS // reader.pixels))
    return map_ahead(read, reader.frames(), ahead)


def _find_motions(shots: Iterator[_Shot]) -> Iterator[_Shot]:
    def find(pair: tuple[_Shot, _Shot]) -> _Shot:
        before, shot = pair
        return replace(shot, motion=find_motion(before.gray, shot.gray))

    first = next(shots)
    yield first
    yield from map_ahead(find, pairwise(chain([first], shots)), ahead=WORKERS)


def _predict(
    shots: Iterator[_Shot], colorizer: Colorizer, size: int | None, look: Look
) -> Iterator[tuple[_Shot, np.ndarray]]:
    """Yield each frame with its ab, (S, S, 2) in CIE units, steadied."""
    waiting: deque[_Shot] = deque()
    stabilizer = Stabilizer()

    def photos() -> Iterator[Photo]:
        for shot in shots:
            waiting.append(shot)
            yield shot.photo

    for ab in colorizer.predict_many(photos(), size=size):
        shot = waiting.popleft()
        if look.palette:  # before steadying, as what a palette does changes with each frame
            ab = look.palette.steer(ab, square_lightness(shot.photo, len(ab)))
        yield shot, stabilizer.steady(ab, shot.motion)


def _write(
    draft: Path,
    path: Path,
    reader: FilmReader,
    colored: Iterator[tuple[_Shot, np.ndarray]],
    look: Look,
    keep_metadata: bool,
    report: Callable[[int], object],
) -> None:
    first = next(colored)
    height, width, _ = first[0].photo.pixels.shape
    look = replace(look, palette=None)
    with FilmWriter(draft, path, reader, height, width, first[0].aspect, keep_metadata) as writer:

        def finish(item: tuple[_Shot, np.ndarray]) -> tuple[Frame, Any]:
            shot, ab = item
            return shot.frame, writer.convert(paint(shot.photo, ab, look))

        finished = map_ahead(finish, chain([first], colored), ahead=WORKERS)
        for count, (frame, picture) in enumerate(finished, 1):
            writer.write(picture, frame.pts, frame.duration)
            report(count)


def _to_fraction(seconds: Fraction | float) -> Fraction:
    """Return the time that is meant: 0.1 is a tenth, not the nearest binary fraction."""
    return Fraction(seconds).limit_denominator(1_000_000)
