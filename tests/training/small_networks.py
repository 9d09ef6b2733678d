"""Networks that a config can name and that compile in a moment."""

import operator
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorjax.models import registry


class SmallGenerator(nn.Module):
    """Two convolutions with batch norm and dropout between them."""

    dropout: float = 0.0
    width: int = 4
    output_channels: int = 2
    dtype: Any = jnp.float32
    stride = 1

    @nn.compact
    def __call__(self, network_input: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(self.width, (3, 3), use_bias=False)(network_input)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Conv(self.output_channels, (1, 1))(x)


class SmallCritic(nn.Module):
    """Two convolutions, with batch norm and dropout between them if asked; a map of scores."""

    norm: str = "none"
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(4, (4, 4), strides=2, use_bias=False)(image)
        if self.norm == "batch":
            x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.leaky_relu(x))
        return nn.Conv(1, (3, 3))(x)


def register_small_networks(
    set_item: Callable[[Any, str, type[nn.Module]], None] = operator.setitem,
) -> None:
    """Let configs name both `small`; `set_item` may be pytest's, which takes them back."""
    set_item(registry.GENERATORS, "small", SmallGenerator)
    set_item(registry.CRITICS, "small", SmallCritic)
