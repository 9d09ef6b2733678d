"""A conditional GAN with a block U-Net.

    python train.py --config configs/cgan.py            # Flowers-102 at 256 pixels
    python train.py --config configs/cgan.py:small      # at 64 pixels, narrower: a CPU
    python train.py --config configs/cgan.py:tiny       # built-in data, minutes on a CPU

A student system rebuilt: blocks of convolution, batch norm, LeakyReLU and max-pool predict ab from
L, mirrored blocks of transposed convolution and upsampling lead back up; a critic of four such
blocks gives 16x16 scores at 256 pixels, each of one patch. The loss is binary cross entropy plus
100 times L1. `samples/` has a grid of seven pictures of each epoch (grey, colourised, original),
`plots/losses.png` the L1 and GAN losses, `colorjax evaluate` the table of both.

What no source states was chosen so: five blocks of 64, 128, 256, 512 and 512 channels, without
biases before a norm, the first mirrored block fed by the last block's output alone, nearest
upsampling; weights start from N(0, 0.02); pix2pix's Adam (2e-4, betas 0.5 and 0.999), of each batch
first the critic, its loss halved, then the generator; batches of 16, 50 epochs, horizontal flips,
Lab as L/50-1 and ab/110, Flowers-102 in a 70/15/15 split; an average of the generator (decay 0.999)
is what is evaluated and shipped; the seven pictures are spread evenly over the validation split and
the same after each epoch, so that epochs can be compared.

Result: `small`, four epochs on 5,149 flower photos: PSNR 19.0 dB (grey 18.0, best constant colour
18.7), CIEDE2000 14.6, 0.83 of the photos' colourfulness (docs/results.md). The full recipe has not
been run yet.
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
    config.data.source = "tfds:oxford_flowers102"
    config.generator = ConfigDict({"name": "block_unet", "widths": (64, 128, 256, 512, 512)})
    config.critic = ConfigDict(
        {"name": "conv_block", "widths": (64, 128, 256, 512), "norm": "batch"}
    )
    config.generator_optimizer = common.pix2pix_optimizer()
    config.critic_optimizer = common.pix2pix_optimizer()
    config.phase_order = ("adversarial",)
    config.phases = ConfigDict({"adversarial": common.gan(epochs=50)})
    if variant == "small":
        common.shrink(config)
        config.generator.widths = (32, 64, 128, 256, 256)
        config.critic.widths = (16, 32, 64, 128)
        config.phases.adversarial.epochs = 5
    elif variant == "tiny":
        common.shrink_further(config)
        config.generator.widths = (16, 32, 64)
        config.critic.widths = (8, 16, 32, 64)
        config.phases.adversarial.epochs = 8
    elif variant:
        raise unknown_variant("configs/cgan.py", variant, list(VARIANTS))
    return config
