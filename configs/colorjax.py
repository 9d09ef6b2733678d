"""The house recipe: what the experiments show to colour best for a given time.

    python train.py --config configs/colorjax.py:small  # 64 pixels, narrow: a CPU in minutes
    python train.py --config configs/colorjax.py:tiny   # built-in data, minutes on a CPU

A U-Net of residual blocks that works at half the resolution, with attention and a view of the whole
picture at its bottleneck, trained on L1 with AdamW, warm-up and cosine, on random parts and mirror
images of the photos. docs/results.md tells what was tried, one change at a time.
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

VARIANTS = ("small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or its variant `small` or `tiny`."""
    config = common.get_config()
    config.batch_size = 32
    config.data.source = "tfds:oxford_flowers102"
    config.data.zoom = 1.4
    config.critic.name = ""
    config.generator = ConfigDict(
        {
            "name": "residual_unet",
            "widths": (48, 96, 192, 384),
            "blocks": (1, 2, 2, 2),
            "norm": "batch",
            "context": True,
            "attention": True,
        }
    )
    config.generator_optimizer = common.optimizer(1e-3, b1=0.9, b2=0.99)
    config.generator_optimizer.name = "adamw"
    config.generator_optimizer.weight_decay = 0.02
    config.generator_optimizer.schedule = "cosine"
    config.generator_optimizer.warmup_steps = 200
    config.phase_order = ("reconstruction",)
    config.phases = ConfigDict({"reconstruction": common.reconstruction(epochs=40)})
    if variant == "small":
        common.shrink(config)
        config.batch_size = 32
        config.generator.widths = (24, 48, 96, 192)
        config.phases.reconstruction.epochs = 6
    elif variant == "tiny":
        common.shrink_further(config)
        config.generator.widths = (16, 32, 64)
        config.generator.blocks = (1, 1, 1)
        config.generator_optimizer.warmup_steps = 20
        config.phases.reconstruction.epochs = 8
    elif variant:
        raise unknown_variant("configs/colorjax.py", variant, list(VARIANTS))
    return config
