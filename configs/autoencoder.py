"""A small autoencoder on faces.

    python train.py --config configs/autoencoder.py             # CelebA at 128 pixels
    python train.py --config configs/autoencoder.py:small       # ./faces, 89x109, to 64 pixels
    python train.py --config configs/autoencoder.py:tiny        # built-in data, minutes on a CPU

A student system rebuilt: 820,770 parameters and statistics predict ab from L, with one skip, from
the input to the decoder; the loss is the mean absolute error. CelebA's train split in its own
order: the first 10 % test, the next 15 % validation, the rest training; the middle 150x150 of each
photo, bilinearly to 128; training photos turned by up to 15 degrees. Epochs of 500 steps, 15 at
most, ended by three without a lower validation loss. `colorjax compare --heat-maps` shows the
predicted a and b beside the true ones.

What no source states was chosen so: the corners that a turned photo leaves empty mirror the photo;
an average of the weights (decay 0.999) is what is validated and shipped; no flips. The original
divided its pictures by 255 twice, and so learnt from nearly black ones; this recipe doesn't.
CelebA is for non-commercial research.

Result: `small`, three epochs on 6,750 faces: PSNR 26.2 dB on 900 others (grey 21.8,
best constant colour 23.7), CIEDE2000 7.7, 0.72 of the photos' colourfulness (docs/results.md).
The full recipe has not been run yet.
"""

from ml_collections import ConfigDict

from colorjax.configuration import unknown_variant
from configs import common

VARIANTS = ("small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, or its variant `small` or `tiny`."""
    config = common.faces()
    config.generator = ConfigDict({"name": "celeba_autoencoder"})
    if variant == "small":
        common.shrink_faces(config)
        config.phases.reconstruction.epochs = 8
    elif variant == "tiny":
        common.shrink_faces_further(config)
        config.phases.reconstruction.epochs = 12
    elif variant:
        raise unknown_variant("configs/autoencoder.py", variant, list(VARIANTS))
    return config
