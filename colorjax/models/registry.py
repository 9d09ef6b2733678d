"""The registries that find a network by the name that a config gives it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from colorjax.errors import UserError
from colorjax.models.autoencoders import DemoAutoencoder, PlainAutoencoder, ResidualAutoencoder
from colorjax.models.block_unet import BlockUNet
from colorjax.models.celeba import CelebAAutoencoder
from colorjax.models.critics import CNNCritic, ConvBlockCritic, PatchGAN, WGANCritic
from colorjax.models.pix2pix import Pix2PixUNet
from colorjax.models.residual_unet import ResidualUNet
from colorjax.models.resnet_transfer import ResNetTransfer
from colorjax.models.resnet_unet import ResNetUNet
from colorjax.models.unet import UNet
from colorjax.ranges import Range, check_numbers

GENERATORS: dict[str, type[nn.Module]] = {
    "block_unet": BlockUNet,
    "celeba_autoencoder": CelebAAutoencoder,
    "demo_autoencoder": DemoAutoencoder,
    "pix2pix": Pix2PixUNet,
    "plain_autoencoder": PlainAutoencoder,
    "residual_autoencoder": ResidualAutoencoder,
    "residual_unet": ResidualUNet,
    "resnet_transfer": ResNetTransfer,
    "resnet_unet": ResNetUNet,
    "unet": UNet,
}
CRITICS: dict[str, type[nn.Module]] = {
    "cnn": CNNCritic,
    "conv_block": ConvBlockCritic,
    "patchgan": PatchGAN,
    "wgan": WGANCritic,
}
MOST_OPTIONS = 64  # entries of an option such as widths
LARGEST_OPTION = 2**16  # of any number; a model from elsewhere may ask for anything
_RANGES = {
    "width": Range(1, LARGEST_OPTION),
    "classes": Range(0, LARGEST_OPTION),
    "stem_stride": Range(2, 4),
    "dropout": Range(0.0, 1.0, excluded=1.0),
    "saturation": Range(0.0, 10.0),
    "softening": Range(0.0, 1.0),
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def create_generator(fields: Mapping[str, Any], output_channels: int, dtype: str) -> nn.Module:
    """Return the generator that `config.generator` describes.

    Args:
      fields: its `name` and options; an empty option means the network's own default.
      output_channels: what the codec predicts.
      dtype: of the arithmetic, float32 or bfloat16.

    Raises:
      UserError: for an unknown name, option or dtype, or an option out of its range.
    """
    return _create("generator", GENERATORS, fields, dtype, output_channels=output_channels)


def create_critic(fields: Mapping[str, Any], dtype: str) -> nn.Module:
    """Return the critic that `config.critic` describes; arguments as `create_generator`."""
    return _create("critic", CRITICS, fields, dtype)


def _create(
    kind: str,
    registry: Mapping[str, type[nn.Module]],
    fields: Mapping[str, Any],
    dtype: str,
    **options: Any,
) -> nn.Module:
    name = fields["name"]
    if name not in registry:
        raise UserError(f"config.{kind}.name is {name!r}: choose one of {', '.join(registry)}.")
    if dtype not in DTYPES:
        raise UserError(f"config.dtype is {dtype!r}: choose one of {', '.join(DTYPES)}.")
    # Flax's own fields, and those that are given below.
    reserved = {"parent", "name", "dtype", *options}
    known = {field.name for field in dataclasses.fields(registry[name])} - reserved
    for field, value in fields.items():
        if field == "name" or value in ((), [], "", None):
            continue
        if field == "widths" and min(value) < 1:
            raise UserError(f"config.{kind}.widths={tuple(value)}: give positive numbers.")
        if _is_absurd(value):
            raise UserError(
                f"config.{kind}.{field} is too large: give numbers up to {LARGEST_OPTION}, at most "
                f"{MOST_OPTIONS} of them."
            )
        if field not in known:
            raise UserError(f"config.{kind}.{field} does not apply to {name}: leave it empty.")
        check_numbers({field: value}, _RANGES, f"config.{kind}.")
        # A config read back from JSON has lists where Flax needs hashable tuples.
        options[field] = tuple(value) if isinstance(value, list) else value
    return registry[name](dtype=DTYPES[dtype], **options)


def _is_absurd(value: Any) -> bool:
    """Return whether an option would make a network that nobody could build or hold."""
    values = value if isinstance(value, list | tuple) else (value,)
    numbers = [each for each in values if isinstance(each, int | float)]
    return len(values) > MOST_OPTIONS or any(abs(each) > LARGEST_OPTION for each in numbers)
