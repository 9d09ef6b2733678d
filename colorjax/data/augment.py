"""Augmentations that run on the device, inside the training step."""

import jax
import jax.numpy as jnp


def random_horizontal_flip(images: jax.Array, key: jax.Array, probability: float) -> jax.Array:
    """Mirror each picture left to right with the given probability.

    Args:
      images: (B, H, W, C), any dtype.
      key: one key; what happens to a picture depends on it and on the place in the batch.
      probability: of a flip, in [0, 1].
    """
    flip = jax.random.bernoulli(key, probability, (images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)
