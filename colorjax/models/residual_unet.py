"""The house's own generator: a U-Net of residual blocks that works at a lower resolution."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.errors import UserError
from colorjax.models.convolution import convolution_3x3
from colorjax.models.layers import (
    GlobalContext,
    UpConv2x2,
    avg_pool_2x2,
    batch_norm,
    space_to_depth,
    upsample_bilinear,
)


class ResidualBlock(nn.Module):
    """Two times norm, ReLU, conv 3x3, added to the input (He et al., arXiv 1603.05027).

    Attributes:
      norm: batch, or group for GroupNorm with 16 channels a group (Wu and He, arXiv 1803.08494).
      dtype: of the arithmetic; parameters stay float32.
    """

    norm: str = "batch"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, C) to the same shape."""
        residual = x
        for _ in range(2):
            residual = nn.relu(_norm(self.norm, residual.shape[-1], train, self.dtype)(residual))
            residual = convolution_3x3(x.shape[-1], self.dtype)(residual)
        return x + residual


class SelfAttention(nn.Module):
    """Lets each place of a small map look at all others (Vaswani et al., arXiv 1706.03762)."""

    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to the same shape."""
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        normed = nn.LayerNorm(dtype=self.dtype)(tokens)
        attended = nn.MultiHeadDotProductAttention(
            self.heads, use_bias=False, dtype=self.dtype, out_kernel_init=nn.initializers.zeros
        )(normed)
        return x + attended.reshape(x.shape)


class ResidualUNet(nn.Module):
    """Encoder and decoder of residual blocks, with added skips and a view of the whole picture.

    Colour is coarse beside lightness, so the stem folds 2x2 or 4x4 pixels into channels, all the
    work is done at a half or a quarter of the resolution, and the prediction is enlarged: a quarter
    or a sixteenth of the arithmetic. It is enlarged bilinearly, or with the edges of the lightness.

    Attributes:
      stem_stride: 2 or 4, the input's pixels to one of the first stage, along either side.
      widths: channels of the stages, each at half the size of the one before.
      blocks: residual blocks of each encoder stage; the decoder has one a stage.
      norm: batch or group.
      context: whether the last stage is scaled and shifted by the mean over the picture.
      attention: whether the last stage's places look at one another.
      guided: whether the network predicts, beside the colour, how it changes with the detail of the
        lightness that the lower resolution can't show (after Gharbi et al., arXiv 1707.02880).
        Averages of 4x4 pixels of the true colour, enlarged, can't reach more than 32 dB of PSNR on
        photos of flowers at 128 pixels; with the edges of the lightness 35 dB.
      dropout: probability that a channel of the last stage is left out of a picture when training
        (Tompson et al., arXiv 1411.4280).
      saturation: factor of the prediction when not training, of ab. The L1 loss is content with the
        median of the colours that a place may have, which is paler than any of them.
      output_channels: of the prediction; 2 for ab, 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    stem_stride: int = 2
    widths: tuple[int, ...] = (48, 96, 192, 384)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    norm: str = "batch"
    context: bool = True
    attention: bool = True
    guided: bool = False
    dropout: float = 0.0
    saturation: float = 1.0
    output_channels: int = 2
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this."""
        return self.stem_stride * 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        """Predict colour from lightness.

        Args:
          network_input: (B, H, W, channels), normalised by the codec.
          train: whether batch norm uses (and updates) the batch's statistics.

        Returns:
          (B, H, W, output_channels) float32, linear (no tanh).
        """
        x = self._stem(network_input.astype(self.dtype))
        skips = []
        for stage, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            if stage:
                skips.append(x)
                x = nn.Conv(width, (1, 1), dtype=self.dtype)(space_to_depth(x))
            for _ in range(blocks):
                x = ResidualBlock(self.norm, self.dtype)(x, train)
        if self.dropout:
            x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        if self.attention:
            x = SelfAttention(dtype=self.dtype)(x)
        if self.context:
            x = GlobalContext(self.dtype)(x)
        for skip in reversed(skips):
            x = skip + UpConv2x2(skip.shape[-1], self.dtype)(x)
            x = ResidualBlock(self.norm, self.dtype)(x, train)
        x = nn.relu(_norm(self.norm, x.shape[-1], train, self.dtype)(x))
        values = self.output_channels * (2 if self.guided else 1)
        x = nn.Conv(values, (3, 3), padding=1, dtype=jnp.float32)(x)
        x = self._enlarge(x if train else x * self.saturation)
        if self.guided:
            color, slope = jnp.split(x, 2, axis=-1)
            x = color + slope * self._detail(network_input)
        return x

    def _stem(self, x: jax.Array) -> jax.Array:
        """Map (B, H, W, C) to (B, H / stem_stride, W / stem_stride, widths[0])."""
        if self.stem_stride == 2:
            return nn.Conv(self.widths[0], (3, 3), padding=1, dtype=self.dtype)(space_to_depth(x))
        if self.stem_stride != 4:
            raise UserError(f"config.generator.stem_stride={self.stem_stride}: give 2 or 4.")
        x = nn.Conv(max(1, self.widths[0] // 2), (3, 3), padding=1, dtype=self.dtype)(
            space_to_depth(x)
        )
        return nn.Conv(self.widths[0], (1, 1), dtype=self.dtype)(space_to_depth(nn.relu(x)))

    def _enlarge(self, x: jax.Array) -> jax.Array:
        """Map the first stage's size to that of the input."""
        for _ in range(self.stem_stride // 2):
            x = upsample_bilinear(x)
        return x

    def _detail(self, network_input: jax.Array) -> jax.Array:
        """Return what the first stage's size can't show of the lightness, (B, H, W, 1)."""
        lightness = network_input[..., :1].astype(jnp.float32)
        coarse = lightness
        for _ in range(self.stem_stride // 2):
            coarse = avg_pool_2x2(coarse)
        return lightness - self._enlarge(coarse)


def _norm(name: str, channels: int, train: bool, dtype: Any) -> Any:
    if name == "group":
        return nn.GroupNorm(num_groups=None, group_size=min(16, channels), dtype=dtype)
    return batch_norm(train, dtype)
