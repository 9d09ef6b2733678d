"""Layers that several networks share."""

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer

from colorjax.errors import UserError

LEAKY_SLOPE = 0.2
CLASS_SCORES = "class_scores"  # the name of `ClassScores`' result in `intermediates`
# Of DCGAN's and pix2pix's convolutions.
KERNEL_INIT = nn.initializers.normal(0.02)


def max_pool_2x2(features: jax.Array) -> jax.Array:
    """Halve height and width by the maximum of each 2x2 block.

    The maximum of four strided slices has a much faster gradient on a CPU than XLA's
    select-and-scatter, which `flax.linen.max_pool` leads to.

    Args:
      features: (B, H, W, C), H and W even.

    Returns:
      (B, H/2, W/2, C).
    """
    top = jnp.maximum(features[:, ::2, ::2], features[:, ::2, 1::2])
    bottom = jnp.maximum(features[:, 1::2, ::2], features[:, 1::2, 1::2])
    return jnp.maximum(top, bottom)


def avg_pool_2x2(features: jax.Array) -> jax.Array:
    """Halve height and width (both even) by the mean of each 2x2 block."""
    batch, height, width, channels = features.shape
    blocks = features.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(blocks, axis=(2, 4))


def upsample_2x2(features: jax.Array) -> jax.Array:
    """Double height and width by repeating each pixel: (B, H, W, C) to (B, 2H, 2W, C)."""
    return features.repeat(2, axis=1).repeat(2, axis=2)


