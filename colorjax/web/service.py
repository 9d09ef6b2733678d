"""What the page and the API share: the models, the limits, and one queue in which photos wait."""

import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from colorjax.colorize import links
from colorjax.colorize.batch import Options, colorize_photo
from colorjax.colorize.colorizer import Colorizer
from colorjax.colorize.hints import Hint
from colorjax.colorize.model import find_model
from colorjax.colorize.pictures import Photo, read_photo
from colorjax.colorize.reach import PUBLIC, Reach
from colorjax.data.decode import explain
from colorjax.errors import UserError

# What Pillow decodes by itself. Other formats that it knows start programs, or hardly occur.
_FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF")
_HINTS = 100  # of one photo; each is a search through the picture


@dataclass(frozen=True)
class Limits:
    """What may be spent on one request.

    Attributes:
      upload: bytes of a file, sent or fetched.
      pixels: of a picture.
      queue: requests that may wait while one is at work.
      seconds: from a request's arrival to its answer.
      reach: where links may lead.
    """

    upload: int = 50_000_000
    pixels: int = 50_000_000
    queue: int = 16
    seconds: float = 120.0
    reach: Reach = PUBLIC


class RefusedError(UserError):
    """A request that is not done, with the status code that HTTP has for the reason."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Result:
    """A coloured photo.

    Attributes:
      photo: as it was read.
      image: in colour, (H, W, 3) of the type of the photo's pixels.
      png: the file that `colorjax colorize` writes for it.
    """

    photo: Photo
    image: np.ndarray
    png: bytes


class Service:
    """Colours photos one after the other, each by one of several models.

    Args:
      models: see `Colorizer.load`; a model is read when it is first asked for.
      limits: what may be spent on a request.

    Raises:
      UserError: if there is no such model.
    """

    def __init__(self, models: Sequence[str | None], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._models = _name_models(models)
        for model in self._models.values():
            find_model(model)
        self._colorizers: dict[str, Colorizer] = {}
        self._slots = threading.Semaphore(self.limits.queue + 1)
        # One at a time: a photo takes all cores, and memory that several together may not have.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="colorize")

    @property
    def models(self) -> list[str]:
        """The names of the models, the first of which is taken where none is named."""
        return list(self._models)

    def load(self) -> None:
        """Read the first model, and compile what a photo needs, before the first request.

        Raises:
          UserError: if the model is damaged.
        """
        colorizer = self._find_colorizer(self.models[0])
        colorizer.colorize(np.zeros((64, 64, 3), np.uint8), hints=[Hint(0, 0, "#808080")])

    def close(self) -> None:
        """Let go of what waits, and wait for what is at work."""
        self._worker.shutdown(cancel_futures=True)

    def colorize(
        self, source: Path | links.Link, options: Options, model: str | None = None
    ) -> Result:
        """Return a photo in colour; waits until it is done, and may be called from many threads.

        Args:
          source: a file, which stays as it is, or a link.
          options: what is asked of the result.
          model: one of `models`; None for the first.

        Raises:
          RefusedError: if it can't be done, or not within the limits.
        """
        deadline = time.monotonic() + self.limits.seconds
        name = self._check_call(options, model)
        with self._admitted(), self._opened(source) as path:
            _check_picture(path, self.limits.pixels)
            return self._wait(path, options, name, deadline)

    @contextmanager
    def fetched(self, link: links.Link) -> Iterator[Path]:
        """Provide a link's picture as a file, for as long as the context lasts.

        Raises:
          RefusedError: if it can't be had, or not within the limits.
        """
        with self._admitted(), self._opened(link) as path:
            yield path

    def _check_call(self, options: Options, model: str | None) -> str:
        if len(options.hints) > _HINTS:
            raise RefusedError(422, f"These are more than {_HINTS} hints: give fewer.")
        if model is not None and model not in self._models:
            raise RefusedError(422, f"There is no model {model!r} here: name one that is listed.")
        return model or self.models[0]

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a request as waiting or at work, for as long as the context lasts."""
        if not self._slots.acquire(blocking=False):
            raise RefusedError(503, "Too many photos are waiting: try again in a minute.")
        try:
            yield
        finally:
            self._slots.release()

    @contextmanager
    def _opened(self, source: Path | links.Link) -> Iterator[Path]:
        """Provide the source as a file."""
        if isinstance(source, Path):
            yield source
            return
        size, seconds = self.limits.upload, self.limits.seconds
        limits = links.Limits(size=size, seconds=seconds, reach=self.limits.reach)
        with ExitStack() as stack:
            try:
                path = stack.enter_context(links.downloaded(source, limits))
            except UserError as error:
                raise RefusedError(422, f"The link can't be fetched: {error}.") from None
            yield path

    def _wait(self, path: Path, options: Options, model: str, deadline: float) -> Result:
        job = self._worker.submit(self._colorize, path, options, model)
        try:
            return job.result(max(deadline - time.monotonic(), 0.0))
        except TimeoutError:
            job.cancel()
            raise RefusedError(
                504, f"It takes more than {self.limits.seconds:g} seconds."
            ) from None
        except UserError:
            raise
        except Exception as error:  # of whatever kind: the server goes on, its owner is told
            traceback.print_exception(error)
            raise RefusedError(500, "It can't be coloured: the server's log says why.") from error

    def _colorize(self, path: Path, options: Options, model: str) -> Result:
        try:
            photo = read_photo(path)
        except UserError as error:
            raise _unreadable(error) from None
        colorizer = self._find_colorizer(model)
        with tempfile.TemporaryDirectory(prefix="colorjax-") as folder:
            target = Path(folder) / "result.png"
            try:
                image = colorize_photo(photo, colorizer, target, options)
            except UserError as error:
                raise RefusedError(422, str(error)) from None
            return Result(photo, image, target.read_bytes())

    def _find_colorizer(self, name: str) -> Colorizer:
        if name not in self._colorizers:
            self._colorizers[name] = Colorizer.load(self._models[name])
        return self._colorizers[name]


def _name_models(models: Sequence[str | None]) -> dict[str, str | None]:
    """Return the models by names that tell nothing of this machine's folders, if these differ."""
    named = dict.fromkeys(models)
    short = [Path(model).name if model else "default" for model in named]
    shared = Counter(short)
    pairs = zip(short, named, strict=True)
    return {name if shared[name] == 1 else str(model): model for name, model in pairs}


def _check_picture(path: Path, pixels: int) -> None:
    """Check a picture's format and size before it is decoded.

    Raises:
      RefusedError: if it is no picture, or one that is not read here.
    """
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats) as image:
                size = image.width * image.height
    except Image.DecompressionBombError:
        size = pixels + 1
    except Exception as error:  # damaged files raise many kinds
        raise _unreadable(error) from None
    if size > pixels:
        raise RefusedError(413, f"The picture has more than {pixels / 1e6:g} million pixels.")


def _unreadable(error: Exception) -> RefusedError:
    return RefusedError(422, f"The picture can't be read: {explain(error)}.")
