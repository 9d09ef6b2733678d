"""Critics: a picture of three channels in, a map of scores out."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.errors import UserError
from colorjax.models.layers import leaky_relu, make_norm

KERNEL_INIT = nn.initializers.normal(0.02)


class WGANCritic(nn.Module):
    """The critic of `wgan.py`: strided blocks, then one 4x4 valid convolution to the scores.

    With five blocks a picture of 128 pixels gives one score, one of 256 a map of 5x5.

    Attributes:
      widths: channels of each block of conv 4x4 stride 2, norm (not in the first), LeakyReLU 0.2.
      norm: instance, batch or none; WGAN-GP wants no batch norm.
      dtype: of the arithmetic; parameters and scores stay float32.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    norm: str = "instance"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to scores (B, h, w, 1), float32.

        Raises:
          UserError: if the picture is too small for the blocks.
        """
        smallest = 2 ** (len(self.widths) + 2)
        if min(image.shape[1:3]) < smallest:
            raise UserError(
                f"The critic's {len(self.widths)} blocks need pictures of at least {smallest} "
                f"pixels, these have {min(image.shape[1:3])}: raise config.image_size or shorten "
                "config.critic.widths."
            )
        x = image.astype(self.dtype)
        for block, features in enumerate(self.widths):
            x = _conv(features, 2, False, self.dtype)(x)
            if block:
                x = make_norm(self.norm, train, self.dtype)(x)
            x = leaky_relu(x)
        scores = nn.Conv(
            1, (4, 4), padding="VALID", use_bias=False, kernel_init=KERNEL_INIT, dtype=self.dtype
        )(x)
        return scores.astype(jnp.float32)


class PatchGAN(nn.Module):
    """The 70x70 PatchGAN of pix2pix (Isola et al., arXiv 1611.07004).

    Attributes:
      widths: channels of the convolutions 4x4; all but the last have stride 2.
      norm: batch (pix2pix), instance (for WGAN-GP) or none; the first block has none.
      dtype: of the arithmetic; parameters and scores stay float32.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    norm: str = "batch"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to scores (B, h, w, 1), float32: 30x30 at 256 pixels."""
        x = image.astype(self.dtype)
        for block, features in enumerate(self.widths):
            stride = 2 if block < len(self.widths) - 1 else 1
            x = _conv(features, stride, block == 0, self.dtype)(x)
            if block:
                x = make_norm(self.norm, train, self.dtype)(x)
            x = leaky_relu(x)
        return _conv(1, 1, True, self.dtype)(x).astype(jnp.float32)


def _conv(features: int, stride: int, use_bias: bool, dtype: Any) -> nn.Conv:
    return nn.Conv(
        features,
        (4, 4),
        strides=stride,
        padding=1,
        use_bias=use_bias,
        kernel_init=KERNEL_INIT,
        dtype=dtype,
    )
