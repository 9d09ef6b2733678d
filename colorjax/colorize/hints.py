"""Colours that a user asks for at points of a picture, spread over what belongs to them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from colorjax import color
from colorjax.colorize.upsampling import enlarge_guided
from colorjax.errors import UserError

# What makes a way of length 1: the share of the picture's longer side that it crosses, and the
# steps of lightness and of predicted ab, in CIE units, that it takes at once. Steps count by their
# square, so that an edge costs much and a gradient of the same height little.
_REACH = 1.0
_LIGHTNESS_STEP = 5.0
_AB_STEP = 12.0
_TEXTURE = 2.0  # standard deviation, in pixels of the grid, of the blur that hides texture
# A hint holds whole up to the first length and ends at the second.
_FULL, _END = 0.5, 1.5


@dataclass(frozen=True)
class Hint:
    """A colour wanted at a point.

    Attributes:
      x: pixels from the left of the upright picture, from 0.
      y: pixels from its top.
      color: `#rrggbb`. Its hue and chroma are taken; the lightness is the picture's.
    """

    x: int
    y: int
    color: str

    def __post_init__(self) -> None:
        if not re.fullmatch("#[0-9a-fA-F]{6}", self.color):
            raise UserError(f"{self.color!r} is no colour of a hint: write it as #rrggbb.")

    @property
    def ab(self) -> np.ndarray:
        """The a and b of the colour, float32 (2,) in CIE units."""
        rgb = np.frombuffer(bytes.fromhex(self.color[1:]), np.uint8)
        return np.asarray(color.rgb_to_lab(color.to_rgb(rgb)))[1:]


def parse_hint(text: str) -> Hint:
    """Return the hint that `x,y,#rrggbb` describes.

    Raises:
      UserError: if it describes none.
    """
    found = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(#\w+)\s*", text)
    if not found:
        raise UserError(f"{text!r} is no hint: write x,y,#rrggbb, such as 120,80,#c03028.")
    return Hint(int(found[1]), int(found[2]), found[3])


def check_hints(hints: Sequence[Hint], height: int, width: int) -> None:
    """Check that hints lie within a picture.

    Raises:
      UserError: if one doesn't.
    """
    for hint in hints:
        if not (0 <= hint.x < width and 0 <= hint.y < height):
            raise UserError(
                f"The hint at {hint.x},{hint.y} lies outside the picture: x is below {width} and "
                f"y below {height}."
            )


def spread_hints(
    hints: Sequence[Hint], ab: np.ndarray, lightness: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Return predicted ab with each hint's colour on the region that it was put into.

    A hint spreads along the shortest ways over the picture, which avoid steps of lightness and of
    the predicted colour; where hints meet, the nearer one counts for more (Yatziv and Sapiro, Fast
    Image and Video Colorization Using Chrominance Blending, 2006). What is far stays as predicted.

    Args:
      hints: within the picture.
      ab: float32 (W, W, 2), W even, in CIE units, over the whole picture.
      lightness: (W, W), 0..100.
      height: of the picture, in pixels.
      width: likewise.
    """
    weights = _weigh(hints, _halve(lightness), _halve(ab), height, width)
    wanted = weights @ np.stack([hint.ab for hint in hints])
    total = weights.sum(axis=-1, keepdims=True)
    layer = np.concatenate([total, wanted], axis=-1).astype(np.float32)
    # Ways are measured at half the size; the guide puts the layer's edges where the picture's are.
    large = np.asarray(enlarge_guided(layer, lightness))
    total = np.clip(large[..., :1], 0.0, 1.0)
    return np.where(total > 0.0, (1.0 - total) * ab + large[..., 1:], ab)


def _weigh(
    hints: Sequence[Hint], lightness: np.ndarray, ab: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Return how much each hint has to say about each pixel of a square grid.

    The result is (G, G, hints), at most 1 in sum, for lightness (G, G) and ab (G, G, 2).
    """
    from scipy.sparse.csgraph import dijkstra  # a quarter second, which most pictures don't need

    side = len(lightness)
    graph = _connect(lightness, ab, height, width)
    places = [
        int((hint.y + 0.5) * side / height) * side + int((hint.x + 0.5) * side / width)
        for hint in hints
    ]
    lengths = dijkstra(graph, directed=False, indices=places, limit=_END)
    lengths = lengths.T.reshape(side, side, len(hints))
    shares = 1.0 / np.maximum(lengths, 1e-3) ** 2
    shares /= np.maximum(shares.sum(axis=-1, keepdims=True), 1e-9)
    return shares * _fade(lengths.min(axis=-1, keepdims=True))


def _fade(length: np.ndarray) -> np.ndarray:
    """Return 1 for short ways, 0 for long ones, smoothly between."""
    t = np.clip((_END - length) / (_END - _FULL), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _connect(lightness: np.ndarray, ab: np.ndarray, height: int, width: int) -> Any:
    """Return the lengths of the steps from each pixel to its neighbours, as a sparse matrix."""
    from scipy.ndimage import gaussian_filter
    from scipy.sparse import coo_array

    side = len(lightness)
    smooth = gaussian_filter(lightness, _TEXTURE)
    scaled = np.dstack([smooth / _LIGHTNESS_STEP, ab / _AB_STEP])
    index = np.arange(side * side).reshape(side, side)
    unit = np.array([height, width]) / (max(height, width) * side * _REACH)
    parts = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here, there = _overlap(down, right)
        steps = np.square(scaled[here] - scaled[there]).sum(axis=-1)
        lengths = steps + np.hypot(down * unit[0], right * unit[1])
        parts.append((lengths.ravel(), index[here].ravel(), index[there].ravel()))
    lengths, rows, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
    return coo_array((lengths, (rows, columns)), shape=(side * side, side * side)).tocsr()


def _overlap(down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return slices of the pixels that have a neighbour there, and of these neighbours."""
    ends = slice(0, -down or None), slice(max(-right, 0), -right if right > 0 else None)
    starts = slice(down, None), slice(max(right, 0), right if right < 0 else None)
    return ends, starts


def _halve(values: np.ndarray) -> np.ndarray:
    """Return means over 2x2 pixels of (W, W, ...)."""
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4.0
