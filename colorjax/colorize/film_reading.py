"""Films in: frames with their times, upright and in sRGB, through PyAV (FFmpeg's libraries)."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from colorjax.errors import UserError

# fmt: off
FILM_EXTENSIONS = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts",
    ".m2ts", ".wmv", ".flv", ".ogv", ".3gp",
})
# fmt: on

_MAX_PIXELS = 40_000_000  # of a frame: 8K has 33 million
_MISSING = Fraction(1, 100)  # share of a film's length that may be missing at its end
_MICROSECOND = Fraction(1, 1_000_000)
_RGB_SPACES = {
    1,
    4,
    5,
    6,
    7,
    9,
    10,
}  # what a film can say of its colours; other numbers say nothing
_HD = 720  # rows from which players take colours that nothing is said of for BT.709


class FilmError(UserError):
    """A film that can't be read or written.

    Attributes:
      reason: what is wrong, in a few words and without the name of a film that is read.
    """

    def __init__(self, path: str | os.PathLike[str], verb: str, reason: str) -> None:
        sentence = f"{os.fspath(path)} can't be {verb}: {reason}"
        super().__init__(f"{sentence}.")
        self.reason = reason if verb == "read" else sentence


@dataclass(frozen=True)
class Span:
    """The part of a film that is asked for, in seconds from the film's beginning.

    Attributes:
      start: frames from here on.
      end: frames before this; None for all.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise UserError("A film's part starts at 0 seconds or later, and ends after its start.")


@dataclass(frozen=True)
class Frame:
    """A decoded frame.

    Attributes:
      picture: an `av.VideoFrame`, as it lies in the file; see `to_image`.
      pts: when it is shown, in the film's units of time from the start of the part asked for.
      duration: how long, likewise.
    """

    picture: Any
    pts: int
    duration: int


def is_film(path: str | os.PathLike[str]) -> bool:
    """Return whether a path's extension is that of a film."""
    return Path(path).suffix.lower() in FILM_EXTENSIONS


def parse_time(text: str) -> Fraction:
    """Return the seconds that `90`, `90.5`, `1:30` or `0:01:30.5` stand for.

    Raises:
      UserError: if it stands for none.
    """
    # Films say such times too: short, as a number like 1e999999999 would take all memory.
    if not re.fullmatch(r"(\d{1,9}:){0,2}(\d{1,9}(\.\d{0,9})?|\.\d{1,9})", text, re.ASCII):
        raise UserError(f"{text!r} is no time: give seconds or h:m:s, such as 90.5 or 0:01:30.5.")
    parts = [Fraction(part) for part in reversed(text.split(":"))]
    return sum((part * 60**power for power, part in enumerate(parts)), Fraction(0))


