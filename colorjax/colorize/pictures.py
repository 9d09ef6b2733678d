"""Pictures in: whatever Pillow reads, upright and in sRGB; pictures out: whole or not at all."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from colorjax.colorize import deep, profiles
from colorjax.colorize.metadata import Metadata, read_metadata
from colorjax.colorize.png import write_deep_png
from colorjax.data.decode import explain, make_upright, open_image
from colorjax.errors import UserError
from colorjax.files import write_whole

Picture = Image.Image | np.ndarray | str | os.PathLike[str]

LONGEST_JPEG = 65_500  # pixels a side that libjpeg writes

_STRIP = 2**20  # pixels that are converted at a time, where wider types would fill the memory


@dataclass(frozen=True)
class Photo:
    """A picture with all that is kept of its file.

    Attributes:
      pixels: uint8 or uint16 (H, W, 3), upright, sRGB, not laid on anything; perhaps three views
        of one gray channel.
      alpha: (H, W) of the same type, 0 where nothing is to be seen; None if there is none.
      metadata: of the file.
      has_more: whether the file holds further frames or pages, which are left out.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = field(default_factory=Metadata)
    has_more: bool = False

    def on_white(self) -> np.ndarray:
        """Return the pixels laid on white."""
        return self.pixels if self.alpha is None else _lay_on_white(self.pixels, self.alpha)


def read_picture(picture: Picture) -> np.ndarray:
    """Return a picture as an array (H, W, 3), upright, in sRGB and laid on white.

    Args:
      picture: a path, a PIL image, or uint8 or uint16 (H, W) or (H, W, 3).

    Returns:
      uint16 for a uint16 array, else uint8.

    Raises:
      UserError: if it can't be read, or is an array of another kind.
    """
    if isinstance(picture, str | os.PathLike):
        return to_8_bits(read_photo(picture).on_white())
    if not isinstance(picture, Image.Image):
        return _check_array(np.asarray(picture))
    with _explained("The image"):
        image = picture.copy()
        make_upright(image)
        return to_8_bits(_convert(image).on_white())


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Return a file's picture with all that is to be kept of it.

    EXIF orientation is applied, an ICC profile is converted to sRGB, samples of more than 8 bits
    become 16, and of several frames the first is taken. CMYK, Lab and colours whose profile is
    more than curves and a matrix come out in 8 bits.

    Raises:
      UserError: if it can't be read.
    """
    path = Path(path)
    with _explained(str(path)):
        with open_image(path) as image:
            deep.check_planes(image)
            has_more = _has_more(image)
            if not deep.is_deep_color(image):
                make_upright(image)
                return replace(_convert(image), has_more=has_more)
        pixels = deep.read_deep_color(path)
        with open_image(path) as image:
            photo = _convert_deep_color(pixels, image) or _convert(image)
            return replace(photo, has_more=has_more)


def count_pixels(path: str | os.PathLike[str]) -> int:
    """Return how many pixels a file says that its picture has; 0 if it can't be read."""
    try:
        with _explained(""), open_image(Path(path)) as image:
            return image.width * image.height
    except UserError:
        return 0


