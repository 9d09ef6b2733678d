"""Pictures in: whatever Pillow reads, upright and in sRGB; pictures out: whole or not at all."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from colorjax.colorize import deep, profiles
from colorjax.colorize.metadata import Metadata, read_metadata
from colorjax.colorize.png import write_deep_png
from colorjax.data.decode import explain
from colorjax.errors import UserError
from colorjax.files import write_whole

_STRIP = 2**20  # pixels that are laid on white at a time


@dataclass(frozen=True)
class Photo:
    """A picture, upright and in sRGB.

    Attributes:
      pixels: uint8 or uint16 (H, W, 3), not laid on anything; perhaps a view of one gray channel.
      alpha: (H, W) of the same type, 0 where nothing is to be seen; None if there is none.
      metadata: of its file.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = Metadata()


Picture = Photo | Image.Image | np.ndarray | str | os.PathLike[str]


def read_picture(picture: Picture) -> np.ndarray:
    """Return a picture as an array (H, W, 3), upright, in sRGB and laid on white.

    Args:
      picture: see `read_photo`.

    Returns:
      uint16 for a uint16 array or a photo of that kind, else uint8.

    Raises:
      UserError: if it can't be read, or is an array of another kind.
    """
    photo = read_photo(picture)
    pixels = photo.pixels
    if not isinstance(picture, Photo | np.ndarray):
        pixels, photo = to_8_bits(pixels), Photo(pixels, photo.alpha)
    return pixels if photo.alpha is None else lay_on_white(pixels, photo.alpha)


def read_photo(picture: Picture) -> Photo:
    """Return a picture with all that is to be kept of it.

    EXIF orientation is applied, an ICC profile is converted to sRGB, samples of more than 8 bits
    become 16, and of several frames the first is taken. Of colours with a profile other than
    curves and a matrix, of CMYK and of Lab 8 bits are kept.

    Args:
      picture: a path, a PIL image (whose colours have 8 bits), a photo, or uint8 or uint16
        (H, W) or (H, W, 3).

    Raises:
      UserError: if it can't be read, or is an array of another kind.
    """
    if isinstance(picture, Photo):
        return picture
    if not isinstance(picture, Image.Image | str | os.PathLike):
        return Photo(_check_array(np.asarray(picture)))
    with _explained(picture):
        if isinstance(picture, Image.Image):
            return _read_image(ImageOps.exif_transpose(picture))
        return _read_file(Path(picture))


def explain_unread(error: UserError) -> str:
    """Return why a picture could not be read, without the picture's name."""
    return explain(error.__cause__) if isinstance(error.__cause__, Exception) else str(error)


def save_picture(
    image: np.ndarray,
    path: Path,
    alpha: np.ndarray | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write a picture as the extension says; the file appears whole or not at all.

    Args:
      image: uint8 or uint16 (H, W, 3); a JPEG has 8 bits.
      path: `.png` or `.jpg`.
      alpha: (H, W) of the same type; a JPEG is laid on white by it.
      metadata: to be stored with it.

    Raises:
      OSError: if it can't be written.
      ValueError: if the format can't hold it.
    """
    if path.suffix == ".jpg":
        image = to_8_bits(image if alpha is None else lay_on_white(image, alpha))
        write_whole(path, lambda draft: _save_jpeg(image, draft, metadata))
        return
    if alpha is not None:
        image = np.dstack([image, alpha])
    save = _save_png if image.dtype == np.uint8 else write_deep_png
    write_whole(path, lambda draft: save(image, draft, metadata))


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Return uint8 for uint8 or uint16 of any shape, rounded to nearest."""
    if values.dtype == np.uint8:
        return values
    # 257 = 65535 / 255; strips of rows keep the wider sums from filling the memory.
    result = np.empty(values.shape, np.uint8)
    for rows in _strips(values):
        result[rows] = (values[rows].astype(np.uint32) + 128) // 257
    return result


def lay_on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return pixels (H, W, 3) over white by their alpha (H, W), all of one integer type."""
    white = np.iinfo(pixels.dtype).max
    result = np.empty(pixels.shape, pixels.dtype)
    for rows in _strips(pixels):
        opacity = alpha[rows, :, None].astype(np.float32) / alpha_white(alpha)
        result[rows] = np.round(white - opacity * (white - pixels[rows].astype(np.float32)))
    return result


def alpha_white(alpha: np.ndarray) -> int:
    """Return the alpha of what is opaque."""
    return int(np.iinfo(alpha.dtype).max)


def _strips(pixels: np.ndarray) -> Iterator[slice]:
    rows = max(1, _STRIP // pixels.shape[1])
    return (slice(top, top + rows) for top in range(0, len(pixels), rows))
