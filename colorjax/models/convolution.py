"""Convolutions that are fast on a CPU, and whose first and second derivatives are.

XLA takes a kernel's gradient as a convolution with a window as large as the picture. The window no
longer fits a core's cache, which makes that up to five times slower than the convolution itself,
and many times slower where a gradient penalty differentiates a critic twice. Here convolution,
input gradient and kernel gradient are written as each other's derivatives. Of many channels each is
taken by `winograd`; a gradient of few pixels as a product of windows, which doesn't turn or
transpose a large kernel in memory; of a channel or two as a sum of moved copies; else plainly, in a
way that uses all cores, the kernel gradient as a sum over strips that fit the cache. A strided 4x4
convolution is a 2x2 one over pixels folded into channels. Parameters are those of XLA's own
convolution, and so are numbers but for rounding; it is right on GPUs and TPUs, and
COLORJAX_FOLDED_CONVOLUTIONS=0 takes it on a CPU too.
"""

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from colorjax.models import winograd
from colorjax.models.layers import space_to_depth
from colorjax.models.winograd import Padding, pad_image, turn_padding
from colorjax.parallel import (
    is_cpu_way,
    is_one_device_of_many_cores,
    map_over_devices,
    sum_over_devices,
)

SWITCH = "COLORJAX_FOLDED_CONVOLUTIONS"
NAME = "convolution"  # by which a policy of `jax.checkpoint` knows the results
_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Axes, for the rules of how devices share an operation.
_X = "batch high wide channels"
_Y = "batch rows columns features"
_KERNEL = "height width channels features"
_STRIP_BYTES = 2**20  # of y, that fit a core's cache
_STRIPS_AT_MOST = 32  # each takes some 50 ms to compile
_FEW_PRODUCTS = 9 * 2  # of a result, which one loop adds up faster than any routine
# XLA's usual routine, of YNNPACK, shares a convolution among cores where a result takes more
# products than the first, or a channel of a picture more than the second.
_ONE_CORE_SUM = 9 * 64
_ONE_CORE_CHANNEL = 9 * 32 * 256 * 256
_PORTABLE = ContextVar("whether every convolution is XLA's own", default=False)
_SOURCE = zlib.crc32(Path(__file__).read_bytes())


