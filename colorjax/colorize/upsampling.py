"""A small prediction of colour enlarged along the edges of a picture's lightness.

Smooth enlargement bleeds: a pixel of the prediction that lies across the edge of a petal hands its
mixed colour to both sides. Here colour follows lightness within small windows (guided filter: He,
Sun, Tang, Guided Image Filtering, 2013), the enlarging goes by doublings, so that windows of 3x3
pixels are small where edges are drawn and reach far where colour is spread, and after each filter
what the result lacks of the prediction is added back (iterative back-projection: Irani and Peleg,
Improving Resolution by Image Registration, 1991), so that a flat guide changes nothing.

Beyond the working size, colour is a linear function of the picture's own lightness whose
coefficients are enlarged (He and Sun, Fast Guided Filter, arXiv 1505.00996).
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from colorjax import color

WORKING_SIZE = 512  # pixels that the enlarged square has at the least

_ROUNDS = 2  # of filtering and adding back for each doubling
# Variance of lightness (CIE units squared) within a window below which it counts as flat.
_FLAT = 16.0


@dataclass(frozen=True)
class ColorField:
    """Colour over a picture as a function of its lightness L: ab = slope * L + offset.

    Attributes:
      offset: float32 (h, w, 2), CIE units, over the picture's whole field of view.
      slope: of the same shape; None for 0.
    """

    offset: np.ndarray
    slope: np.ndarray | None = None


def working_size(size: int) -> int:
    """Return the side of the square to which a prediction of that side is enlarged."""
    while size < WORKING_SIZE:
        size *= 2
    return size


@jax.jit
def enlarge_guided(values: jax.Array, lightness: jax.Array) -> jax.Array:
    """Return a small map enlarged with its edges where those of the lightness are.

    Args:
      values: (S, S, C), such as ab.
      lightness: (W, W), 0..100, over the same field of view; W is S times a power of two.

    Returns:
      float32 (W, W, C).
    """
    small, side = values.shape[0], lightness.shape[0]
    result = jnp.asarray(values, jnp.float32)
    for level in range(1, (side // small).bit_length()):
        guide = resample(lightness[..., None], small * 2**level)
        result = resample(result, small * 2**level)
        result = jax.lax.fori_loop(0, _ROUNDS, partial(_sharpen, values, guide), result)
    return result


@jax.jit
def fit_lightness(ab: jax.Array, lightness: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the slope and offset of ab as a linear function of lightness around each pixel.

    Args:
      ab: (W, W, 2) in CIE units.
      lightness: (W, W), 0..100.

    Returns:
      Two float32 (W, W, 2): ab is about slope * lightness + offset.
    """
    return _fit(ab, lightness[..., None])


def resize_guided(ab: jax.Array, rgb: jax.Array) -> jax.Array:
    """Return predicted ab at the size of a square picture, as the Colorizer shows it by default.

    For use within a compiled function: pictures of all shapes and sizes go through `painting` and
    `join`, which compile once for all of them.

    Args:
      ab: (S, S, 2) in CIE units.
      rgb: the picture, (N, N, 3) in [0, 1], of which the lightness alone is looked at.

    Returns:
      float32 (N, N, 2) in CIE units; ab as it is if N is S.
    """
    if len(ab) == len(rgb):
        return ab
    side = working_size(len(ab))
    guide = _lightness(jnp.clip(resample(rgb, side), 0.0, 1.0))
    slope, offset = _fit(enlarge_guided(ab, guide[..., 0]), guide)
    return resample(slope, len(rgb)) * _lightness(rgb) + resample(offset, len(rgb))


def resample(values: jax.Array, side: int) -> jax.Array:
    """Return a square map at another size, bicubically, antialiased where it shrinks.

    It equals `jax.image.resize` with "cubic", which traces its weights anew for each size: the ten
    of an enlargement took 0.2 s of the time that a first picture waits for.

    Args:
      values: (S, S, C).
      side: of the result.

    Returns:
      (side, side, C); the values as they are if S is `side`.
    """
    if values.shape[0] == side:
        return values
    weights = _resampling_weights(values.shape[0], side)
    return jnp.einsum("ai,bj,ijc->abc", weights, weights, values, precision="highest")


def _lightness(rgb: jax.Array) -> jax.Array:
    return color.rgb_to_lab(rgb)[..., :1]


def _sharpen(small: jax.Array, guide: jax.Array, _: jax.Array, result: jax.Array) -> jax.Array:
    """Return the result filtered, plus what it then lacks of the small map."""
    slope, offset = _fit(result, guide)
    result = slope * guide + offset
    return result + resample(small - resample(result, small.shape[0]), guide.shape[0])


def _fit(values: jax.Array, guide: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return slope and offset, means over the windows that hold a pixel; see the first paper."""
    channels = values.shape[-1]
    means = _mean(jnp.concatenate([guide, guide * guide, values, guide * values], axis=-1))
    guide_mean, square, mean, product = jnp.split(means, (1, 2, 2 + channels), axis=-1)
    slope = (product - guide_mean * mean) / (square - guide_mean**2 + _FLAT)
    coefficients = _mean(jnp.concatenate([slope, mean - slope * guide_mean], axis=-1))
    return coefficients[..., :channels], coefficients[..., channels:]


def _mean(values: jax.Array) -> jax.Array:
    """Return means over windows of 3x3, the border repeated, of (H, W, C)."""
    values = jnp.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    values = values[:-2] + values[1:-1] + values[2:]
    return (values[:, :-2] + values[:, 1:-1] + values[:, 2:]) / 9.0


@lru_cache(maxsize=64)
def _resampling_weights(before: int, after: int) -> np.ndarray:
    """Return float32 (after, before): what each pixel takes of those before (Keys, 1981)."""
    step = before / after
    centers = (np.arange(after)[:, None] + 0.5) * step - 0.5
    distance = np.abs(centers - np.arange(before)) / max(step, 1.0)
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    weights = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
