"""From pictures as they were loaded to what the networks are shown, on the device."""

from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from colorjax import color
from colorjax.data import augment
from colorjax.errors import UserError

Prepare = Callable[[jax.Array], jax.Array]
TrainingPrepare = Callable[[jax.Array, jax.Array], jax.Array]


def make_prepare(data: ConfigDict, image_size: int) -> Prepare:
    """Return the preparation of pictures to evaluate, in which nothing is random.

    Args:
      data: the fields of `configs.common.data`; `crop_size` is the side of the middle square
        that is cut out first, 0 for none.
      image_size: the side of the squares that come out, in pixels.

    Returns:
      A function of uint8 (B, H, W, 3) that gives rgb, float32 (B, image_size, image_size, 3). It
      raises a UserError for pictures that are smaller than `crop_size` both ways.
    """

    def prepare(images: jax.Array) -> jax.Array:
        return augment.resize(_cut_middle(images, data.crop_size), image_size)

    return prepare


def make_training_prepare(data: ConfigDict, image_size: int) -> TrainingPrepare:
    """Return the preparation of pictures to train on: they are flipped and turned as well.

    Args:
      data: as for `make_prepare`; `horizontal_flip` is the flip's probability, `zoom` the largest
        factor of a random part's enlargement, 1 for none (pictures loaded larger than image_size
        have the pixels for it), `rotation` the largest angle in degrees, 0 for none.
      image_size: the side of the squares that come out, in pixels.

    Returns:
      A function of uint8 (B, H, W, 3) and a key that gives rgb, float32 (B, image_size,
      image_size, 3).
    """
    prepare = make_prepare(data, image_size)

    def prepare_training(images: jax.Array, key: jax.Array) -> jax.Array:
        images = augment.random_horizontal_flip(images, key, data.horizontal_flip)
        # Keys of their own, so that a run flips the same pictures with and without them.
        if data.zoom > 1:
            rgb = _cut_middle(images, data.crop_size)
            rgb = augment.random_zoom(rgb, jax.random.fold_in(key, 2), data.zoom, image_size)
        else:
            rgb = prepare(images)
        if data.rotation:
            rgb = augment.random_rotation(rgb, jax.random.fold_in(key, 1), data.rotation)
        return rgb

    return prepare_training


def _cut_middle(images: jax.Array, size: int) -> jax.Array:
    """Return the pictures' middle squares as rgb; the whole pictures if the size is 0."""
    height, width = images.shape[1:3]
    if size > max(height, width):
        raise UserError(
            f"config.data.crop_size={size}: pictures are loaded at {height}x{width}, so give less, "
            "or a larger config.data.load_size."
        )
    return color.to_rgb(augment.crop_or_pad(images, size) if size else images)
