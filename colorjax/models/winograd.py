"""Convolutions with stride 1 by Winograd's minimal filtering (Lavin and Gray, arXiv 1509.09308).

A picture is taken in tiles of 2x2 results. What a tile sees, and the kernel, are transformed by
sums alone; in between there is one matrix product for each of the tile's places. That takes 16
products where a 3x3 kernel otherwise takes 36, and 9 in place of 16 for a 2x2 one. What comes out
is rounded about as a plain convolution's results are; an infinite pixel makes its tiles NaN.
"""

import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)) in pixels
Matrix = tuple[tuple[float, ...], ...]
Grid = list[list[jax.Array]]  # of rows and columns of a tile, or of a kernel

SOURCE = zlib.crc32(Path(__file__).read_bytes())
_TILE = 2  # results on a side
_CHANNELS = 256  # from which on it is faster
# By the kernel's side: how what a tile sees, the kernel, and the products enter the result;
# B^T, G and A^T of section 4.1 for 3x3; those for 2x2 are Toom and Cook's at 0, 1 and infinity.
_INPUTS: dict[int, Matrix] = {
    2: ((1, -1, 0), (0, 1, 0), (0, -1, 1)),
    3: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
}
_KERNELS: dict[int, Matrix] = {
    2: ((1, 0), (1, 1), (0, 1)),
    3: ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
}
_RESULTS: dict[int, Matrix] = {
    2: ((1, 1, 0), (0, 1, 1)),
    3: ((1, 1, 1, 0), (0, 1, -1, -1)),
}


def is_faster(kernel_shape: Sequence[int], dtype: Any) -> bool:
    """Return whether a CPU convolves faster this way, and computes the gradients.

    With fewer channels the transforms take longer than the products save: at 128 a convolution
    alone is a sixth faster, but not one whose input a norm has yet to make. bfloat16 would round
    what is transformed.

    Args:
      kernel_shape: (height, width, C, F).
      dtype: of the arithmetic.
    """
    height, width, channels, features = kernel_shape
    is_known = height == width and height in _INPUTS
    return is_known and min(channels, features) >= _CHANNELS and jnp.finfo(dtype).bits >= 32


def convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return `jax.lax.conv_general_dilated` of NHWC and HWIO with stride 1.

    Args:
      x: (B, H, W, C), float32 or float64.
      kernel: (2, 2, C, F) or (3, 3, C, F).
      padding: ((top, bottom), (left, right)) in pixels.

    Returns:
      (B, H', W', F).
    """
    return _filter(x, _wait_for(x, kernel), padding, contracted=0)


def input_gradient(y: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return the gradient of `convolve` in x, of y (B, H', W', F), its result's: (B, H, W, C).

    It is a convolution with the kernel turned and transposed, which is left to the product: moving
    a kernel of many channels in memory takes longer.
    """
    turned = _wait_for(y, kernel)[::-1, ::-1]
    return _filter(y, turned, turn_padding(padding, kernel.shape[:2]), contracted=1)


def _filter(x: jax.Array, kernel: jax.Array, padding: Padding, contracted: int) -> jax.Array:
    """Return the convolution with a kernel of which that axis stands for the channels of x."""
    side = len(kernel)
    height, width = (
        length + sum(pixels) - side + 1
        for length, pixels in zip(x.shape[1:3], padding, strict=True)
    )
    tiles = _transform(_cut_input(x, padding, (height, width), side), _INPUTS[side])
    kernels = _transform([list(row) for row in kernel], _KERNELS[side])
    multiply = partial(_multiply, contracted=contracted)
    results = _transform(jax.tree.map(multiply, tiles, kernels), _RESULTS[side])
    batch, high, wide, features = results[0][0].shape
    image = jnp.stack([jnp.stack(row, axis=3) for row in results], axis=2)
    image = image.reshape(batch, _TILE * high, _TILE * wide, features)
    return image[:, :height, :width]


