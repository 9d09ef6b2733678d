"""Models on disk: found by name, checked, and read whole or not at all."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from colorjax import checkpoint, configuration, models, parallel
from colorjax.color import Codec, get_codec
from colorjax.errors import UserError

RUNS = Path("checkpoints")  # where train.py puts runs unless told otherwise


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies.

    Attributes:
      config: the run's full config.
      folder: holds the item `generator`, and `critic` where there is one.
    """

    config: ConfigDict
    folder: Path


@dataclass(frozen=True)
class Networks:
    """What a config chose for the networks; nothing is allocated."""

    codec: Codec
    generator: nn.Module
    critic: nn.Module | None
    image_size: int


def find_model(name: str | os.PathLike[str] | None) -> ModelFiles:
    """Return the files of the model of that name.

    Args:
      name: a run's or a model's folder, `DIR@STEP`, or the name of a run under ./checkpoints;
        None for the model that colorjax ships.

    Raises:
      UserError: if there is no such model.
    """
    if name is None:
        raise UserError(
            "No model is shipped with colorjax yet: name one (--model DIR), such as "
            "checkpoints/wgan, which train.py makes."
        )
    folder, step = _parse(os.fspath(name))
    config = configuration.read_config(folder)
    return ModelFiles(config, checkpoint.find_step(folder, step))


def list_runs(root: Path = RUNS) -> dict[str, list[str]]:
    """Return the names of the runs and models under a folder, each with its steps.

    The steps are those that `NAME@STEP` may name; a model without steps has an empty list.
    """
    if not root.is_dir():
        return {}
    found = {}
    for folder in sorted(root.iterdir()):
        steps = sorted({int(path.name) for path in folder.glob("*/*") if _is_step(path)})
        is_model = (folder / "generator").is_dir() or bool(steps)
        if is_model and (folder / configuration.CONFIG_FILE).is_file():
            found[folder.name] = [str(step) for step in steps]
    return found


def create_networks(config: ConfigDict) -> Networks:
    """Return the codec and networks that a config describes.

    Raises:
      UserError: if a field is missing, unknown or impossible.
    """
    try:
        codec = get_codec(config.codec)
        generator = models.create_generator(config.generator, codec.output_channels, config.dtype)
        has_critic = bool(config.critic.name)
        critic = models.create_critic(config.critic, config.dtype) if has_critic else None
        size = int(config.image_size)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = str(error).strip("\"'").splitlines()[0]
        raise UserError(f"The config is not that of a colorjax model: {problem}.") from error
    if size < generator.stride or size % generator.stride:
        raise UserError(
            f"config.image_size={size} doesn't suit the generator: it takes multiples of "
            f"{generator.stride}."
        )
    return Networks(codec, generator, critic, size)


def generator_shapes(networks: Networks) -> Any:
    """Return the generator's variables as shapes: `params` and `batch_stats`."""
    return _shapes(networks.generator, networks.image_size, networks.codec.input_channels)


def critic_shapes(networks: Networks) -> Any:
    """Return the critic's variables as shapes: `params` and `batch_stats`."""
    if networks.critic is None:
        raise ValueError("These networks have no critic.")
    return _shapes(networks.critic, networks.image_size, 3)


def read_variables(files: ModelFiles, item: str, shapes: Any, mesh: Mesh) -> Any:
    """Return a network's variables, placed on every device of the mesh.

    Args:
      files: of the model.
      item: generator or critic.
      shapes: the variables that the network expects.
      mesh: of the devices.

    Raises:
      UserError: if the item is missing, damaged or doesn't fit the network.
    """
    checkpoint.verify_checksums(files.folder, item)
    abstract = checkpoint.with_sharding(shapes, parallel.replicated(mesh))
    try:
        return checkpoint.restore_item(files.folder, item, abstract)
    except UserError:
        raise
    except Exception as error:  # what damaged files raise is up to Orbax, TensorStore and zstd
        raise UserError(
            f"{files.folder / item} can't be read ({type(error).__name__}): restore it from a copy."
        ) from error


def _parse(name: str) -> tuple[Path, int | None]:
    """Return folder and step, the name looked up in the working folder, then under ./checkpoints.

    A run's name is not looked up for a path that is there, so that paths mean what they say.
    """
    candidates: list[Callable[[], tuple[Path, int | None]]] = [
        lambda: checkpoint.parse_model_name(name),
        lambda: checkpoint.parse_model_name(str(RUNS / name)),
    ]
    for candidate in candidates:
        try:
            return candidate()
        except UserError:
            continue
    if Path(name).exists():
        raise UserError(f"{name} is a file: name a run's or a model's folder.")
    raise UserError(
        f"There is no model {name!r}: name a run's or a model's folder, or one that "
        "`colorjax models` lists."
    )


def _shapes(network: nn.Module, size: int, channels: int) -> Any:
    picture = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    key = jax.ShapeDtypeStruct((), jax.eval_shape(lambda: jax.random.key(0)).dtype)

    def init(key: jax.Array, picture: jax.Array) -> Any:
        return network.init({"params": key, "dropout": key}, picture, train=False)

    variables = jax.eval_shape(init, key, picture)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def _is_step(path: Path) -> bool:
    return path.parent.name in ("steps", "best") and path.name.isdigit() and path.is_dir()
