"""Models on disk: found by name, checked, and read whole or not at all."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from colorjax import checkpoint, configuration, parallel
from colorjax.colorize import hub
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


def find_model(name: str | os.PathLike[str] | None) -> ModelFiles:
    """Return the files of the model of that name.

    Args:
      name: a run's or a model's folder, `DIR@STEP`, the name of a run under ./checkpoints, or
        `hf://OWNER/NAME[@REVISION]`, on the Hugging Face hub or in its cache; None for the model
        that colorjax ships.

    Raises:
      UserError: if there is no such model.
    """
    if name is None:
        raise UserError(
            "No model is shipped with colorjax yet: name one (--model DIR), such as "
            "checkpoints/wgan, which train.py makes."
        )
    name = os.fspath(name)
    folder, step = (hub.fetch_model(name), None) if hub.is_hub_name(name) else _parse(name)
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
    abstract = checkpoint.with_sharding(shapes, parallel.replicated(mesh))
    return checkpoint.restore_item(files.folder, item, abstract)


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


def _is_step(path: Path) -> bool:
    return path.parent.name in ("steps", "best") and path.name.isdigit() and path.is_dir()