def kernel_gradient(x: jax.Array, y: jax.Array, padding: Padding, side: int) -> jax.Array:
    """Return the gradient of `convolve` in a kernel of 2x2 or 3x3: (side, side, C, F).

    Args:
      x: (B, H, W, C), what was convolved.
      y: (B, H', W', F), the gradient in the result.
      padding: as it was convolved.
      side: of the kernel.
    """
    tiles = _transform(_cut_input(_wait_for(y, x), padding, y.shape[1:3], side), _INPUTS[side])
    results = _transform(_cut_result(y), _transpose(_RESULTS[side]))
    kernels = jax.tree.map(_multiply_transposed, tiles, results)
    gradient = _transform(kernels, _transpose(_KERNELS[side]))
    return jnp.stack([jnp.stack(row) for row in gradient])


def _wait_for(image: jax.Array, other: jax.Array) -> jax.Array:
    """Return another array, once (B, H, W, C) is known.

    What is transformed has up to four times the size. XLA would do so with kernels, and with what
    the forward pass has left, long before the image is there, and hold all of it for as long.
    """
    pixel = image[0, 0, 0, 0]
    zero = jnp.where(pixel > 0, jnp.minimum(pixel, 0), 0)  # which XLA doesn't see; of a NaN as well
    return other + zero.astype(other.dtype)


def _cut_input(x: jax.Array, padding: Padding, size: Sequence[int], side: int) -> Grid:
    """Return the pixels of all tiles at each place of what they see, each array (B, h, w, C)."""
    tiles = [-(-length // _TILE) for length in size]
    (top, left), (height, width) = (padding[0][0], padding[1][0]), x.shape[1:3]
    high, wide = (_TILE * count + side - 1 for count in tiles)
    padded = pad_image(x, ((top, high - height - top), (left, wide - width - left)))
    return _cut(padded, _TILE + side - 1, tiles)


def _cut_result(y: jax.Array) -> Grid:
    """Return the pixels of all tiles at each place of a tile; beyond the edge, zeros."""
    tiles = [-(-length // _TILE) for length in y.shape[1:3]]
    missing = ((0, y.shape[1] % _TILE), (0, y.shape[2] % _TILE))
    return _cut(pad_image(y, missing), _TILE, tiles)


def turn_padding(padding: Padding, size: Sequence[int]) -> Padding:
    """Return the padding of y with which a turned kernel of that size gives the gradient in x."""
    (top, bottom), (left, right) = padding
    rows, columns = size[0] - 1, size[1] - 1
    return ((rows - top, rows - bottom), (columns - left, columns - right))


def pad_image(image: jax.Array, padding: Padding) -> jax.Array:
    """Put zeros around (B, H, W, C), or take pixels away where padding is negative."""
    sides = [(before, after, 0) for before, after in ((0, 0), *padding, (0, 0))]
    return jax.lax.pad(image, jnp.zeros((), image.dtype), sides)


def _cut(image: jax.Array, side: int, tiles: Sequence[int]) -> Grid:
    """Return the pixels at each place of tiles of side x side that begin `_TILE` pixels apart."""
    ends = [_TILE * (count - 1) + 1 for count in tiles]
    return [
        [
            image[:, row : row + ends[0] : _TILE, column : column + ends[1] : _TILE]
            for column in range(side)
        ]
        for row in range(side)
    ]


def _transform(pieces: Grid, matrix: Matrix) -> Grid:
    """Return `matrix @ pieces @ matrix^T`."""
    columns = [_combine(column, matrix) for column in zip(*pieces, strict=True)]
    return [_combine(row, matrix) for row in zip(*columns, strict=True)]


def _combine(pieces: Sequence[jax.Array], matrix: Matrix) -> list[jax.Array]:
    """Return `matrix @ pieces`, without the products with 0 and 1."""
    combined = []
    for row in matrix:
        terms = [
            piece if factor == 1 else factor * piece
            for factor, piece in zip(row, pieces, strict=True)
            if factor
        ]
        combined.append(sum(terms[1:], start=terms[0]))
    return combined


def _transpose(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _multiply(pixels: jax.Array, kernel: jax.Array, contracted: int) -> jax.Array:
    """Return (B, h, w, F) of (B, h, w, C) and (C, F), or (F, C) if the axis 1 is contracted."""
    return jax.lax.dot_general(pixels, kernel, (((3,), (contracted,)), ((), ())))


def _multiply_transposed(pixels: jax.Array, gradient: jax.Array) -> jax.Array:
    """Return (C, F) of (B, h, w, C) and (B, h, w, F)."""
    return pixels.reshape(-1, pixels.shape[-1]).T @ gradient.reshape(-1, gradient.shape[-1])
