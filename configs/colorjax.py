"""The house recipe: what the experiments show to colour best for a given time.

    python train.py --config configs/colorjax.py        # Flowers-102 at 128 pixels
    python train.py --config configs/colorjax.py:flowers --config.data.source=folder:flowers
    python train.py --config configs/colorjax.py:flowers_finish --config.data.source=folder:flowers
    python train.py --config configs/colorjax.py:flowers_detail --config.data.source=folder:flowers
    python train.py --config configs/colorjax.py:faces --config.data.source=folder:faces
    python train.py --config configs/colorjax.py:small  # 64 pixels, narrow: a CPU in minutes
    python train.py --config configs/colorjax.py:tiny   # built-in data, minutes on a CPU

A U-Net of residual blocks that works at a quarter of the resolution (at a half where pictures have
64 pixels or fewer), with attention and a view of the whole picture at its bottleneck and colour
whose edges are those of the lightness, trained on L1 with AdamW, warm-up and cosine, on random
parts and mirror images of the photos. docs/results.md tells what was tried, one change at a time.

`flowers` and `faces` are the models that colorjax ships; docs/results.md has their time and what
they reach. `flowers` is a plain U-Net at all of 64 pixels, which learns the species of each photo
besides: `folder:flowers` holds one folder a species. `flowers_finish` goes on where it ended,
and `flowers_detail` where that did, at 96 pixels.
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

VARIANTS = ("flowers", "flowers_finish", "flowers_detail", "faces", "small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or its variant, one of `VARIANTS`."""
    config = common.get_config()
    config.batch_size = 32
    config.data.source = "tfds:oxford_flowers102"
    # Random parts of 0.8 to 1 of a side, from pixels enough for them to be as sharp as whole ones.
    config.data.load_size = (160, 160)
    config.data.zoom = 1.25
    config.critic.name = ""
    config.generator = ConfigDict(
        {
            "name": "residual_unet",
            "stem_stride": 4,
            "widths": (48, 96, 192, 384),
            "blocks": (1, 2, 2, 2),
            "norm": "batch",
            "context": True,
            "attention": True,
            "guided": True,
        }
    )
    config.generator_optimizer = common.optimizer(1e-3, b1=0.9, b2=0.99)
    config.generator_optimizer.name = "adamw"
    config.generator_optimizer.weight_decay = 0.02
    config.generator_optimizer.schedule = "cosine"
    config.generator_optimizer.warmup_steps = 200
    config.phase_order = ("reconstruction",)
    config.phases = ConfigDict({"reconstruction": common.reconstruction(epochs=40)})
    if variant in ("flowers", "flowers_finish", "flowers_detail"):
        take_plain_unet(config)
        config.data.source = "folder:flowers"
        config.data.split_fractions = (0.9, 0.04, 0.06)
        config.generator.classes = 102
        config.phases.reconstruction.class_weight = 0.03
        config.phases.reconstruction.epochs = 12
        if variant == "flowers_finish":
            finish(config)
        elif variant == "flowers_detail":
            finish(config)
            add_detail(config)
    elif variant == "faces":
        narrow(config)
        shrink_to_faces(config)
    elif variant == "small":
        narrow(config)
        common.shrink(config)
        config.batch_size = 32
        config.data.load_size = (80, 80)
        config.generator.stem_stride = 2
        config.phases.reconstruction.epochs = 6
    elif variant == "tiny":
        common.shrink_further(config)
        config.data.load_size = (40, 40)
        config.generator.stem_stride = 2
        config.generator.widths = (16, 32, 64)
        config.generator.blocks = (1, 1, 1)
        config.generator_optimizer.warmup_steps = 20
        config.phases.reconstruction.epochs = 8
    elif variant:
        raise unknown_variant("configs/colorjax.py", variant, list(VARIANTS))
    return config


def take_plain_unet(config: ConfigDict) -> None:
    """Take a U-Net at all of 64 pixels: slower for a picture, and it learns more from each."""
    config.image_size = 64
    config.batch_size = 16
    config.data.load_size = (80, 80)
    config.ema_decay = 0.998
    config.generator = ConfigDict(
        {
            "name": "unet",
            "widths": (32, 64, 128, 256, 512),
            "context": True,
            "dropout": 0.1,
            "softening": 0.4,
        }
    )


def finish(config: ConfigDict) -> None:
    """Go on from an earlier run, on parts that no zoom has made softer than what is coloured."""
    config.init_from = "checkpoints/colorjax-flowers"
    config.data.load_size = (72, 72)
    config.data.zoom = 1.0
    config.generator.softening = 0.2
    config.generator_optimizer.learning_rate = 5e-4
    config.phases.reconstruction.epochs = 10


def add_detail(config: ConfigDict) -> None:
    """Go on once more, where there is more to see, and with more dropout as photos are known."""
    config.init_from = "checkpoints/colorjax-flowers_finish"
    config.image_size = 96
    config.data.load_size = (112, 112)
    config.generator.dropout = 0.2
    config.generator_optimizer.learning_rate = 3e-4
    config.phases.reconstruction.epochs = 5


def narrow(config: ConfigDict) -> None:
    """Make a config of an hour or so of one CPU core, that doesn't learn the photos by heart."""
    config.ema_decay = 0.998
    config.generator.widths = (32, 64, 128, 256)
    config.generator.dropout = 0.2
    config.generator_optimizer.learning_rate = 2e-3
    config.generator_optimizer.warmup_steps = 300
    config.generator_optimizer.weight_decay = 0.05


def shrink_to_faces(config: ConfigDict) -> None:
    """Take aligned faces of half the size, whole, at 64 pixels."""
    config.image_size = 64
    config.generator.stem_stride = 2
    config.data.source = "folder:faces"
    config.data.split_fractions = (0.9, 0.04, 0.06)
    config.data.load_size = (109, 89)
    config.data.zoom = 1.1
    config.phases.reconstruction.epochs = 3
