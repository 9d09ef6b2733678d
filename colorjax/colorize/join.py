"""A small prediction of colour joined with a picture's own lightness, at the picture's size."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from colorjax import color

# Pixels that are converted at a time: one shape, compiled once, serves pictures of all sizes, and
# memory beyond the picture itself stays a few megabytes.
_CHUNK = 2**17


def join_lightness(image: np.ndarray, ab: np.ndarray, saturation: float = 1.0) -> np.ndarray:
    """Return a picture of the lightness of one and the colour of another.

    Args:
      image: uint8 (H, W, 3), whose Lab lightness is kept; its colour is not looked at.
      ab: float32 (h, w, 2) in CIE units, of any size, over the same field of view; it is
        resampled bicubically (Catmull-Rom, antialiased where it shrinks).
      saturation: factor of ab.

    Returns:
      uint8 (H, W, 3). Colours that sRGB can't show give up saturation, not lightness.
    """
    height, width, _ = image.shape
    planes = [Image.fromarray(np.ascontiguousarray(ab[..., i] * saturation)) for i in (0, 1)]
    result = np.empty_like(image)
    rows = max(1, _CHUNK // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = np.stack([_enlarge(p, top, bottom, height, width) for p in planes], axis=-1)
        result[top:bottom] = _join_strip(image[top:bottom], strip)
    return result


def _enlarge(plane: Image.Image, top: int, bottom: int, height: int, width: int) -> np.ndarray:
    """Return rows `top` to `bottom` of the plane at (height, width), as if it were made whole."""
    scale = plane.height / height
    box = (0, top * scale, plane.width, min(bottom * scale, plane.height))
    return np.asarray(plane.resize((width, bottom - top), Image.Resampling.BICUBIC, box=box))


def _join_strip(image: np.ndarray, ab: np.ndarray) -> np.ndarray:
    pixels, colors = image.reshape(-1, 3), ab.reshape(-1, 2)
    parts = []
    for start in range(0, len(pixels), _CHUNK):
        part = slice(start, start + _CHUNK)
        count = len(pixels[part])
        joined = _join_pixels(_pad(pixels[part]), _pad(colors[part]))
        parts.append(np.asarray(joined)[:count])
    return np.concatenate(parts).reshape(image.shape)


def _pad(values: np.ndarray) -> np.ndarray:
    return np.pad(values, ((0, _CHUNK - len(values)), (0, 0)))


@jax.jit
def _join_pixels(image: jax.Array, ab: jax.Array) -> jax.Array:
    lightness = color.rgb_to_lab(color.to_rgb(image))[..., :1]
    return color.to_image(
        color.lab_to_rgb_keeping_lightness(jnp.concatenate([lightness, ab], axis=-1))
    )
