"""WGAN with gradient penalty and a U-Net, on flowers: the main recipe.

    python train.py --config configs/wgan.py            # Flowers-102 at 128 pixels
    python train.py --config configs/wgan.py:256        # the same at 256 pixels
    python train.py --config configs/wgan.py:small      # at 64 pixels, narrower: a CPU in an hour
    python train.py --config configs/wgan.py:tiny       # built-in data, minutes on a CPU

A student system rebuilt: a U-Net (31,036,546 parameters) predicts ab from L; five epochs of L1
alone, then 110 of WGAN-GP plus L1 against a critic (2,795,008 parameters), two generator updates
and one critic update a batch. The critic gives one score at 128 pixels and a map of 5x5 at 256;
`--config.critic.name=patchgan` takes the 70x70 PatchGAN instead.

What no source states was chosen so: the generator's weights start from Flax's default (LeCun
normal); an average of the generator (decay 0.999) is what is evaluated and shipped, and
`--config.ema_decay=0` switches it off; pictures are shuffled anew every epoch; a last batch that
is not full is left out of its epoch.

Results (docs/results.md has the whole of it, and the machine): `small` on Flowers-102 reached PSNR
19.9 dB after L1 and, more colourful, 19.7 after one epoch of WGAN-GP, where the best constant
colour has 18.7; `tiny` 20.7 dB, where that has 15.2. The full recipe has not been run yet.
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

VARIANTS = ("256", "small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or its variant `256`, `small` or `tiny`."""
    config = common.get_config()
    config.data.source = "tfds:oxford_flowers102"
    if variant == "256":
        config.image_size = 256
    elif variant == "small":
        shrink(config)
    elif variant == "tiny":
        shrink(config)
        shrink_further(config)
    elif variant:
        raise unknown_variant("configs/wgan.py", variant, list(VARIANTS))
    return config


def shrink(config: ConfigDict) -> None:
    """Make a config of an hour or so on a CPU.

    A run this short needs a larger learning rate, and the reconstruction to outweigh the critic:
    at 64 pixels the gradient of L1 has the norm 0.011 in the predicted picture, that of the
    critic's score about 1.
    """
    common.shrink(config)
    config.generator.widths = (24, 48, 96, 192, 384)
    config.critic.widths = (32, 64, 128, 256)
    config.generator_optimizer.learning_rate = 1e-3
    config.generator_optimizer.schedule = "cosine"
    config.generator_optimizer.warmup_steps = 100
    config.critic_optimizer.learning_rate = 5e-4
    config.phases.pretraining.epochs = 8
    config.phases.adversarial.epochs = 6
    config.phases.adversarial.adversarial_weight = 0.006


def shrink_further(config: ConfigDict) -> None:
    """Make it a config of minutes, on pictures that the program draws itself."""
    config.data.source = "garden"
    config.ema_decay = 0.98
    config.generator.widths = (16, 32, 64, 128)
    config.critic.widths = (16, 32, 64, 128)
    config.generator_optimizer.warmup_steps = 20
    config.phases.pretraining.epochs = 4
    config.phases.adversarial.epochs = 4
    config.phases.adversarial.adversarial_weight = 0.02
