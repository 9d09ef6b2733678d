"""What is done to pictures on the device: flips, cuts and rotations, all under `jit`."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def random_horizontal_flip(images: jax.Array, key: jax.Array, probability: float) -> jax.Array:
    """Mirror each picture left to right with the given probability.

    Args:
      images: (B, H, W, C), any dtype.
      key: one key; what happens to a picture depends on it and on the place in the batch.
      probability: of a flip, in [0, 1].
    """
    flip = jax.random.bernoulli(key, probability, (images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


def random_rotation(rgb: jax.Array, key: jax.Array, degrees: float) -> jax.Array:
    """Turn each picture about its centre by an angle from U(-degrees, degrees).

    See `rotate`.

    Args:
      rgb: (B, H, W, C) float.
      key: one key; what happens to a picture depends on it and on the place in the batch.
      degrees: the largest angle, either way.
    """
    return rotate(rgb, jax.random.uniform(key, (rgb.shape[0],), minval=-degrees, maxval=degrees))


def rotate(rgb: jax.Array, degrees: jax.Array) -> jax.Array:
    """Turn pictures counterclockwise about their centres, bilinearly, at the same shape.

    What comes in at the corners is the picture reflected at its edges: black corners would be
    learnt as part of the pictures, and count as errors where a network colours them.

    Args:
      rgb: (B, H, W, C) float.
      degrees: (B,), the angles.
    """
    return jax.vmap(_rotate_one)(rgb, jnp.deg2rad(degrees))


def _rotate_one(rgb: jax.Array, angle: jax.Array) -> jax.Array:
    """Sample (H, W, C) where each pixel of the turned picture comes from."""
    height, width = rgb.shape[:2]
    y, x = jnp.meshgrid(
        jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij"
    )
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    rows = cosine * y + sine * x + (height - 1) / 2
    columns = cosine * x - sine * y + (width - 1) / 2
    sample = partial(map_coordinates, coordinates=(rows, columns), order=1, mode="reflect")
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(rgb)


def random_zoom(rgb: jax.Array, key: jax.Array, largest: float, size: int) -> jax.Array:
    """Cut a random part out of each picture and bring it to one size; see `zoom`.

    Args:
      rgb: (B, H, W, C) float.
      key: one key; what happens to a picture depends on it and on the place in the batch.
      largest: the part's height and width are 1/zoom of the picture's, where 1/zoom is drawn from
        U(1/largest, 1), its place evenly; 1 or more.
      size: the side of the squares that come out, in pixels.
    """
    size_key, place_key = jax.random.split(key)
    batch = rgb.shape[0]
    part = jax.random.uniform(size_key, (batch,), minval=1 / largest, maxval=1.0)
    start = jax.random.uniform(place_key, (batch, 2)) * (1 - part[:, None])
    return zoom(rgb, part, start, size)


def zoom(rgb: jax.Array, part: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """Squash a part of each picture to a square, bilinearly; with antialiasing if it shrinks.

    Args:
      rgb: (B, H, W, C) float.
      part: (B,), the part's height and width as fractions of the picture's.
      start: (B, 2), where it begins, from the top and from the left, likewise.
      size: the squares' side, in pixels.
    """

    def squash(rgb: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
        scale = size / (part * jnp.asarray(rgb.shape[:2]))
        shape = (size, size, rgb.shape[2])
        return jax.image.scale_and_translate(
            rgb, shape, (0, 1), scale, -start * size / part, "linear", antialias=True
        )

    return jax.vmap(squash)(rgb, part, start)


def crop_or_pad(images: jax.Array, size: int) -> jax.Array:
    """Cut the middle square out of each picture; what it lacks on a side is filled with black.

    As `tf.image.resize_with_crop_or_pad` has it: of an odd remainder, what is cut or added at
    the bottom and the right is one pixel more than at the top and the left.

    Args:
      images: (B, H, W, C), any dtype.
      size: the square's side, in pixels, 1 or more.
    """
    batch, height, width, channels = images.shape
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    cut = images[:, top : top + size, left : left + size]
    above, before = max(size - height, 0) // 2, max(size - width, 0) // 2
    square = jnp.zeros((batch, size, size, channels), images.dtype)
    return square.at[:, above : above + cut.shape[1], before : before + cut.shape[2]].set(cut)


def resize(rgb: jax.Array, size: int) -> jax.Array:
    """Squash pictures to squares, bilinearly and without antialiasing, as `tf.image.resize`.

    Args:
      rgb: (B, H, W, C) float.
      size: the squares' side, in pixels.
    """
    shape = (rgb.shape[0], size, size, rgb.shape[3])
    return rgb if rgb.shape == shape else jax.image.resize(rgb, shape, "linear", antialias=False)