def space_to_depth(features: jax.Array) -> jax.Array:
    """Fold 2x2 pixels into channels: (B, H, W, C), H and W even, to (B, H/2, W/2, 4 C)."""
    batch, height, width, channels = features.shape
    blocks = features.reshape(batch, height // 2, 2, width // 2, 2, channels)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, height // 2, width // 2, 4 * channels)


def upsample_bilinear(features: jax.Array) -> jax.Array:
    """Double height and width bilinearly: (B, H, W, C) to (B, 2H, 2W, C).

    As `jax.image.resize` with "linear", but of slices and sums alone, which any size and every
    exporter takes. Pixels beyond the edge repeat it.
    """
    for axis in (1, 2):
        before, after = _neighbours(features, axis)
        pairs = [0.75 * features + 0.25 * before, 0.75 * features + 0.25 * after]
        shape = list(features.shape)
        shape[axis] *= 2
        features = jnp.stack(pairs, axis=axis + 1).reshape(shape)
    return features


def soften(features: jax.Array, share: float) -> jax.Array:
    """Mix (B, H, W, C) with so much of itself under the binomial filter [1 2 1] / 4 both ways.

    Pixels beyond the edge repeat it.
    """
    smooth = features
    for axis in (1, 2):
        before, after = _neighbours(smooth, axis)
        smooth = 0.5 * smooth + 0.25 * (before + after)
    return (1.0 - share) * features + share * smooth


def _neighbours(features: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Return for each pixel the one before it along an axis, and the one after it."""
    size = features.shape[axis]
    first = jax.lax.slice_in_dim(features, 0, 1, axis=axis)
    last = jax.lax.slice_in_dim(features, size - 1, size, axis=axis)
    inner = [jax.lax.slice_in_dim(features, start, start + size - 1, axis=axis) for start in (0, 1)]
    before = jax.lax.concatenate([first, inner[0]], axis)
    return before, jax.lax.concatenate([inner[1], last], axis)


class GlobalContext(nn.Module):
    """Scales and shifts each channel by what the mean over the picture says (arXiv 1709.07871).

    What a picture shows decides on its colours; a convolution sees a part of it alone. A 1x1
    picture, or one whose parts are all alike, keeps what it has.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to the same shape."""
        channels = x.shape[-1]
        mean = jnp.mean(x, axis=(1, 2))
        hidden = nn.relu(nn.Dense(channels, dtype=self.dtype)(mean))
        # It starts as the identity, so that it can't harm a deep network's first steps.
        both = nn.Dense(2 * channels, kernel_init=nn.initializers.zeros, dtype=self.dtype)(hidden)
        scale, shift = jnp.split(both[:, None, None, :], 2, axis=-1)
        return x * (1.0 + scale) + shift


class ClassScores(nn.Module):
    """Scores what a picture shows, from the mean over it, as one of so many classes.

    The scores are no part of a prediction: training takes them from the collection `intermediates`,
    and nobody computes them else. A network that is also told what pictures show tells sooner which
    colours they may have (after Iizuka et al., doi 10.1145/2897824.2925974).
    """

    classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, classes) float32."""
        scores = nn.Dense(self.classes, dtype=self.dtype)(jnp.mean(x, axis=(1, 2)))
        return scores.astype(jnp.float32)


class _UpConv(nn.Module):
    """Transposed convolution with stride 2: (B, H, W, C) to (B, 2H, 2W, features).

    Attributes:
      features: channels that come out.
      dtype: of the arithmetic; parameters stay float32.
      use_bias: whether a bias is added.
      kernel_init: of the kernel (size, size, C, features). By default a normal whose variance is 1
        over what an output pixel sees: size / 2 by size / 2 input pixels of C channels.
    """

    features: int
    dtype: Any = jnp.float32
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.variance_scaling(4.0, "fan_in", "truncated_normal")
    size: ClassVar[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the upsampled features."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        upsampled = transposed_convolution(x, kernel)
        return upsampled if bias is None else upsampled + bias


class UpConv2x2(_UpConv):
    """Transposed convolution 2x2, stride 2: (B, H, W, C) to (B, 2H, 2W, features)."""

    size = 2


class UpConv3x3(_UpConv):
    """Transposed convolution 3x3, stride 2, padding 1, output padding 1: doubles the size."""

    size = 3


class UpConv4x4(_UpConv):
    """Transposed convolution 4x4, stride 2, padding 1: (B, H, W, C) to (B, 2H, 2W, features)."""

    size = 4


def transposed_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Add `x[i] @ kernel[k]` to pixel `2 i + k - padding` of an output of twice the size.

    The kernel is cut into quarters of at most 2x2. The windows of a quarter don't overlap, so each
    row of it is a matrix product, whose results lie as every second row of the picture does; the
    quarters' results are added two pixels apart. The gradients are then matrix products too. XLA
    takes the kernel's gradient of `jax.lax.conv_transpose` as a base-dilated convolution, many
    times slower on a CPU.

    Args:
      x: (B, H, W, C).
      kernel: (size, size, C, features), size 2 (no padding), 3 or 4 (padding 1).

    Returns:
      (B, 2H, 2W, features): what PyTorch's ConvTranspose2d gives with stride 2 and that padding
      (and output padding 1 for size 3).
    """
    height, width = x.shape[1:3]
    size = len(kernel)
    padding = (size - 1) // 2
    total = jnp.zeros((), x.dtype)
    for top, left in itertools.product(range(0, size, 2), repeat=2):
        image = _double(x, kernel[top : top + 2, left : left + 2])
        below, right = 2 * padding - top, 2 * padding - left
        total += jnp.pad(image, [(0, 0), (top, below), (left, right), (0, 0)])
    # Not by indexing, which becomes a gather where height and width are symbols, as in an export.
    rows = jax.lax.slice_in_dim(total, padding, padding + 2 * height, axis=1)
    return jax.lax.slice_in_dim(rows, padding, padding + 2 * width, axis=2)


def _double(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return `transposed_convolution` of a kernel of at most 2x2; what it doesn't reach is zero."""
    batch, height, width, channels = x.shape
    rows, columns, _, features = kernel.shape
    results = []
    # Each row apart: of a whole kernel's product XLA would transpose what comes out.
    for row in kernel:
        product = x @ row.swapaxes(0, 1).reshape(channels, columns * features)
        pixels = product.reshape(batch, height, width, columns, features)
        pixels = jnp.pad(pixels, [(0, 0)] * 3 + [(0, 2 - columns), (0, 0)])
        results.append(pixels.reshape(batch, height, 2 * width, features))
    results += [jnp.zeros_like(results[0])] * (2 - rows)
    return jnp.stack(results, axis=2).reshape(batch, 2 * height, 2 * width, features)


class ConvBlock(nn.Module):
    """Conv 3x3, norm, LeakyReLU 0.2, max-pool 2x2; the weights start as pix2pix's do.

    Attributes:
      features: channels that come out.
      norm: batch, instance or none.
      dtype: of the arithmetic; parameters stay float32.
    """

    features: int
    norm: str = "batch"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, C), H and W even, to (B, H/2, W/2, features)."""
        x = nn.Conv(
            self.features,
            (3, 3),
            padding=1,
            use_bias=self.norm == "none",
            kernel_init=KERNEL_INIT,
            dtype=self.dtype,
        )(x)
        return max_pool_2x2(leaky_relu(make_norm(self.norm, train, self.dtype)(x)))


def batch_norm(
    train: bool, dtype: Any, momentum: float = 0.9, epsilon: float = 1e-5, **options: Any
) -> nn.BatchNorm:
    """Return a BatchNorm, by default with PyTorch's constants (momentum 0.9 here is 0.1 there)."""
    return nn.BatchNorm(
        use_running_average=not train, momentum=momentum, epsilon=epsilon, dtype=dtype, **options
    )


def make_norm(name: str, train: bool, dtype: Any) -> Callable[[jax.Array], jax.Array]:
    """Return the norm of that name: batch, instance (no affine) or none.

    Raises:
      UserError: for another name.
    """
    if name == "batch":
        scale_init = nn.initializers.normal(0.02)
        return batch_norm(train, dtype, scale_init=lambda *args: 1.0 + scale_init(*args))
    if name == "instance":
        return nn.InstanceNorm(use_bias=False, use_scale=False, epsilon=1e-5, dtype=dtype)
    if name == "none":
        return lambda features: features
    raise UserError(f"The norm is {name!r}: choose batch, instance or none.")


def leaky_relu(features: jax.Array) -> jax.Array:
    """Return LeakyReLU with the slope 0.2 of DCGAN's critics."""
    return nn.leaky_relu(features, LEAKY_SLOPE)
