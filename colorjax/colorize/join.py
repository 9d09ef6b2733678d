"""Colour over a picture joined with the picture's own lightness, at the picture's size."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from colorjax import color
from colorjax.colorize.upsampling import ColorField
from colorjax.program_store import keep_program

# Pixels that are converted at a time: one shape, compiled once, serves pictures of all sizes, and
# memory beyond the picture itself stays a few megabytes.
_CHUNK = 2**17


def join_lightness(
    image: np.ndarray, field: ColorField, lightness: np.ndarray | None = None
) -> np.ndarray:
    """Return a picture of the lightness of one and the colour of another.

    Args:
      image: uint8 or uint16 (H, W, 3), whose Lab lightness is kept; its colour is not looked at.
      field: the colour, resampled bicubically (Catmull-Rom, antialiased where it shrinks).
      lightness: float32 (h, w), 0..100, to be shown instead of the image's; resampled likewise.

    Returns:
      (H, W, 3) of the image's type. Colours that sRGB can't show give up saturation, not
      lightness.
    """
    height, width, _ = image.shape
    maps = [field.offset, field.slope, None if lightness is None else lightness[..., None]]
    planes = [None if values is None else _split(values) for values in maps]
    result = np.empty(image.shape, image.dtype)
    rows = max(1, _CHUNK // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strips = [None if p is None else _enlarge(p, top, bottom, height, width) for p in planes]
        result[top:bottom] = _join_strip(image[top:bottom], strips)
    return result


def _split(values: np.ndarray) -> list[Image.Image]:
    """Return the channels of (h, w, C) as images of floats."""
    return [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(values, -1, 0)]


def _enlarge(
    planes: list[Image.Image], top: int, bottom: int, height: int, width: int
) -> np.ndarray:
    """Return rows `top` to `bottom` of the planes at (height, width), as if they were made whole.

    The result is (pixels, planes).
    """
    plane = planes[0]
    scale = plane.height / height
    box = (0, top * scale, plane.width, min(bottom * scale, plane.height))
    size = (width, bottom - top)
    strips = [np.asarray(p.resize(size, Image.Resampling.BICUBIC, box=box)) for p in planes]
    return np.stack(strips, axis=-1).reshape(-1, len(planes))


def _join_strip(image: np.ndarray, strips: Sequence[np.ndarray | None]) -> np.ndarray:
    pixels = image.reshape(-1, 3)
    result = np.empty(pixels.shape, image.dtype)
    for start in range(0, len(pixels), _CHUNK):
        part = slice(start, start + _CHUNK)
        padded = [None if values is None else _pad(values[part]) for values in (pixels, *strips)]
        result[part] = np.asarray(_join_pixels(*padded))[: len(pixels[part])]
    return result.reshape(image.shape)


def _pad(values: np.ndarray) -> np.ndarray:
    return np.pad(values, ((0, _CHUNK - len(values)), (0, 0)))


@partial(keep_program, identity="pixels of a lightness and a colour")
@jax.jit
def _join_pixels(
    image: jax.Array, offset: jax.Array, slope: jax.Array | None, lightness: jax.Array | None
) -> jax.Array:
    """Return the pixels in colour, of the image's integer type; all are (N, channels)."""
    white = jnp.iinfo(image.dtype).max
    own = color.rgb_to_lab(image.astype(jnp.float32) / white)[..., :1]
    ab = offset if slope is None else slope * own + offset
    shown = own if lightness is None else jnp.clip(lightness, 0.0, 100.0)
    rgb = color.lab_to_rgb_keeping_lightness(jnp.concatenate([shown, ab], axis=-1))
    return jnp.round(rgb * white).astype(image.dtype)