class FilmReader:
    """A film that is open for reading: a context whose frames can be gone through once.

    Args:
      path: of the file.
      span: the part that is asked for.

    Attributes:
      path: as given.
      span: as given.
      container: PyAV's.
      time_base: seconds that a unit of time is long.
      rate: frames a second, about.
      pixels: of a frame.
      aspect: of a pixel, width by height, as it lies in the file; None if the film doesn't say.
      origin: seconds that stand in the file where the part asked for starts.

    Raises:
      FilmError: if it can't be opened, has no moving pictures or frames that are too large.
    """

    def __init__(self, path: str | os.PathLike[str], span: Span | None = None) -> None:
        self.path, self.span = Path(path), span or Span()
        with explained(self.path, "read"):
            self.container = open_film(self.path)
            try:
                self._stream = self._find_stream()
            except FilmError:
                self.container.close()
                raise
        self._stream.thread_type = "AUTO"
        self.pixels = max(1, self._stream.codec_context.width * self._stream.codec_context.height)
        self.time_base: Fraction = self._stream.time_base
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = rate if rate and 0 < rate <= 1000 else Fraction(25)
        self.aspect: Fraction | None = self._stream.sample_aspect_ratio
        # Films may begin at any time, such as that of a day's broadcast.
        self._beginning = (self.container.start_time or 0) * _MICROSECOND
        self.origin = self._beginning + self.span.start

    def __enter__(self) -> "FilmReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.container.close()

    def count_frames(self) -> int | None:
        """Return about how many frames the part asked for has; None if the film doesn't say."""
        length = self._find_length()
        if length is None:
            return None
        end = length if self.span.end is None else min(length, self.span.end)
        return max(1, round((end - self.span.start) * self.rate))

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of the part asked for, in the order in which they are shown.

        Raises:
          FilmError: if one is damaged, there are none, or the file ends too early.
        """
        origin = round(self.origin / self.time_base)
        end = None if self.span.end is None else (self.span.end - self.span.start) / self.time_base
        last: Frame | None = None
        for picture in self._decode():
            duration = int(picture.duration or 0) or round(1 / (self.rate * self.time_base))
            frame = Frame(picture, _find_pts(picture, origin, last), duration)
            if end is not None and frame.pts >= end:
                break
            if frame.pts < 0 and self.span.start:
                continue
            self._check(frame)
            last = frame
            yield frame
        if last is None:
            raise FilmError(self.path, "read", self._explain_emptiness())

    def _find_stream(self) -> Any:
        from av.stream import Disposition

        for stream in self.container.streams.video:
            if stream.disposition & Disposition.attached_pic:  # the cover of a piece of music
                continue
            context = stream.codec_context
            if context is None:
                raise FilmError(self.path, "read", "FFmpeg can't decode pictures of their kind")
            if context.width * context.height > _MAX_PIXELS:
                size = f"{context.width}x{context.height}"
                limit = f"{_MAX_PIXELS / 1e6:g} million"
                raise FilmError(
                    self.path, "read", f"its frames of {size} pixels have more than {limit}"
                )
            return stream
        raise FilmError(self.path, "read", "it has no moving pictures")

    def _decode(self) -> Iterator[Any]:
        if self.span.start:
            self._seek()
        reached = None
        with explained(self.path, "read"):
            for packet in self.container.demux(self._stream):
                if packet.is_corrupt:
                    raise FilmError(self.path, "read", "it breaks off in the middle of a frame")
                if packet.pts is not None:
                    reached = max(reached or 0, packet.pts + (packet.duration or 0))
                yield from packet.decode()
        self._check_length(reached)

    def _seek(self) -> None:
        """Go to a frame before the start that can be decoded by itself."""
        import av

        with contextlib.suppress(av.FFmpegError):  # then it is read from its beginning
            self.container.seek(round(self.origin / self.time_base), stream=self._stream)

    def _check(self, frame: Frame) -> None:
        if frame.picture.is_corrupt:
            seconds = float(self.span.start + frame.pts * self.time_base)
            raise FilmError(self.path, "read", f"the frame at {seconds:.2f} s is damaged")

    def _check_length(self, reached: int | None) -> None:
        """Check that the file goes on as long as its header says."""
        length = self._find_length()
        if length is None or reached is None:
            return
        there = reached * self.time_base - self._beginning
        if length - there > length * _MISSING + 2 / self.rate:
            seconds = f"{float(there):.2f} of {float(length):.2f} s"
            raise FilmError(self.path, "read", f"it breaks off after {seconds}")

    def _find_length(self) -> Fraction | None:
        """Return the seconds to the end of the pictures, as the file says; None if it doesn't."""
        stream = self._stream
        if stream.duration:
            end = ((stream.start_time or 0) + stream.duration) * self.time_base
            return end - self._beginning
        try:  # Matroska has it in a tag, as 00:01:30.500000000
            return parse_time(stream.metadata["DURATION"]) - self._beginning
        except (KeyError, UserError):
            return None

    def _explain_emptiness(self) -> str:
        length = self._find_length()
        if length is not None and self.span.start >= length > 0:
            return f"it ends at {float(length):.2f} s, before --start"
        return "there are no frames in it" if self.span == Span() else "no frame is shown then"


def to_image(picture: Any) -> np.ndarray:
    """Return a decoded frame (`av.VideoFrame`) as it is shown, upright: uint8 (H, W, 3), sRGB."""
    is_untold = picture.colorspace not in _RGB_SPACES
    image = picture.to_ndarray(
        format="rgb24",
        interpolation=accurate_conversion(),
        src_colorspace="ITU709" if is_untold and picture.height >= _HD else None,
    )
    return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90)))


def is_lying(picture: Any) -> bool:
    """Return whether a decoded frame is shown turned by a quarter, so that its sides swap."""
    return round(picture.rotation / 90) % 2 == 1


def accurate_conversion() -> int:
    """Return FFmpeg's flags for a conversion of colours that loses little.

    By default it rounds down: an error of 2.2 levels there and back, instead of 0.6.
    """
    from av.video.reformatter import Interpolation as Flag

    return int(Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.FULL_CHR_H_INP)


def open_film(path: Path) -> Any:
    """Return an `av.InputContainer`."""
    import av

    return av.open(str(path), metadata_errors="replace")


@contextlib.contextmanager
def explained(path: Path, verb: str) -> Iterator[None]:
    """Turn what FFmpeg or the system raise for a file into a FilmError."""
    import av

    try:
        yield
    except av.InvalidDataError as error:
        raise FilmError(path, verb, "it is damaged, or no film that FFmpeg knows") from error
    except (av.FFmpegError, OSError) as error:
        raise FilmError(path, verb, (error.strerror or str(error)).lower()) from error


def _find_pts(picture: Any, origin: int, last: Frame | None) -> int:
    """Return when a frame is shown, from the origin; later than the last in any case."""
    if last is None:
        return 0 if picture.pts is None else picture.pts - origin
    if picture.pts is None:
        return last.pts + max(1, last.duration)
    return max(last.pts + 1, picture.pts - origin)
