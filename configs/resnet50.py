"""The start of an ImageNet ResNet-50 with a small decoder, on faces.

    python train.py --config configs/resnet50.py                # CelebA at 128 pixels
    python train.py --config configs/resnet50.py --config.pretrained=resnet50.safetensors
    python train.py --config configs/resnet50.py:small          # ./faces, 89x109, to 64 pixels
    python train.py --config configs/resnet50.py:tiny           # built-in data, minutes on a CPU

A student system rebuilt, the transfer twin of configs/autoencoder.py: ResNet-50 up to the output of
its first block (Keras's conv2_block1_out, torchvision's layer1.0), its first convolutions and their
norms frozen, then the same decoder; 514,338 parameters and statistics. Keras's convolutions have
biases and torchvision's have none: `generator.conv_bias` says whether there are any, which ImageNet
weights of torchvision leave at zero. Data and training are those of the twin.

`config.pretrained` takes a local file in torchvision's or timm's names, or a repository of the
Hugging Face hub, from which the weights are downloaded once. In the original the freeze was not in
force; here `generator.frozen` names what never changes, statistics included.

The encoder's norms have torchvision's epsilon, 1e-5, as its weights want it. The rest was chosen as
in configs/autoencoder.py. There is no result yet: no ImageNet weights of a
ResNet-50 were at hand (docs/results.md).
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

FROZEN = ("conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1")
VARIANTS = ("small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or its variant `small` or `tiny`."""
    config = common.faces()
    config.pretrained = "hf://timm/resnet50.tv_in1k"
    config.generator = ConfigDict({"name": "resnet_transfer", "conv_bias": True, "frozen": FROZEN})
    if variant == "small":
        common.shrink_faces(config)
        config.phases.reconstruction.epochs = 8
    elif variant == "tiny":
        common.shrink_faces_further(config)
        # Without ImageNet's weights there is nothing worth freezing.
        config.pretrained = ""
        config.generator.frozen = ()
        config.phases.reconstruction.epochs = 12
    elif variant:
        raise unknown_variant("configs/resnet50.py", variant, list(VARIANTS))
    return config
