"""The transfer network of `resnet50.py`: the first block of ResNet-50 and a small decoder."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.errors import UserError
from colorjax.models.celeba import CelebADecoder
from colorjax.models.frozen import ENCODER
from colorjax.models.resnet import ResNet


class ResNetTransfer(nn.Module):
    """ResNet-50 cut after its first block, and `CelebADecoder` back to full size.

    The published system is Keras's, whose ResNet50 ends here at `conv2_block1_out` and has biases
    on its convolutions. The decoder's norms have Keras's momentum 0.99 and epsilon 1e-3. In the
    encoder the momentum is Keras's too, but epsilon is torchvision's 1e-5 (Keras: 1.001e-5), since
    it is torchvision's weights that are loaded.

    The encoder sees L/100 three times over, as published: grey pictures from 0 to 1, where
    torchvision's weights were trained on pictures less ImageNet's mean and divided by its
    deviation, a contrast 4.4 times as high. A frozen first layer keeps that mismatch; the norms
    that are not frozen even out its scale.

    Attributes:
      depth: of the ResNet, 50 or 18.
      encoder_end: its last part, at a quarter of the size: "layer1.0" or another of layer1.
      conv_bias: whether the encoder's convolutions have biases.
      frozen: layers of the encoder that stay as they are, statistics included, by torchvision's
        names; the published system meant to freeze all before the block's second convolution.
      output_channels: of the prediction; 2 for ab.
      dtype: of the arithmetic; parameters stay float32.
    """

    depth: int = 50
    encoder_end: str = "layer1.0"
    conv_bias: bool = True
    frozen: tuple[str, ...] = ()
    output_channels: int = 2
    dtype: Any = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width of an input are multiples of this.

        Raises:
          UserError: if the encoder doesn't end at a quarter of the size.
        """
        stride = ResNet(self.depth, self.encoder_end, parent=None).stride
        if stride != 4:
            raise UserError(
                f"config.generator.encoder_end is {self.encoder_end!r}: resnet_transfer's encoder "
                "ends in layer1: give layer1 or one of its blocks, such as layer1.0."
            )
        return stride

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        """Predict colour from lightness.

        Args:
          network_input: (B, H, W, 1), normalised by the codec; (B, H, W, 3) goes in as it is.
          train: whether batch norm outside the frozen layers uses (and updates) the batch's
            statistics.

        Returns:
          (B, H, W, output_channels) float32 in [-1, 1].
        """
        if network_input.shape[-1] == 1:
            network_input = jnp.repeat(network_input, 3, axis=-1)
        *_, features = ResNet(
            self.depth,
            self.encoder_end,
            conv_bias=self.conv_bias,
            frozen=self.frozen,
            momentum=0.99,
            dtype=self.dtype,
            name=ENCODER,
        )(network_input, train)
        decoder = CelebADecoder(self.output_channels, self.dtype, name="decoder")
        return decoder(features, network_input, train)
