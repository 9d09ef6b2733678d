"""The block U-Net of `cgan.py`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.models.layers import KERNEL_INIT, ConvBlock, make_norm, upsample_2x2


class ConvTBlock(nn.Module):
    """Transposed conv 3x3 of stride 1, BatchNorm, ReLU, upsampling x2 (nearest).

    With stride 1 a transposed convolution is a convolution whose kernel is turned by half a turn;
    the kernel is learned, so it is written as a convolution.

    Attributes:
      features: channels that come out.
      dtype: of the arithmetic; parameters stay float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, 2H, 2W, features)."""
        x = nn.Conv(
            self.features,
            (3, 3),
            padding=1,
            use_bias=False,
            kernel_init=KERNEL_INIT,
            dtype=self.dtype,
        )(x)
        return upsample_2x2(nn.relu(make_norm("batch", train, self.dtype)(x)))


class BlockUNet(nn.Module):
    """ConvBlocks down, then as many ConvTBlocks up, each fed with its mirrored ConvBlock's output.

    The first ConvTBlock's input is the last ConvBlock's output alone, which is its own mirror
    image; each later one takes what the block below gives, concatenated with the output of the
    ConvBlock of that size.

    Attributes:
      widths: channels of each ConvBlock; the ConvTBlocks have those of the skip they meet next,
        the last one the first ConvBlock's.
      output_channels: of the prediction; 2 for ab, 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    output_channels: int = 2
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this."""
        return 2 ** len(self.widths)

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        """Predict colour from lightness.

        Args:
          network_input: (B, H, W, channels), normalised by the codec.
          train: whether batch norm uses (and updates) the batch's statistics.

        Returns:
          (B, H, W, output_channels) float32 in [-1, 1].
        """
        x = network_input.astype(self.dtype)
        skips = []
        for features in self.widths:
            x = ConvBlock(features, dtype=self.dtype)(x, train)
            skips.append(x)
        x = skips.pop()
        for skip in reversed(skips):
            x = ConvTBlock(skip.shape[-1], self.dtype)(x, train)
            x = jnp.concatenate([skip, x], -1)
        x = ConvTBlock(self.widths[0], self.dtype)(x, train)
        x = nn.Conv(
            self.output_channels, (3, 3), padding=1, kernel_init=KERNEL_INIT, dtype=self.dtype
        )(x)
        return jnp.tanh(x.astype(jnp.float32))
