"""The autoencoders of `autoencoder_gan.py`: its generator, and those that led to it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.errors import UserError
from colorjax.models.layers import UpConv3x3, batch_norm, leaky_relu, max_pool_2x2

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "leaky_relu": leaky_relu,
    "relu": nn.relu,
}


class ResidualAutoencoder(nn.Module):
    """Strided convolutions down to an embedding, transposed ones up, two skips added.

    Every layer but the first and the last has BatchNorm. As in ResNet a skip is added to what the
    norm gives, before the ReLU. The embedding, (B, H/8, W/8, 512), is sown in the collection
    `intermediates`.

    Attributes:
      widths: channels of the first convolution, of the maps at a half and at a quarter of the size,
        and of the embedding at an eighth.
      output_channels: of the prediction; 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    output_channels: int = 3
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this."""
        return 8

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        """Predict colour from a grey picture.

        Args:
          network_input: (B, H, W, channels), normalised by the codec.
          train: whether batch norm uses (and updates) the batch's statistics.

        Returns:
          (B, H, W, output_channels) float32 in [0, 1].

        Raises:
          UserError: if there are not four widths.
        """

        def norm(x: jax.Array) -> jax.Array:
            return batch_norm(train, self.dtype)(x)

        def conv(x: jax.Array, features: int, stride: int) -> jax.Array:
            return nn.relu(norm(_conv(features, self.dtype, stride, use_bias=False)(x)))

        def up(x: jax.Array, features: int) -> jax.Array:
            return norm(UpConv3x3(features, self.dtype, use_bias=False)(x))

        if len(self.widths) != 4:
            raise UserError(
                f"config.generator.widths is {self.widths}: residual_autoencoder takes four."
            )
        first, half, quarter, embedding = self.widths
        x = nn.relu(_conv(first, self.dtype, stride=2)(network_input.astype(self.dtype)))
        half_skip = conv(x, half, 1)
        quarter_skip = conv(conv(half_skip, half, 2), quarter, 1)
        x = conv(quarter_skip, embedding, 2)
        self.sow("intermediates", "embedding", x)
        x = nn.relu(up(x, quarter) + quarter_skip)
        x = nn.relu(up(x, half) + half_skip)
        x = nn.relu(up(x, first))
        return _picture(x, self.output_channels, self.dtype)


class DemoAutoencoder(nn.Module):
    """The small network whose weights `autoencoder_gan.py`'s original shipped; it has no norms.

    Conv 3x3, max-pool and LeakyReLU 0.2 down; transposed conv 3x3 up, each followed by LeakyReLU
    and by concatenation with the pooled features of that size.

    Attributes:
      widths: channels of each convolution down.
      output_channels: of the prediction; 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128)
    output_channels: int = 3
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this."""
        return 2 ** len(self.widths)

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        """Predict colour from a grey picture.

        Args:
          network_input: (B, H, W, channels), normalised by the codec.
          train: changes nothing here.

        Returns:
          (B, H, W, output_channels) float32 in [0, 1].
        """
        x = network_input.astype(self.dtype)
        skips = []
        for features in self.widths:
            x = leaky_relu(max_pool_2x2(_conv(features, self.dtype)(x)))
            skips.append(x)
        x = skips.pop()
        for skip in reversed(skips):
            x = leaky_relu(UpConv3x3(skip.shape[-1], self.dtype)(x))
            x = jnp.concatenate([skip, x], -1)
        x = UpConv3x3(self.output_channels, self.dtype)(x)
        return nn.sigmoid(x.astype(jnp.float32))


class PlainAutoencoder(nn.Module):
    """Strided convolutions down, as many transposed ones up, one to the picture; no norms.

    Attributes:
      layers: how many convolutions in all, odd: 5 halve the size twice, 7 three times.
      activation: relu or leaky_relu (slope 0.2), after every layer but the last.
      skips: whether features on the way down are added to those of the same size on the way up.
      width: channels of the first layer; each one further down has twice as many.
      output_channels: of the prediction; 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    layers: int = 5
    activation: str = "relu"
    skips: bool = False
    width: int = 64
    output_channels: int = 3
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this.

        Raises:
          UserError: if there can't be that many layers.
        """
        if self.layers < 3 or self.layers % 2 == 0:
            raise UserError(
                f"config.generator.layers is {self.layers}: give an odd number of at least 3."
            )
        return 2 ** (self.layers // 2)

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        """Predict colour from a grey picture.

        Args:
          network_input: (B, H, W, channels), normalised by the codec.
          train: changes nothing here.

        Returns:
          (B, H, W, output_channels) float32 in [0, 1].

        Raises:
          UserError: for an unknown activation.
        """
        if self.activation not in ACTIVATIONS:
            raise UserError(
                f"config.generator.activation is {self.activation!r}: choose one of "
                f"{', '.join(ACTIVATIONS)}."
            )
        activation = ACTIVATIONS[self.activation]
        x = network_input.astype(self.dtype)
        downs = []
        for level in range(self.layers // 2):
            x = activation(_conv(self.width * 2**level, self.dtype, stride=2)(x))
            downs.append(x)
        x = downs.pop()
        for down in reversed(downs):
            x = activation(UpConv3x3(down.shape[-1], self.dtype)(x))
            x = x + down if self.skips else x
        x = activation(UpConv3x3(self.width, self.dtype)(x))
        return _picture(x, self.output_channels, self.dtype)


def _conv(features: int, dtype: Any, stride: int = 1, use_bias: bool = True) -> nn.Conv:
    return nn.Conv(features, (3, 3), strides=stride, padding=1, use_bias=use_bias, dtype=dtype)


def _picture(x: jax.Array, output_channels: int, dtype: Any) -> jax.Array:
    return nn.sigmoid(_conv(output_channels, dtype)(x).astype(jnp.float32))
