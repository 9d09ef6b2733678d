"""The autoencoder of `autoencoder.py`, and the decoder that `resnet50.py` shares with it."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.models.layers import batch_norm, max_pool_2x2, upsample_2x2

# Keras' constants, with which the published networks were trained.
LEAKY_SLOPE = 0.3
KERNEL_INIT = nn.initializers.glorot_uniform()


class CelebABlock(nn.Module):
    """Conv 3x3 with bias, LeakyReLU 0.3, BatchNorm with Keras' constants: in that order."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, C) to (B, H, W, features)."""
        x = nn.leaky_relu(_conv(self.features, self.dtype)(x), LEAKY_SLOPE)
        return batch_norm(train, self.dtype, momentum=0.99, epsilon=1e-3)(x)


class CelebADecoder(nn.Module):
    """From features at a quarter of the picture's size to its colour.

    Attributes:
      output_channels: of the prediction.
      dtype: of the arithmetic; parameters stay float32.
    """

    output_channels: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, network_input: jax.Array, train: bool) -> jax.Array:
        """Decode the encoder's features.

        Args:
          features: (B, H/4, W/4, C); the published encoders give 256 channels.
          network_input: (B, H, W, channels), concatenated before the last three convolutions.
          train: whether batch norm uses (and updates) the batch's statistics.

        Returns:
          (B, H, W, output_channels) float32 in [-1, 1].
        """
        x = upsample_2x2(features.astype(self.dtype))
        x = CelebABlock(128, self.dtype)(x, train)
        x = CelebABlock(64, self.dtype)(upsample_2x2(x), train)
        x = jnp.concatenate([x, network_input.astype(self.dtype)], -1)
        x = CelebABlock(64, self.dtype)(x, train)
        x = CelebABlock(32, self.dtype)(x, train)
        return jnp.tanh(_conv(self.output_channels, self.dtype)(x).astype(jnp.float32))


class CelebAAutoencoder(nn.Module):
    """Five convolutions down to a quarter of the size, and `CelebADecoder` back up.

    Attributes:
      output_channels: of the prediction; 2 for ab, 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    output_channels: int = 2
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this."""
        return 4

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
        x = nn.leaky_relu(_conv(16, self.dtype)(x), LEAKY_SLOPE)
        x = max_pool_2x2(CelebABlock(32, self.dtype)(x, train))
        x = max_pool_2x2(CelebABlock(64, self.dtype)(x, train))
        x = CelebABlock(128, self.dtype)(x, train)
        x = CelebABlock(256, self.dtype)(x, train)
        return CelebADecoder(self.output_channels, self.dtype)(x, network_input, train)


def _conv(features: int, dtype: Any) -> nn.Conv:
    return nn.Conv(features, (3, 3), padding=1, kernel_init=KERNEL_INIT, dtype=dtype)
