"""The U-Net (Ronneberger et al., arXiv 1505.04597, with batch norm), as `wgan.py` has it."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.models.convolution import convolution_3x3
from colorjax.models.layers import (
    CLASS_SCORES,
    ClassScores,
    GlobalContext,
    UpConv2x2,
    batch_norm,
    max_pool_2x2,
    soften,
)


class DoubleConv(nn.Module):
    """Two times conv 3x3 without bias, BatchNorm, ReLU."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, features)."""
        for _ in range(2):
            x = convolution_3x3(self.features, self.dtype)(x)
            x = nn.relu(batch_norm(train, self.dtype)(x))
        return x


class UNet(nn.Module):
    """Encoder, bottleneck and decoder of double convolutions with concatenated skips.

    Attributes:
      widths: channels of each encoder stage, the last one the bottleneck's.
      context: whether the bottleneck is scaled and shifted by the mean over the picture.
      dropout: probability that a channel of the bottleneck is left out of a picture when training
        (Tompson et al., arXiv 1411.4280).
      classes: how many things the training pictures may show, which the bottleneck then scores (see
        `ClassScores`); 0 for none.
      softening: share of a binomial filter that the input is given when not training (`soften`). A
        random zoom leaves training pictures softer than those that are then coloured.
      saturation: factor of the prediction when not training, of ab; see `ResidualUNet`.
      output_channels: of the prediction; 2 for ab, 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    context: bool = False
    dropout: float = 0.0
    classes: int = 0
    softening: float = 0.0
    saturation: float = 1.0
    output_channels: int = 2
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this."""
        return 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        """Predict colour from lightness.

        Args:
          network_input: (B, H, W, channels), normalised by the codec.
          train: whether batch norm uses (and updates) the batch's statistics.

        Returns:
          (B, H, W, output_channels) float32, linear (no tanh).
        """
        x = network_input.astype(self.dtype)
        if self.softening and not train:
            x = soften(x, self.softening)
        skips = []
        for features in self.widths[:-1]:
            x = DoubleConv(features, self.dtype)(x, train)
            skips.append(x)
            x = max_pool_2x2(x)
        x = DoubleConv(self.widths[-1], self.dtype)(x, train)
        if self.classes and (self.is_initializing() or self.is_mutable_collection("intermediates")):
            self.sow("intermediates", CLASS_SCORES, ClassScores(self.classes, self.dtype)(x))
        if self.dropout:
            x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        if self.context:
            x = GlobalContext(self.dtype)(x)
        for skip in reversed(skips):
            x = UpConv2x2(skip.shape[-1], self.dtype)(x)
            x = DoubleConv(skip.shape[-1], self.dtype)(jnp.concatenate([skip, x], -1), train)
        x = nn.Conv(self.output_channels, (1, 1), dtype=self.dtype)(x)
        x = x.astype(jnp.float32)
        return x if train else x * self.saturation
