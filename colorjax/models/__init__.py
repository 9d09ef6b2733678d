"""Networks: Flax modules, their registries, and what a config chooses of them."""

from colorjax.models.celeba import CelebAAutoencoder, CelebADecoder
from colorjax.models.critics import PatchGAN, WGANCritic
from colorjax.models.networks import (
    Networks,
    count_parameters,
    create_networks,
    critic_shapes,
    generator_shapes,
    predict,
)
from colorjax.models.registry import CRITICS, DTYPES, GENERATORS, create_critic, create_generator
from colorjax.models.resnet_transfer import ResNetTransfer
from colorjax.models.resnet_unet import ResNetUNet
from colorjax.models.unet import UNet

__all__ = [
    "CRITICS",
    "DTYPES",
    "GENERATORS",
    "CelebAAutoencoder",
    "CelebADecoder",
    "Networks",
    "PatchGAN",
    "ResNetTransfer",
    "ResNetUNet",
    "UNet",
    "WGANCritic",
    "count_parameters",
    "create_critic",
    "create_generator",
    "create_networks",
    "critic_shapes",
    "generator_shapes",
    "predict",
]