def save_picture(
    image: np.ndarray,
    path: Path,
    alpha: np.ndarray | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write a picture as the extension says; the file appears whole or not at all.

    Args:
      image: uint8 or uint16 (H, W, 3), sRGB.
      path: `.png`, of the depth of `image`, or `.jpg`, of 8 bits and laid on white.
      alpha: (H, W) of the same type.
      metadata: to be stored with it.

    Raises:
      OSError: if it can't be written.
      ValueError: if the format can't hold it.
    """
    metadata = metadata or Metadata()
    if path.suffix == ".jpg":
        if max(image.shape) > LONGEST_JPEG:
            raise ValueError(f"a JPEG has at most {LONGEST_JPEG:,} pixels a side")
        pixels = to_8_bits(Photo(image, alpha).on_white())
        options: dict[str, Any] = {"quality": 95, "exif": metadata.exif, "xmp": metadata.xmp}
    else:
        pixels = image if alpha is None else np.dstack([image, alpha])
        options = {"exif": metadata.exif or None, "pnginfo": _png_text(metadata)}
    if pixels.dtype == np.uint16:
        write_whole(path, lambda draft: write_deep_png(pixels, draft, metadata))
    else:
        write_whole(path, lambda draft: Image.fromarray(pixels).save(draft, **options))


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Return uint8 for uint8 or uint16 (H, W, C), rounded to nearest."""
    if values.dtype == np.uint8:
        return values
    result = np.empty(values.shape, np.uint8)
    for rows in _strips(values):
        result[rows] = (values[rows].astype(np.uint32) + 128) // 257
    return result


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises for a picture of that name into a UserError."""
    try:
        # Pillow warns of large pictures, refusing those of more than 179 million pixels, and of
        # what is odd in a file.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # damaged files raise many kinds
        raise UserError(f"{name} can't be read: {explain(error)}.") from error


def _has_more(image: Image.Image) -> bool:
    """Return whether an opened file holds pictures beside the first that are worth a word.

    JPEG's are not: cameras add maps of depth or of highlights.
    """
    try:
        return image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False)
    except Exception:  # the first may be whole although what follows isn't
        return False


def _check_array(array: np.ndarray) -> np.ndarray:
    is_gray, is_rgb = array.ndim == 2, array.ndim == 3 and array.shape[2] == 3
    if array.dtype not in (np.uint8, np.uint16) or not (is_gray or is_rgb) or not array.size:
        raise UserError(
            "A picture is a uint8 or uint16 array (H, W) or (H, W, 3), not "
            f"{array.dtype} {array.shape}."
        )
    return _repeat(array) if is_gray else array


def _convert(image: Image.Image) -> Photo:
    """Return an upright image in sRGB, of 8 bits but for deep gray."""
    metadata = read_metadata(image)
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        pixels = _deep_gray(image)
        colors = _convert_deep(pixels, profile)
        if colors is not None:
            return Photo(_repeat(colors[..., 0]), _find_key_color(pixels, image), metadata)
        image = Image.fromarray(to_8_bits(pixels)[..., 0])
    is_gray = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if alpha is not None or image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("L" if is_gray else "RGB")
    return Photo(_to_srgb(image, profile), alpha, metadata)


def _to_srgb(image: Image.Image, profile: bytes | None) -> np.ndarray:
    """Return uint8 (H, W, 3) of an image of a mode that ImageCms takes."""
    converted = profiles.convert_to_srgb(image, profile) if profile else None
    if converted is None and image.mode == "LAB":
        converted = profiles.lab_to_srgb(image)
    pixels = np.asarray(converted or (image if image.mode == "L" else image.convert("RGB")))
    return _repeat(pixels) if pixels.ndim == 2 else pixels


def _convert_deep_color(pixels: np.ndarray, image: Image.Image) -> Photo | None:
    """Return upright deep pixels in sRGB; None if only 8 bits can be converted.

    Args:
      pixels: uint16 (H, W, 3 or 4).
      image: the opened file, which is loaded and made upright.
    """
    make_upright(image)
    colors = pixels[..., :3]
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else _find_key_color(colors, image)
    converted = _convert_deep(colors, image.info.get("icc_profile"))
    return None if converted is None else Photo(converted, alpha, read_metadata(image))


def _convert_deep(pixels: np.ndarray, profile: bytes | None) -> np.ndarray | None:
    """Return uint16 (H, W, C) in sRGB; None if the profile is one that takes 8 bits."""
    if not profile or profiles.is_srgb(profile):
        return pixels
    shaper = profiles.find_shaper(profile, pixels.shape[2])
    return shaper.to_srgb(pixels) if shaper else None


def _deep_gray(image: Image.Image) -> np.ndarray:
    """Return 16-bit, integer or float gray as uint16 (H, W, 1)."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    values = np.nan_to_num(np.asarray(image, np.float32))
    # Floats and 32 bits don't say what white is, so the usual whites are tried.
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    peak = float(values.max())
    white = next((white for white in whites if peak <= white), peak)
    return np.round(np.clip(values / white, 0.0, 1.0) * 65535.0).astype(np.uint16)[..., None]


def _find_key_color(pixels: np.ndarray, image: Image.Image) -> np.ndarray | None:
    """Return the alpha of deep pixels (H, W, C) where a PNG names the colour to be left out."""
    key = image.info.get("transparency")
    if key is None:
        return None
    return np.any(pixels != np.asarray(key), axis=-1).astype(np.uint16) * np.uint16(65535)


def _repeat(gray: np.ndarray) -> np.ndarray:
    """Return gray (H, W) as (H, W, 3) without a copy."""
    return np.broadcast_to(gray[..., None], (*gray.shape, 3))


def _lay_on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    white = np.float32(np.iinfo(pixels.dtype).max)
    result = np.empty(pixels.shape, pixels.dtype)
    for rows in _strips(pixels):
        opacity = alpha[rows, :, None] / white
        result[rows] = np.round(white - opacity * (white - pixels[rows]))
    return result


def _strips(pixels: np.ndarray) -> Iterator[slice]:
    rows = max(1, _STRIP // pixels.shape[1])
    return (slice(top, top + rows) for top in range(0, len(pixels), rows))


def _png_text(metadata: Metadata) -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    if metadata.xmp:
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return text