def convolve(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
    """Convolve as `jax.lax.conv_general_dilated`; for `flax.linen.Conv.conv_general_dilated`.

    Args:
      x: (B, H, W, C).
      kernel: (height, width, C, features).
      strides: (1, 1), or (2, 2) with a 4x4 kernel, even sides and an even sum of padding, go the
        fast way on a CPU.
      padding: "VALID", or ((top, bottom), (left, right)) in pixels.
      **options: of `jax.lax.conv_general_dilated`; "NHWC", "HWIO", "NHWC" and its defaults go the
        fast way.

    Returns:
      (B, H', W', features).
    """
    sides = _padding(padding)
    if sides is None or _is_special(x, kernel, sides, options) or not _is_fast_way():
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    even = all(side % 2 == 0 for side in (*x.shape[1:3], sum(sides[0]), sum(sides[1])))
    if tuple(strides) == (2, 2) and kernel.shape[:2] == (4, 4) and even:
        folded = space_to_depth(pad_image(x, sides))
        return checkpoint_name(_convolve(folded, _fold_kernel(kernel), ((0, 0), (0, 0))), NAME)
    if tuple(strides) == (1, 1):
        return checkpoint_name(_convolve(x, kernel, sides), NAME)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def convolution_3x3(features: int, dtype: Any) -> nn.Conv:
    """Return a 3x3 convolution of a generator, before a norm: it keeps the size, without a bias."""
    return nn.Conv(
        features,
        (3, 3),
        padding=1,
        use_bias=False,
        dtype=dtype,
        conv_general_dilated=convolve,
    )


@contextmanager
def portable_convolutions() -> Iterator[None]:
    """Let `convolve` be XLA's own in what is traced within, which every exporter knows."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def _is_fast_way() -> bool:
    return is_cpu_way(SWITCH) and not _PORTABLE.get()


def _padding(padding: Any) -> Padding | None:
    if padding == "VALID":
        return ((0, 0), (0, 0))
    if isinstance(padding, str):
        return None
    (top, bottom), (left, right) = padding
    return ((int(top), int(bottom)), (int(left), int(right)))


def _is_special(x: jax.Array, kernel: jax.Array, padding: Padding, options: dict[str, Any]) -> bool:
    """Return whether only XLA's own convolution does what is asked, or refuses to."""
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        return True
    seen = [side + sum(pixels) for side, pixels in zip(x.shape[1:3], padding, strict=True)]
    if 0 in x.shape or seen[0] < kernel.shape[0] or seen[1] < kernel.shape[1]:
        return True  # nothing comes out
    options = dict(options)
    asked = options.pop("dimension_numbers", None)
    layouts = {
        jax.lax.conv_dimension_numbers(x.shape, kernel.shape, each) for each in (asked, _LAYOUT)
    }
    values = (tuple(each) if isinstance(each, Sequence) else each for each in options.values())
    return len(layouts) > 1 or any(value not in (None, 1, (1, 1)) for value in values)


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
    if winograd.is_faster(kernel.shape, x.dtype):
        rule = f"{_X}, {_KERNEL} -> {_Y}"
        return _filter_tiles(winograd.convolve, rule, x, kernel, padding)
    if math.prod(kernel.shape[:3]) <= _FEW_PRODUCTS:
        return _add_up_copies(x, kernel, padding)
    if _leaves_cores_idle(x, kernel.shape):
        return _convolve_on_all_cores(x, kernel, padding)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _input_gradient(y: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return what `_convolve`'s gradient in x is: (B, H, W, C) of (B, H', W', F)."""
    if _has_few_pixels(y, kernel.shape):
        return _join_windows(y, kernel, padding)
    if winograd.is_faster(kernel.shape, y.dtype):
        rule = f"{_Y}, {_KERNEL} -> {_X}"
        return _filter_tiles(winograd.input_gradient, rule, y, kernel, padding)
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _convolve(y, turned, turn_padding(padding, kernel.shape[:2]))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _kernel_gradient(
    x: jax.Array, y: jax.Array, padding: Padding, size: tuple[int, int]
) -> jax.Array:
    """Return what `_convolve`'s gradient in the kernel is: (h, w, C, F), `size` being (h, w)."""
    add_up = sum_over_devices(
        lambda x, y: _kernel_gradient_here(x, y, padding, size),
        f"{_X}, {_Y} -> {_KERNEL}",
        identity=f"kernel gradient {_SOURCE:x} {winograd.SOURCE:x}, padding {padding}",
    )
    return add_up(x, y)


def _filter_tiles(
    function: Callable[..., jax.Array],
    rule: str,
    image: jax.Array,
    kernel: jax.Array,
    padding: Padding,
) -> jax.Array:
    """Return what a function of `winograd` makes of an image, each device of its own pictures."""
    apply = map_over_devices(
        lambda image, kernel: function(image, kernel, padding),
        rule,
        identity=f"{function.__name__} {winograd.SOURCE:x}, padding {padding}",
    )
    return apply(image, kernel)


def _leaves_cores_idle(x: jax.Array, kernel_shape: Sequence[int]) -> bool:
    """Return whether XLA's usual routine would convolve on one core while others have no work."""
    products = math.prod(kernel_shape[:3])
    return (
        products <= _ONE_CORE_SUM
        and products * math.prod(x.shape[1:3]) <= _ONE_CORE_CHANNEL
        and x.dtype == jnp.float32
        and is_one_device_of_many_cores()
    )


def _convolve_on_all_cores(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return `_convolve` by XLA's older routine, which shares the work among cores.

    The usual one refuses padding as high as the kernel. So rows are added at the bottom, and what
    comes of them is left out.
    """
    (top, bottom), sides = padding
    more = max(0, len(kernel) - top - bottom)
    padding = ((top, bottom + more), sides)
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT)
    return y[:, : y.shape[1] - more]


def _add_up_copies(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return `_convolve` as a sum, which XLA computes in one loop with a fixed norm after it."""
    padded = pad_image(x, padding).astype(_sum_type(x))
    rows, columns, channels, _ = kernel.shape
    height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
    total = jnp.zeros((), padded.dtype)
    for row, column, channel in itertools.product(range(rows), range(columns), range(channels)):
        copy = padded[:, row : row + height, column : column + width, channel, None]
        total += copy * kernel[row, column, channel].astype(padded.dtype)
    return total.astype(x.dtype)


def _kernel_gradient_here(
    x: jax.Array, y: jax.Array, padding: Padding, size: tuple[int, int]
) -> jax.Array:
    """Return the kernel's gradient in a device's own pictures."""
    shape = (*size, x.shape[-1], y.shape[-1])
    if _has_few_pixels(y, shape):
        windows = _cut_windows(x, padding, size)
        product = _multiply(windows.reshape(-1, windows.shape[-1]).T, y.reshape(-1, y.shape[-1]))
        return product.reshape(shape).astype(y.dtype)
    if winograd.is_faster(shape, x.dtype):
        return winograd.kernel_gradient(x, y, padding, size[0])
    return _sum_over_strips(x, y, padding, size)


def _sum_over_strips(
    x: jax.Array, y: jax.Array, padding: Padding, size: tuple[int, int]
) -> jax.Array:
    """Return the kernel's gradient, summed in float32 or better."""
    height = y.shape[1]
    rows = _rows_of_strip(y, size[0] * size[1] * x.shape[-1] * y.shape[-1])
    strips = [
        _convolve_strip(x, y, padding, size[0], range(start, min(start + rows, height)))
        for start in range(0, height, rows)
    ]
    return sum(strips[1:], start=strips[0]).astype(y.dtype)


def _rows_of_strip(y: jax.Array, kernel_size: int) -> int:
    """Return how many rows of y to convolve with at a time.

    Each strip yields a whole kernel: the larger that is, the fewer strips are worth their sum.
    Strips are steps of the program, as XLA's convolutions are many times slower within a loop.
    """
    height, itemsize = y.shape[1], y.dtype.itemsize
    strip_bytes = max(_STRIP_BYTES, kernel_size * itemsize // 4)
    rows = strip_bytes * height // (y.size * itemsize)
    return min(height, max(rows, -(-height // _STRIPS_AT_MOST)))


def _has_few_pixels(image: jax.Array, kernel_shape: Sequence[int]) -> bool:
    """Return whether the kernel has so many channels that windows are small beside it."""
    return 4 * math.prod(image.shape[:3]) <= max(kernel_shape[2:])


def _cut_windows(x: jax.Array, padding: Padding, size: Sequence[int]) -> jax.Array:
    """Return what each result sees of (B, H, W, C): (B, H', W', height * width * C)."""
    padded = pad_image(x, padding)
    height, width = (padded.shape[1 + axis] - size[axis] + 1 for axis in (0, 1))
    copies = [
        padded[:, row : row + height, column : column + width]
        for row in range(size[0])
        for column in range(size[1])
    ]
    return jnp.concatenate(copies, axis=-1)


def _join_windows(y: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return `_convolve`'s gradient in x, by way of its gradient in the windows of x."""
    size, channels, features = kernel.shape[:2], *kernel.shape[2:]
    windows = _multiply(y, kernel.reshape(-1, features).T)
    height, width = (y.shape[1 + axis] + size[axis] - 1 - sum(padding[axis]) for axis in (0, 1))
    x = jax.ShapeDtypeStruct((y.shape[0], height, width, channels), windows.dtype)
    cut = partial(_cut_windows, padding=padding, size=size)
    [joined] = jax.linear_transpose(cut, x)(windows)
    return joined.astype(y.dtype)


def _multiply(left: jax.Array, right: jax.Array) -> jax.Array:
    """Return the matrix product in float32 or better."""
    return jnp.matmul(left, right, preferred_element_type=_sum_type(left))


def _convolve_strip(
    x: jax.Array, y: jax.Array, padding: Padding, kernel_height: int, rows: range
) -> jax.Array:
    """Return what some rows of y add to the kernel's gradient."""
    start = rows.start - padding[0][0]  # of what these rows see of x, which may lie outside
    stop = rows.stop - padding[0][0] + kernel_height - 1
    first, last = (min(max(row, 0), x.shape[1]) for row in (start, stop))
    return jax.lax.conv_general_dilated(
        x[:, first:last],
        y[:, rows.start : rows.stop],
        (1, 1),
        ((first - start, stop - last), padding[1]),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        preferred_element_type=_sum_type(y),
    )


def _sum_type(y: jax.Array) -> Any:
    return jnp.promote_types(y.dtype, jnp.float32)


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
