"""pix2pix: a U-Net of eight levels against a 70x70 PatchGAN.

    python train.py --config configs/pix2pix.py --config.data.source=folder:PHOTOS
    python train.py --config configs/pix2pix.py:small   # flowers at 64 pixels, narrower: a CPU
    python train.py --config configs/pix2pix.py:tiny    # built-in data, minutes on a CPU

A student system rebuilt, after Isola et al. (arXiv 1611.07004): 54,409,858 parameters predict ab
from L, 2,765,633 judge patches of 70x70 pixels; binary cross entropy, the critic's halved, plus 100
times L1. Any tree of photos will do; the original had 10,000 of COCO, 8,000 of them for training.
They are shuffled anew every epoch, which the original forgot.

Four fifths of the photos are for training and one for validation, so `colorjax evaluate` wants
`--split validation`.

What no source states was chosen so: of each batch first the critic learns, then the generator, as
in pix2pix's own code; the generator sees the critic with the batch's statistics; an average of the
generator (decay 0.999) is what is evaluated and shipped.

Result: `small`, four epochs on 5,149 flower photos: PSNR 18.6 dB (grey 18.0, best constant colour
18.7), CIEDE2000 15.3, 0.82 of the photos' colourfulness (docs/results.md). The full recipe has not
been run yet.
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

WIDTHS = (64, 128, 256, 512, 512, 512, 512, 512)
VARIANTS = ("small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or its variant `small` or `tiny`."""
    config = common.get_config()
    config.image_size = 256
    config.batch_size = 16
    config.data.source = "folder:photos"
    config.data.split_fractions = (0.8, 0.2, 0.0)
    config.generator = ConfigDict({"name": "pix2pix", "widths": WIDTHS, "dropout": 0.5})
    config.critic = ConfigDict({"name": "patchgan", "widths": (64, 128, 256, 512), "norm": "batch"})
    config.generator_optimizer = common.pix2pix_optimizer()
    config.critic_optimizer = common.pix2pix_optimizer()
    config.phase_order = ("adversarial",)
    config.phases = ConfigDict({"adversarial": common.gan(epochs=50)})
    if variant == "small":
        common.shrink(config)
        config.data.source = "folder:flowers"
        config.data.split_fractions = (0.7, 0.15, 0.15)
        config.generator.widths = (32, 64, 128, 256, 256, 256)
        config.critic.widths = (16, 32, 64, 128)
        config.phases.adversarial.epochs = 5
    elif variant == "tiny":
        common.shrink_further(config)
        config.data.split_fractions = (0.7, 0.15, 0.15)
        config.generator.widths = (16, 32, 64, 64)
        config.critic.widths = (8, 16, 32)
        config.phases.adversarial.epochs = 8
    elif variant:
        raise unknown_variant("configs/pix2pix.py", variant, list(VARIANTS))
    return config
