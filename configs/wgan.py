"""WGAN with gradient penalty and a U-Net, on flowers: the main recipe.

    python train.py --config configs/wgan.py            # Flowers-102 at 128 pixels
    python train.py --config configs/wgan.py:256        # the same at 256 pixels
    python train.py --config configs/wgan.py:tiny       # built-in data, minutes on a CPU

A student system rebuilt: a U-Net (31,036,546 parameters) predicts ab from L; five epochs of L1
alone, then 110 of WGAN-GP plus L1 against a critic (2,795,008 parameters), two generator updates
and one critic update a batch. The critic gives one score at 128 pixels and a map of 5x5 at 256;
`--config.critic.name=patchgan` takes the 70x70 PatchGAN instead.

What no source states was chosen so: the generator's weights start from Flax's default (LeCun
normal); an average of the generator (decay 0.999) is what is evaluated and shipped, and
`--config.ema_decay=0` switches it off; pictures are shuffled anew every epoch; a last batch that
is not full is left out of its epoch.

Results: see docs/results.md.
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

VARIANTS = ("256", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or its variant `256` or `tiny`."""
    config = common.get_config()
    config.data.source = "tfds:oxford_flowers102"
    if variant == "256":
        config.image_size = 256
    elif variant == "tiny":
        shrink(config)
    elif variant:
        raise unknown_variant("configs/wgan.py", variant, list(VARIANTS))
    return config


def shrink(config: ConfigDict) -> None:
    """Make a config of minutes on a CPU, on pictures that the program draws itself."""
    config.data.source = "garden"
    config.data.garden_images = 1000
    config.image_size = 64
    config.batch_size = 16
    config.ema_decay = 0.98
    config.generator.widths = (16, 32, 64, 128)
    config.critic.widths = (16, 32, 64, 128)
    config.generator_optimizer.learning_rate = 1e-3
    config.phases.pretraining.epochs = 4
    config.phases.adversarial.epochs = 4
