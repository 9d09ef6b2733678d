"""ResNet-18 and ResNet-50 as torchvision builds them (He et al., arXiv 1512.03385), as encoders.

The tree of parameters has torchvision's names with an underscore for each point inside a block's
name: `conv1`, `bn1`, `layer1_0/conv1`, `layer1_0/bn1`, ..., `layer2_0/downsample_0` (convolution)
and `layer2_0/downsample_1` (norm). A bottleneck has its stride in the 3x3 convolution, which
torchvision calls v1.5. Padding is PyTorch's, the same on both sides.
"""

from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.errors import UserError
from colorjax.models.frozen import is_frozen, torchvision_name

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # of each stage, by depth
NORM_EPSILON = 1e-5  # torchvision's, whose weights are loaded

# What torchvision starts from; `fan_out` because a ReLU follows.
KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclass(frozen=True)
class ConvNorm:
    """Adds a convolution and its norm to the module that calls it; see `ResNet` for the fields."""

    conv_bias: bool
    running_norms: bool
    frozen: tuple[str, ...]
    momentum: float
    train: bool
    dtype: Any
    block: str = ""  # the names on the way to this block, such as "layer1_0"

    def __call__(
        self, x: jax.Array, features: int, size: int, stride: int, conv: str, norm: str
    ) -> jax.Array:
        """Map (B, H, W, C) to (B, H/stride, W/stride, features) by a kernel of `size` pixels."""
        x = nn.Conv(
            features,
            (size, size),
            strides=stride,
            padding=size // 2,
            use_bias=self.conv_bias,
            kernel_init=KERNEL_INIT,
            dtype=self.dtype,
            name=conv,
        )(x)
        name = torchvision_name([self.block, norm] if self.block else [norm])
        running = not self.train or self.running_norms or is_frozen(name, self.frozen)
        return nn.BatchNorm(
            use_running_average=running,
            momentum=self.momentum,
            epsilon=NORM_EPSILON,
            dtype=self.dtype,
            name=norm,
        )(x)


class BasicBlock(nn.Module):
    """Two convolutions 3x3 beside the shortcut: (B, H, W, C) to (B, H/stride, W/stride, width)."""

    width: int
    stride: int
    conv_norm: ConvNorm

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the block's output, after its last ReLU."""
        y = nn.relu(self.conv_norm(x, self.width, 3, self.stride, "conv1", "bn1"))
        y = self.conv_norm(y, self.width, 3, 1, "conv2", "bn2")
        return nn.relu(y + _shortcut(x, y, self.stride, self.conv_norm))


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 to four times the width, beside the shortcut."""

    width: int
    stride: int
    conv_norm: ConvNorm

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the block's output, after its last ReLU: (B, H/stride, W/stride, 4 width)."""
        y = nn.relu(self.conv_norm(x, self.width, 1, 1, "conv1", "bn1"))
        y = nn.relu(self.conv_norm(y, self.width, 3, self.stride, "conv2", "bn2"))
        y = self.conv_norm(y, 4 * self.width, 1, 1, "conv3", "bn3")
        return nn.relu(y + _shortcut(x, y, self.stride, self.conv_norm))


