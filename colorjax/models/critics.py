"""Critics: a picture of three channels in, a map of scores out."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.errors import UserError
from colorjax.models.convolution import convolve
from colorjax.models.layers import KERNEL_INIT, ConvBlock, avg_pool_2x2, leaky_relu, make_norm


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
        _check_smallest_size(image, len(self.widths), 2 ** (len(self.widths) + 2))
        x = image.astype(self.dtype)
        for block, features in enumerate(self.widths):
            x = _conv(features, 2, False, self.dtype)(x)
            if block:
                x = make_norm(self.norm, train, self.dtype)(x)
            x = leaky_relu(x)
        scores = _conv(1, 1, False, self.dtype, padding=0)(x)
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
        """Map (B, H, W, 3) to scores (B, h, w, 1), float32: 30x30 at 256 pixels.

        Raises:
          UserError: if the picture is too small for the blocks.
        """
        # The two convolutions of stride 1 take a pixel each off what the others leave.
        _check_smallest_size(image, len(self.widths), 3 * 2 ** (len(self.widths) - 1))
        x = image.astype(self.dtype)
        for block, features in enumerate(self.widths):
            stride = 2 if block < len(self.widths) - 1 else 1
            x = _conv(features, stride, block == 0, self.dtype)(x)
            if block:
                x = make_norm(self.norm, train, self.dtype)(x)
            x = leaky_relu(x)
        return _conv(1, 1, True, self.dtype)(x).astype(jnp.float32)


class ConvBlockCritic(nn.Module):
    """The critic of `cgan.py`: blocks that each halve the size, then conv 3x3 to the scores.

    Attributes:
      widths: channels of each `ConvBlock`.
      norm: batch, instance (for WGAN-GP) or none.
      dtype: of the arithmetic; parameters and scores stay float32.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    norm: str = "batch"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to scores (B, H/stride, W/stride, 1), float32.

        The stride is 2 to the number of blocks: with four, 16x16 scores at 256 pixels.

        Raises:
          UserError: if the picture's sides are not multiples of the stride.
        """
        _check_size(image, 2 ** len(self.widths))
        x = image.astype(self.dtype)
        for features in self.widths:
            x = ConvBlock(features, self.norm, self.dtype)(x, train)
        return _conv(1, 1, True, self.dtype, size=3)(x).astype(jnp.float32)


class CNNCritic(nn.Module):
    """The critic of `autoencoder_gan.py`: a classifier with one output for the whole picture.

    Its last layer has a weight for every place, so it suits the size of picture that it was
    initialised for.

    Attributes:
      widths: channels of the first convolution (stride 2, no norm) and of the blocks of conv 3x3,
        norm, LeakyReLU 0.2, dropout.
      dropout: probability that a feature is dropped in training.
      norm: batch, instance (for WGAN-GP) or none.
      dtype: of the arithmetic; parameters and scores stay float32.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)
    dropout: float = 0.3
    norm: str = "batch"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to scores (B, 1), float32.

        Raises:
          UserError: if the picture's sides are not multiples of 8.
        """
        _check_size(image, 8)
        x = _conv(self.widths[0], 2, True, self.dtype, size=3)(image.astype(self.dtype))
        x = avg_pool_2x2(leaky_relu(x))
        for block, features in enumerate(self.widths[1:]):
            x = _conv(features, 1, True, self.dtype, size=3)(x)
            x = leaky_relu(make_norm(self.norm, train, self.dtype)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            if block == 0:
                x = avg_pool_2x2(x)
        x = x.reshape(len(x), -1)
        return nn.Dense(1, kernel_init=KERNEL_INIT, dtype=self.dtype)(x).astype(jnp.float32)


def _check_smallest_size(image: jax.Array, blocks: int, smallest: int) -> None:
    if min(image.shape[1:3]) < smallest:
        raise UserError(
            f"The critic's {blocks} blocks need pictures of at least {smallest} pixels, these have "
            f"{min(image.shape[1:3])}: raise config.image_size or shorten config.critic.widths."
        )


def _check_size(image: jax.Array, multiple: int) -> None:
    if any(side == 0 or side % multiple for side in image.shape[1:3]):
        raise UserError(
            f"The critic needs pictures whose sides are multiples of {multiple}, these are "
            f"{image.shape[1]}x{image.shape[2]}: change config.image_size."
        )


def _conv(
    features: int, stride: int, use_bias: bool, dtype: Any, size: int = 4, padding: int = 1
) -> nn.Conv:
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=padding,
        use_bias=use_bias,
        kernel_init=KERNEL_INIT,
        dtype=dtype,
        conv_general_dilated=convolve,
    )
