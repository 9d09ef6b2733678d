"""Networks: Flax modules, their registries, and what a config chooses of them."""

from colorjax.models.autoencoders import DemoAutoencoder, PlainAutoencoder, ResidualAutoencoder
from colorjax.models.block_unet import BlockUNet
from colorjax.models.celeba import CelebAAutoencoder, CelebADecoder
from colorjax.models.critics import CNNCritic, ConvBlockCritic, PatchGAN, WGANCritic
from colorjax.models.layers import CLASS_SCORES
from colorjax.models.networks import (
    Networks,
    count_parameters,
    create_networks,
    critic_shapes,
    generator_shapes,
    naming_impossible_network,
    predict,
)
from colorjax.models.pix2pix import Pix2PixUNet
from colorjax.models.registry import CRITICS, DTYPES, GENERATORS, create_critic, create_generator
from colorjax.models.resnet_transfer import ResNetTransfer
from colorjax.models.resnet_unet import ResNetUNet
from colorjax.models.unet import UNet

__all__ = [
    "CLASS_SCORES",
    "CRITICS",
    "DTYPES",
    "GENERATORS",
    "BlockUNet",
    "CNNCritic",
    "CelebAAutoencoder",
    "CelebADecoder",
    "ConvBlockCritic",
    "DemoAutoencoder",
    "Networks",
    "PatchGAN",
    "Pix2PixUNet",
    "PlainAutoencoder",
    "ResNetTransfer",
    "ResNetUNet",
    "ResidualAutoencoder",
    "UNet",
    "WGANCritic",
    "count_parameters",
    "create_critic",
    "create_generator",
    "create_networks",
    "critic_shapes",
    "generator_shapes",
    "naming_impossible_network",
    "predict",
]
