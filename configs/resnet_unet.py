"""A U-Net on an ImageNet ResNet-18, first on L1, then against a PatchGAN.

    python train.py --config configs/resnet_unet.py --config.data.source=folder:PHOTOS
    python train.py --config configs/resnet_unet.py:small --config.pretrained=resnet18.npz
    python train.py --config configs/resnet_unet.py:tiny      # built-in data, minutes on a CPU

A student system rebuilt, pix2pix's successor: fastai's DynamicUnet over ResNet-18 (31,099,672
parameters), whose first convolution, summed over its RGB filters, takes L alone. Twenty epochs of
L1 with Adam at 1e-4, then twenty of binary cross entropy plus 100 times L1 against the 70x70
PatchGAN, with pix2pix's Adam, which begins anew there.

`config.pretrained` takes a local file in torchvision's or timm's names, or a repository of the
Hugging Face hub; empty is a random start. `generator.encoder_end` says where the encoder ends:
`layer4` is the whole of it; with `layer3` the decoder has one block less. Weights whose batch norms
are folded into the convolutions need `generator.running_norms=True`: the batch's statistics would
undo what they learnt. Such norms see ImageNet's contrast with `generator.encoder_gain=2.2`.

Four fifths of the photos are for training and one for validation, so `colorjax evaluate` wants
`--split validation`.

What no source states was chosen so: of each batch first the critic learns, then the generator; the
decoder's convolutions start as He et al. have it; Adam's betas of the L1 phase are 0.9 and 0.999;
the input is L/50-1 as it is, without ImageNet's means; an average of the generator (decay 0.999) is
what is evaluated and shipped.

Result: `small` from ImageNet weights, four epochs on 5,149 flower photos: PSNR 19.2 dB (grey 18.0,
best constant colour 18.7), CIEDE2000 14.1, 0.82 of the photos' colourfulness; docs/results.md tells
what pretraining buys. The full recipe has not been run yet.
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

VARIANTS = ("small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or its variant `small` or `tiny`."""
    config = common.get_config()
    config.image_size = 256
    config.batch_size = 16
    config.data.source = "folder:photos"
    config.data.split_fractions = (0.8, 0.2, 0.0)
    config.pretrained = "hf://timm/resnet18.tv_in1k"
    config.generator = ConfigDict({"name": "resnet_unet", "depth": 18, "encoder_end": "layer4"})
    config.generator.frozen = ()  # prefixes of torchvision's names, such as layer1.0.conv1
    config.generator.running_norms = False  # True for weights whose norms are folded
    config.generator.encoder_gain = 1.0  # 2.2 lends L/50-1 the contrast of ImageNet's pictures
    config.critic = ConfigDict({"name": "patchgan", "widths": (64, 128, 256, 512), "norm": "batch"})
    config.generator_optimizer = common.pix2pix_optimizer()
    config.critic_optimizer = common.pix2pix_optimizer()
    config.phases = ConfigDict(
        {"pretraining": common.reconstruction(20), "adversarial": common.gan(20)}
    )
    config.phases.pretraining.generator_optimizer = common.optimizer(1e-4, b1=0.9, b2=0.999)
    if variant == "small":
        common.shrink(config)
        config.data.source = "folder:flowers"
        config.data.split_fractions = (0.7, 0.15, 0.15)
        config.pretrained = ""
        config.generator.encoder_end = "layer3"
        config.critic.widths = (16, 32, 64, 128)
        config.phases.pretraining.epochs = 3
        config.phases.adversarial.epochs = 2
    elif variant == "tiny":
        common.shrink_further(config)
        config.data.split_fractions = (0.7, 0.15, 0.15)
        config.pretrained = ""
        config.generator.encoder_end = "layer1"
        config.critic.widths = (8, 16, 32)
        config.phases.pretraining.generator_optimizer.learning_rate = 1e-3
        config.phases.pretraining.epochs = 6
        config.phases.adversarial.epochs = 2
    elif variant:
        raise unknown_variant("configs/resnet_unet.py", variant, list(VARIANTS))
    return config
