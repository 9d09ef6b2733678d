"""fastai's DynamicUnet over a ResNet encoder (https://docs.fast.ai/vision.models.unet.html)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.models.frozen import ENCODER
from colorjax.models.layers import batch_norm
from colorjax.models.resnet import ResNet

KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # He et al., 1502.01852


class ShuffleUp(nn.Module):
    """Conv 1x1 with bias, ReLU, and pixel shuffle: (B, H, W, C) to (B, 2H, 2W, features).

    The kernel starts with the same weights for the four pixels that come of one, so that no
    checkerboard shows at first (ICNR, Aitken et al., arXiv 1707.02937). Its output channels are
    ordered as row, column, feature, where PyTorch's `PixelShuffle` has feature, row, column.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the upsampled features."""
        batch, height, width, _ = x.shape
        conv = nn.Conv(4 * self.features, (1, 1), kernel_init=icnr_kernel, dtype=self.dtype)
        blocks = nn.relu(conv(x)).reshape(batch, height, width, 2, 2, self.features)
        return blocks.swapaxes(2, 3).reshape(batch, 2 * height, 2 * width, self.features)


class ResNetUNet(nn.Module):
    """A ResNet encoder, and as many blocks of pixel shuffles as it has finer stages.

    Each block doubles the size by `ShuffleUp`, halving the channels, concatenates the norm of that
    stage's features and has two convolutions 3x3; they keep the channels, but halve them in the
    last block. One more `ShuffleUp` leads to full size. With the encoder's end at layer4 there are
    four blocks (31,099,672 parameters); each stage less is one block less by the same rule: at
    layer3 the blocks give 256, 192 and 80 channels.

    The encoder takes the codec's one channel; filters over RGB are summed when they are loaded.
    They were trained on (rgb - mean) / deviation, with ImageNet's, and so on a grey of about
    4.4 g - 2 for g from 0 to 1. The codec lab_centered gives L/50 - 1, about 2 g - 1: the same to
    within a factor of 2.2 and a shift. Norms that use the batch's statistics take both away again;
    with `running_norms`, or a frozen `bn1`, the filters answer 2.2 times too weakly unless
    `encoder_gain` is 2.2.

    Attributes:
      depth: of the ResNet, 18 or 50.
      encoder_end: the encoder's last stage; see `ResNet`.
      running_norms: whether the encoder's norms use their running statistics in training too, as
        weights with folded norms need it; see `ResNet`.
      encoder_gain: what the encoder's input is multiplied by.
      frozen: layers of the encoder that stay as they are, statistics included, by torchvision's
        names.
      output_channels: of the prediction; 2 for ab, 3 for RGB.
      dtype: of the arithmetic; parameters stay float32.
    """

    depth: int = 18
    encoder_end: str = "layer4"
    running_norms: bool = False
    encoder_gain: float = 1.0
    frozen: tuple[str, ...] = ()
    output_channels: int = 2
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this."""
        return ResNet(self.depth, self.encoder_end, parent=None).stride

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        """Predict colour from lightness.

        Args:
          network_input: (B, H, W, channels), normalised by the codec.
          train: whether batch norm uses (and updates) the batch's statistics.

        Returns:
          (B, H, W, output_channels) float32, linear (no tanh).
        """
        network_input = network_input.astype(self.dtype)
        *skips, x = ResNet(
            self.depth,
            self.encoder_end,
            running_norms=self.running_norms,
            frozen=self.frozen,
            dtype=self.dtype,
            name=ENCODER,
        )(network_input * self.encoder_gain, train)
        channels = x.shape[-1]
        x = nn.relu(batch_norm(train, self.dtype)(x))
        x = self._convolutions(x, (2 * channels, channels))
        for stage in reversed(range(len(skips))):
            skip = batch_norm(train, self.dtype)(skips[stage])
            x = ShuffleUp(x.shape[-1] // 2, self.dtype)(x)
            x = nn.relu(jnp.concatenate([x, skip], -1))
            features = x.shape[-1] if stage else x.shape[-1] // 2
            x = self._convolutions(x, (features, features))
        x = ShuffleUp(x.shape[-1], self.dtype)(x)
        x = jnp.concatenate([x, network_input], -1)
        features = x.shape[-1]
        y = self._convolutions(x, (features,))
        x = nn.relu(x + self._conv(features, 3)(y))
        return self._conv(self.output_channels, 1)(x).astype(jnp.float32)

    @nn.nowrap
    def _conv(self, features: int, size: int) -> nn.Conv:
        return nn.Conv(
            features, (size, size), padding=size // 2, kernel_init=KERNEL_INIT, dtype=self.dtype
        )

    @nn.nowrap
    def _convolutions(self, x: jax.Array, widths: Sequence[int]) -> jax.Array:
        """Apply conv 3x3 and ReLU once for each width."""
        for features in widths:
            x = nn.relu(self._conv(features, 3)(x))
        return x


def icnr_kernel(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Return a kernel (1, 1, in, 4 out) whose four groups of `out` filters are the same."""
    *rest, features = shape
    return jnp.tile(KERNEL_INIT(key, (*rest, features // 4), dtype), 4)