class ResNet(nn.Module):
    """The convolutional part of a ResNet, cut where a decoder takes over.

    Attributes:
      depth: 18 (of `BasicBlock`) or 50 (of `Bottleneck`).
      encoder_end: the last part that is built: a stage, "layer1" to "layer4", or a block, such as
        "layer1.0", the first of layer1 (Keras calls it conv2_block1).
      conv_bias: whether convolutions have a bias, as Keras's do and torchvision's do not.
      running_norms: whether every norm normalises by its running statistics in training as well;
        scale and bias still learn. Weights whose norms are folded into the convolutions need it:
        statistics of the batch would undo the folded scales.
      frozen: torchvision's names, or starts of them, of layers that stay as they are. A norm among
        them uses its running statistics in training and never updates them; that parameters stay
        is the optimizer's part (see `colorjax.models.frozen`).
      momentum: how much of the running statistics a training step keeps.
      dtype: of the arithmetic; parameters and statistics stay float32.
    """

    depth: int = 18
    encoder_end: str = "layer4"
    conv_bias: bool = False
    running_norms: bool = False
    frozen: tuple[str, ...] = ()
    momentum: float = 0.9
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """How many pixels of the input are one of the last output's; inputs are multiples."""
        return int(2 ** (self._blocks()[-1][0] + 1))

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """Return what each stage gives.

        Args:
          image: (B, H, W, channels), of any number of channels.
          train: whether norms that may do so use and update the batch's statistics.

        Returns:
          From fine to coarse: the stem, (B, H/2, W/2, 64), after its ReLU and before the pooling;
          layer1 at 1/4, layer2 at 1/8, layer3 at 1/16, layer4 at 1/32, each after the last of its
          blocks that is built, of 64, 128, 256, 512 channels, four times that at depth 50.

        Raises:
          UserError: for an impossible depth or encoder_end.
        """
        conv_norm = ConvNorm(
            self.conv_bias, self.running_norms, self.frozen, self.momentum, train, self.dtype
        )
        x = conv_norm(image.astype(self.dtype), 64, 7, 2, "conv1", "bn1")
        features = [nn.relu(x)]
        x = max_pool_3x3(features[0])
        for stage, block in self._blocks():
            name = f"layer{stage}_{block}"
            x = (BasicBlock if self.depth == 18 else Bottleneck)(
                width=32 * 2**stage,
                stride=2 if stage > 1 and block == 0 else 1,
                conv_norm=replace(conv_norm, block=name),
                name=name,
            )(x)
            features[stage:] = [x]
        return tuple(features)

    def _blocks(self) -> list[tuple[int, int]]:
        """Return the number of the stage (from 1) and of the block in it (from 0), up to the end.

        Raises:
          UserError: for an impossible depth or encoder_end.
        """
        if self.depth not in BLOCKS:
            raise UserError(f"config.generator.depth is {self.depth}: choose 18 or 50.")
        counts = enumerate(BLOCKS[self.depth], start=1)
        blocks = [(stage, block) for stage, count in counts for block in range(count)]
        ends = {f"layer{stage}": end + 1 for end, (stage, _) in enumerate(blocks)}
        ends |= {f"layer{stage}.{block}": end + 1 for end, (stage, block) in enumerate(blocks)}
        if self.encoder_end not in ends:
            raise UserError(
                f"config.generator.encoder_end is {self.encoder_end!r}: give a stage, layer1 to "
                "layer4, or one of its blocks, such as layer1.0."
            )
        return blocks[: ends[self.encoder_end]]


def max_pool_3x3(features: jax.Array) -> jax.Array:
    """Halve height and width by the maximum of 3x3 windows with stride 2 and padding 1.

    First over rows, then over columns, as maxima of slices: the gradient is much faster on a CPU
    than XLA's select-and-scatter. Equal maxima share the gradient.

    Args:
      features: (B, H, W, C), H and W even.

    Returns:
      (B, H/2, W/2, C).
    """
    return _max_pool_axis(_max_pool_axis(features, 1), 2)


def _max_pool_axis(features: jax.Array, axis: int) -> jax.Array:
    even, odd = (jax.lax.slice_in_dim(features, i, None, stride=2, axis=axis) for i in (0, 1))
    # The window that is centred on an even place reaches back to the odd one before it.
    outside = jnp.full_like(jax.lax.slice_in_dim(odd, 0, 1, axis=axis), -jnp.inf)
    before = jnp.concatenate([outside, jax.lax.slice_in_dim(odd, 0, -1, axis=axis)], axis)
    return jnp.maximum(jnp.maximum(even, odd), before)


def _shortcut(x: jax.Array, y: jax.Array, stride: int, conv_norm: ConvNorm) -> jax.Array:
    if x.shape == y.shape:
        return x
    return conv_norm(x, y.shape[-1], 1, stride, "downsample_0", "downsample_1")
