"""Any file that Pillow reads becomes upright RGB of the shape asked for."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from colorjax.errors import UserError

# Raise it when the pixels that come out change, so that caches are made again.
DECODER_VERSION = 1


def decode(file: Path | BinaryIO, shape: tuple[int, int]) -> np.ndarray:
    """Return a picture squashed (bicubic, antialiased) to uint8 (height, width, 3).

    A picture of that shape keeps its pixels. The EXIF orientation is applied, transparent parts
    are laid on white, and of several frames the first is taken. JPEG's reduced-size decoding is
    not used: at a quarter of the size it lies only 42 dB from the exact result.

    Args:
      file: a path, or an open file.
      shape: (height, width) of what comes out, in pixels.

    Raises:
      Exception: whatever Pillow raises for a file that is no picture, is cut short or is
        suspiciously large.
    """
    with Image.open(file) as image:
        rgb = to_rgb(ImageOps.exif_transpose(image))
    return squash(rgb, shape)


def squash(rgb: Image.Image, shape: tuple[int, int]) -> np.ndarray:
    """Return an RGB image resized (bicubic, antialiased) to uint8 (height, width, 3)."""
    height, width = shape
    return np.asarray(rgb.resize((width, height), Image.Resampling.BICUBIC))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB, 8 bits a channel."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_gray_to_8_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _deep_gray_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, integer or float gray to 8 bits, where Pillow's `convert` would clip it."""
    values = np.nan_to_num(np.asarray(image, np.float32))
    # 16 bits say what white is; floats and 32 bits don't, so the usual whites are tried.
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    peak = float(values.max())
    white = next((white for white in whites if peak <= white), peak)
    return Image.fromarray(np.clip(np.round(values * (255.0 / white)), 0, 255).astype(np.uint8))


def explain(error: Exception) -> str:
    """Return in a few words why a picture could not be read, without its name."""
    if isinstance(error, UserError) and isinstance(error.__cause__, Exception):
        return explain(error.__cause__)
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that Pillow can read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
