"""Layers that several networks share."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.errors import UserError

LEAKY_SLOPE = 0.2


def max_pool_2x2(features: jax.Array) -> jax.Array:
    """Halve height and width by the maximum of each 2x2 block.

    The maximum of four strided slices has a much faster gradient on a CPU than XLA's
    select-and-scatter, which `flax.linen.max_pool` leads to.

    Args:
      features: (B, H, W, C), H and W even.

    Returns:
      (B, H/2, W/2, C).
    """
    top = jnp.maximum(features[:, ::2, ::2], features[:, ::2, 1::2])
    bottom = jnp.maximum(features[:, 1::2, ::2], features[:, 1::2, 1::2])
    return jnp.maximum(top, bottom)


def upsample_2x2(features: jax.Array) -> jax.Array:
    """Double height and width by repeating each pixel: (B, H, W, C) to (B, 2H, 2W, C)."""
    return features.repeat(2, axis=1).repeat(2, axis=2)


class UpConv2x2(nn.Module):
    """Transposed convolution 2x2 with stride 2 and bias: (B, H, W, C) to (B, 2H, 2W, features).

    Its windows do not overlap, so it is one matrix product and a depth-to-space reshape; the
    kernel's gradient is then a matrix product too, not a base-dilated convolution.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the upsampled features."""
        batch, height, width, channels = x.shape
        # Each output pixel sees one input pixel: the fan-in is the channels alone.
        kernel_init = nn.initializers.lecun_normal(batch_axis=(0, 1))
        kernel = self.param("kernel", kernel_init, (2, 2, channels, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        blocks = jnp.einsum("bhwc,ijcf->bhiwjf", x, kernel)
        return blocks.reshape(batch, 2 * height, 2 * width, self.features) + bias


def batch_norm(
    train: bool, dtype: Any, momentum: float = 0.9, epsilon: float = 1e-5, **options: Any
) -> nn.BatchNorm:
    """Return a BatchNorm, by default with PyTorch's constants (momentum 0.9 here is 0.1 there)."""
    return nn.BatchNorm(
        use_running_average=not train, momentum=momentum, epsilon=epsilon, dtype=dtype, **options
    )


def make_norm(name: str, train: bool, dtype: Any) -> Callable[[jax.Array], jax.Array]:
    """Return the norm of that name: batch, instance (no affine) or none.

    Raises:
      UserError: for another name.
    """
    if name == "batch":
        scale_init = nn.initializers.normal(0.02)
        return batch_norm(train, dtype, scale_init=lambda *args: 1.0 + scale_init(*args))
    if name == "instance":
        return nn.InstanceNorm(use_bias=False, use_scale=False, epsilon=1e-5, dtype=dtype)
    if name == "none":
        return lambda features: features
    raise UserError(f"config.critic.norm is {name!r}: choose batch, instance or none.")


def leaky_relu(features: jax.Array) -> jax.Array:
    """Return LeakyReLU with the slope 0.2 of DCGAN's critics."""
    return nn.leaky_relu(features, LEAKY_SLOPE)
