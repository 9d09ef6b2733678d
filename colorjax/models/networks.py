"""The networks that a config chooses, and what any network needs done."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from colorjax.color import Codec, get_codec
from colorjax.errors import UserError
from colorjax.models.convolution import portable_convolutions
from colorjax.models.registry import create_critic, create_generator
from colorjax.program_store import read_or_make


@dataclass(frozen=True)
class Networks:
    """What a config chose for the networks; nothing is allocated.

    Attributes:
      codec: between pictures and what the networks see.
      generator: of colours.
      critic: of pictures, where the config has one.
      image_size: side in pixels of the pictures that they learn from.
    """

    codec: Codec
    generator: nn.Module
    critic: nn.Module | None
    image_size: int

    @property
    def identity(self) -> str | None:
        """What tells this generator and codec from all others that colorjax has.

        None where either is somebody else's, and may change without a change of its name.
        """
        parts = (self.codec, self.generator)
        ours = all(type(part).__module__.startswith("colorjax.") for part in parts)
        return repr((*parts, self.image_size)) if ours else None


def create_networks(config: ConfigDict) -> Networks:
    """Return the codec and networks that a config describes.

    Raises:
      UserError: if a field is missing, unknown or impossible.
    """
    try:
        codec = get_codec(config.codec)
        generator = create_generator(config.generator, codec.output_channels, config.dtype)
        has_critic = bool(config.critic.name)
        critic = create_critic(config.critic, config.dtype) if has_critic else None
        size = int(config.image_size)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        problem = str(error).strip("\"'").splitlines()[0]
        raise UserError(f"The config is not that of a colorjax model: {problem}.") from error
    check_image_size(size, generator.stride)
    return Networks(codec, generator, critic, size)


def generator_shapes(networks: Networks) -> Any:
    """Return the generator's variables as shapes: `params` and `batch_stats`."""

    def make() -> Any:
        return _shapes(networks.generator, networks.image_size, networks.codec.input_channels)

    if networks.identity is None:
        return make()
    return read_or_make(f"shapes of the generator of {networks.identity}", make)


def critic_shapes(networks: Networks) -> Any:
    """Return the critic's variables as shapes: `params` and `batch_stats`."""
    if networks.critic is None:
        raise ValueError("These networks have no critic.")
    return _shapes(networks.critic, networks.image_size, 3)


@contextlib.contextmanager
def naming_impossible_network() -> Iterator[None]:
    """Say that a config's network can't be built, whatever Flax and JAX make of one that can't.

    Raises:
      UserError: in place of their errors.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem = (str(error).splitlines() or [""])[0].strip(" .")
        raise UserError(
            f"The config's network can't be built ({type(error).__name__}: {problem}): give it "
            "other options."
        ) from error


def check_image_size(image_size: int, stride: int) -> None:
    """Check that a square of this size can pass through a network of this stride.

    Raises:
      UserError: if it can't.
    """
    if stride > 2**16:
        raise UserError("The config's generator halves pictures too often: give it fewer layers.")
    if image_size < stride or image_size % stride:
        raise UserError(
            f"config.image_size={image_size} doesn't suit the generator: give a multiple of "
            f"{stride}."
        )


def predict(
    network: nn.Module, variables: Any, network_input: jax.Array, *, portable: bool = False
) -> jax.Array:
    """Return what a trained network gives, with its running statistics and without dropout.

    Args:
      network: a generator or critic.
      variables: its own.
      network_input: (B, H, W, channels), normalised by the codec.
      portable: whether to take those operations alone that every exporter knows, and forward-mode
        differentiation (`jax.jvp`), rather than what is fast here.
    """
    with portable_convolutions() if portable else contextlib.nullcontext():
        output = network.apply(variables, network_input, train=False)
    assert isinstance(output, jax.Array)
    return output


def count_parameters(params: Any) -> int:
    """Return how many numbers a tree of arrays (or of their shapes) holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _shapes(network: nn.Module, size: int, channels: int) -> Any:
    picture = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    key = jax.ShapeDtypeStruct((), jax.eval_shape(lambda: jax.random.key(0)).dtype)

    def init(key: jax.Array, picture: jax.Array) -> Any:
        return network.init({"params": key, "dropout": key}, picture, train=False)

    with naming_impossible_network(), portable_convolutions():  # which are traced faster
        variables = jax.eval_shape(init, key, picture)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
