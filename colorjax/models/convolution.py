"""Convolutions whose first and second derivatives are fast on a CPU.

XLA takes a kernel's gradient as a convolution with a window as large as the picture, which a CPU
does several times slower than the convolution itself, and many times slower where a gradient
penalty differentiates a critic twice. Here convolution, input gradient and kernel gradient are
written as each other's derivatives, the kernel gradient as moved copies and one matrix product, and
a strided 4x4 convolution as a 2x2 one over pixels folded into channels. That is for critics: a
generator is differentiated once, and there XLA's own was faster in the end (docs/performance.md).
Numbers and parameters are those of XLA's own convolution, which is right on GPUs and TPUs; the
environment variable COLORJAX_FOLDED_CONVOLUTIONS=0 takes it on a CPU too.
"""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from colorjax.models.layers import space_to_depth

Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right)) in pixels
NAME = "convolution"  # by which a policy of `jax.checkpoint` knows the results
_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Pixels of a map from which the kernel's gradient is a product of shifts, where copies cost more
# than the product; below that one of windows is faster.
_LARGE = 256


def convolve(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
    """Convolve as `jax.lax.conv_general_dilated`; for `flax.linen.Conv.conv_general_dilated`.

    Args:
      x: (B, H, W, C).
      kernel: (height, width, C, features).
      strides: (1, 1), or (2, 2) with a 4x4 kernel and even sides, go the fast way on a CPU.
      padding: "VALID", or ((top, bottom), (left, right)) in pixels.
      **options: of `jax.lax.conv_general_dilated`.

    Returns:
      (B, H', W', features).
    """
    sides = _padding(padding)
    if sides is None or _is_special(options) or not is_folded():
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    even = all(side % 2 == 0 for side in (*x.shape[1:3], sum(sides[0]), sum(sides[1])))
    if tuple(strides) == (2, 2) and kernel.shape[:2] == (4, 4) and even:
        folded = space_to_depth(jnp.pad(x, ((0, 0), *sides, (0, 0))))
        return checkpoint_name(_convolve(folded, _fold_kernel(kernel), ((0, 0), (0, 0))), NAME)
    if tuple(strides) == (1, 1):
        return checkpoint_name(_convolve(x, kernel, sides), NAME)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def is_folded() -> bool:
    """Return whether convolutions go the way that is fast on a CPU."""
    wanted = os.environ.get("COLORJAX_FOLDED_CONVOLUTIONS", "1") != "0"
    return wanted and jax.default_backend() == "cpu"


def _padding(padding: Any) -> Padding | None:
    if padding == "VALID":
        return ((0, 0), (0, 0))
    if isinstance(padding, str):
        return None
    (top, bottom), (left, right) = padding
    return ((int(top), int(bottom)), (int(left), int(right)))


def _is_special(options: dict[str, Any]) -> bool:
    dilations = (options.get(f"{side}_dilation") or (1,) for side in ("lhs", "rhs"))
    return options.get("feature_group_count", 1) != 1 or any(set(each) != {1} for each in dilations)


def _fold_kernel(kernel: jax.Array) -> jax.Array:
    """Return (2, 2, 4 C, F) of (4, 4, C, F), its channels in the order of `space_to_depth`."""
    _, _, channels, features = kernel.shape
    blocks = kernel.reshape(2, 2, 2, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return blocks.reshape(2, 2, 4 * channels, features)


# The three functions below are linear in each of their two arguments, and the derivatives of one
# are the other two: `y = x * k`, `x' = y' *^T k`, `k' = x (*) y'`.


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return (B, H', W', F) of (B, H, W, C) and (h, w, C, F), with stride 1."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _input_gradient(y: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return what `_convolve`'s gradient in x is: (B, H, W, C) of (B, H', W', F)."""
    (top, bottom), (left, right) = padding
    rows, columns = kernel.shape[0] - 1, kernel.shape[1] - 1
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _convolve(y, turned, ((rows - top, rows - bottom), (columns - left, columns - right)))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _kernel_gradient(
    x: jax.Array, y: jax.Array, padding: Padding, size: tuple[int, int]
) -> jax.Array:
    """Return what `_convolve`'s gradient in the kernel is: (h, w, C, F), `size` being (h, w)."""
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    if y.shape[1] * y.shape[2] < _LARGE:
        return _multiply_windows(padded, y, size)
    return _multiply_shifts(padded, y, size)


def _multiply_windows(x: jax.Array, y: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Return the kernel's gradient as one product with every window of x as a row."""
    _, height, width, features = y.shape
    copies = [
        x[:, row : row + height, column : column + width]
        for row in range(size[0])
        for column in range(size[1])
    ]
    windows = jnp.concatenate(copies, axis=-1).reshape(-1, len(copies) * x.shape[-1])
    return (windows.T @ y.reshape(-1, features)).reshape(*size, x.shape[-1], features)


def _multiply_shifts(x: jax.Array, y: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Return the kernel's gradient as one product of x moved sideways and y moved down.

    Each picture is laid out as one list of pixels, y with zeros to be as large as x, so that a move
    is another place to begin. For 3x3 that takes 3 + 3 copies, where windows take 9, and a product
    whose sides are both three times as long. Pictures are never moved into one another: they may
    lie on several devices.
    """
    batch, height, width, channels = x.shape
    features, pixels = y.shape[-1], height * width
    before = (size[0] - 1) * width
    y = jnp.pad(y, ((0, 0), (0, size[0] - 1), (0, size[1] - 1), (0, 0)))
    x = jnp.pad(x.reshape(batch, pixels, channels), ((0, 0), (0, size[1] - 1), (0, 0)))
    y = jnp.pad(y.reshape(batch, pixels, features), ((0, 0), (before, 0), (0, 0)))
    sideways = jnp.concatenate([x[:, move : move + pixels] for move in range(size[1])], axis=-1)
    starts = [before - row * width for row in range(size[0])]
    down = jnp.concatenate([y[:, start : start + pixels] for start in starts], axis=-1)
    product = sideways.reshape(-1, sideways.shape[-1]).T @ down.reshape(-1, down.shape[-1])
    return product.reshape(size[1], channels, size[0], features).transpose(2, 0, 1, 3)


_convolve.defvjp(
    lambda x, kernel, padding: (_convolve(x, kernel, padding), (x, kernel)),
    lambda padding, saved, y: (
        _input_gradient(y, saved[1], padding),
        _kernel_gradient(saved[0], y, padding, saved[1].shape[:2]),
    ),
)
_input_gradient.defvjp(
    lambda y, kernel, padding: (_input_gradient(y, kernel, padding), (y, kernel)),
    lambda padding, saved, x: (
        _convolve(x, saved[1], padding),
        _kernel_gradient(x, saved[0], padding, saved[1].shape[:2]),
    ),
)
_kernel_gradient.defvjp(
    lambda x, y, padding, size: (_kernel_gradient(x, y, padding, size), (x, y)),
    lambda padding, size, saved, kernel: (
        _input_gradient(saved[1], kernel, padding),
        _convolve(saved[0], kernel, padding),
    ),
)
