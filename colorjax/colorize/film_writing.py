"""Films out: MP4 with H.264, frame by frame, and the sound of the film that they come from.

It plays nearly everywhere. The usual 4:2:0 of H.264 holds even sizes alone: a film of an odd width
or height is written as 4:4:4, which keeps its size but which fewer players take.
"""

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from colorjax.colorize.film_reading import FilmReader, accurate_conversion, explained
from colorjax.colorize.film_sound import Sound

# The index goes to the front, so that a film plays while it is still being fetched.
_MUXER = {"movflags": "+faststart"}
# H.264 that the eye can hardly tell from its source.
_ENCODER = {"crf": "18", "preset": "medium"}
_BT709, _LIMITED = 1, 1  # as H.273 numbers them


class FilmWriter:
    """A film that is being written: a context, after which the file is whole.

    Args:
      path: of the file, MP4 whatever its extension.
      name: of the film, for errors.
      reader: of the film whose units of time, metadata and sound it takes over.
      height: of the frames.
      width: likewise.
      aspect: of a pixel, width by height; None if that isn't known.
      keep_metadata: whether title, date and the like go with it.

    Raises:
      FilmError: here and in the methods, if it can't be written.
    """

    def __init__(
        self,
        path: Path,
        name: Path,
        reader: FilmReader,
        height: int,
        width: int,
        aspect: Fraction | None = None,
        keep_metadata: bool = False,
    ) -> None:
        import av

        self._name, self._time_base = name, reader.time_base
        with explained(name, "written"):
            self._container = av.open(str(path), "w", format="mp4", options=_MUXER)
            if keep_metadata:
                self._container.metadata.update(reader.container.metadata)
            self._stream = self._add_stream(reader.rate, height, width, aspect)
        self._sound = Sound(reader, self._container, name)

    def __enter__(self) -> "FilmWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            with contextlib.suppress(Exception):  # the first error is the one to tell of
                self._close()
            return
        try:
            with explained(self._name, "written"):
                self._container.mux(self._stream.encode())
            self._sound.copy_until(None)
        finally:
            with explained(self._name, "written"):
                self._close()

    def convert(self, image: np.ndarray) -> Any:
        """Return an image, uint8 (H, W, 3), as a picture to `write`; may be called in threads."""
        import av

        return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
            width=self._stream.width,
            height=self._stream.height,
            format=self._stream.pix_fmt,
            interpolation=accurate_conversion(),
            dst_colorspace="ITU709",
            dst_color_range="MPEG",
        )

    def write(self, picture: Any, pts: int, duration: int) -> None:
        """Write a picture, and the sound up to it.

        Args:
          picture: from `convert`.
          pts: when it is shown, in the reader's units of time, later than the last.
          duration: how long it is shown, likewise.
        """
        picture.pts, picture.duration, picture.time_base = pts, duration, self._time_base
        with explained(self._name, "written"):
            self._container.mux(self._stream.encode(picture))
        self._sound.copy_until(pts * self._time_base)

    def _add_stream(self, rate: Fraction, height: int, width: int, aspect: Fraction | None) -> Any:
        stream = self._container.add_stream("libx264", rate=rate, options=_ENCODER)
        context = stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        stream.time_base = context.time_base = self._time_base
        context.color_range = _LIMITED
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        if aspect:
            context.sample_aspect_ratio = aspect
        return stream

    def _close(self) -> None:
        self._sound.close()
        self._container.close()
