"""The U-Net of pix2pix (Isola et al., arXiv 1611.07004), as the authors' own code has it."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.models.layers import KERNEL_INIT, UpConv4x4, leaky_relu, make_norm


class Pix2PixUNet(nn.Module):
    """Convolutions 4x4 with stride 2 down to the innermost features, and back with skips.

    Attributes:
      widths: channels of each convolution down, the last one the innermost; eight lead from 256
        pixels to one.
      dropout: probability that a feature is dropped in training, in the at most three blocks after
        the innermost that keep its width.
      output_channels: of the prediction; 2 for ab, 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512)
    dropout: float = 0.5
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
          train: whether dropout acts, and batch norm uses (and updates) the batch's statistics.

        Returns:
          (B, H, W, output_channels) float32 in [-1, 1].
        """
        innermost = len(self.widths) - 1
        x = network_input.astype(self.dtype)
        skips = []
        for level, features in enumerate(self.widths):
            x = self._down(features)(leaky_relu(x) if level else x)
            if 0 < level < innermost:
                x = make_norm("batch", train, self.dtype)(x)
            skips.append(x)
        x = skips.pop()
        for level in reversed(range(innermost)):
            x = UpConv4x4(self.widths[level], self.dtype, False, KERNEL_INIT)(nn.relu(x))
            x = make_norm("batch", train, self.dtype)(x)
            if self._drops_out(level):
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = jnp.concatenate([skips[level], x], -1)
        x = UpConv4x4(self.output_channels, self.dtype, True, KERNEL_INIT)(nn.relu(x))
        return jnp.tanh(x.astype(jnp.float32))

    def _down(self, features: int) -> nn.Conv:
        return nn.Conv(
            features,
            (4, 4),
            strides=2,
            padding=1,
            use_bias=False,
            kernel_init=KERNEL_INIT,
            dtype=self.dtype,
        )

    def _drops_out(self, level: int) -> bool:
        """Whether the block that leads up to the size and width of this level has dropout."""
        blocks_after_innermost = len(self.widths) - 2 - level
        return 1 <= blocks_after_innermost <= 3 and self.widths[level] == self.widths[-1]
