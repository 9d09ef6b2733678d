"""Models on disk: found by name, checked, and read whole or not at all."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from colorjax import checkpoint, configuration, parallel
from colorjax.colorize import hub, shipped
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
      name: a run's or a model's folder, `DIR@STEP`, the name of a run under ./checkpoints or of a
        model that comes with colorjax, or `hf://OWNER/NAME[@REVISION]`, on the Hugging Face hub or
        in its cache; None for the model that colorjax ships.

    Raises:
      UserError: if there is no such model.
    """
    folder, step = _find_default() if name is None else _find_named(os.fspath(name))
    config = configuration.read_config(folder)
    return ModelFiles(config, checkpoint.find_step(folder, step))


def list_shipped() -> list[str]:
    """Return the names by which models that come with colorjax are found, the default first.

    A run or model of such a name in the working folder or under ./checkpoints goes before.
    """
    folders = {name: shipped.find_shipped(name) for name in shipped.NAMES}
    return [
        name
        for name, folder in folders.items()
        if folder is not None and _find_named(name)[0].resolve() == folder
    ]


def list_names() -> list[str]:
    """Return the names of all models that come with colorjax, and of the runs under ./checkpoints.

    Each stands there once, and the default first.
    """
    return list(dict.fromkeys([*list_shipped(), *list_runs()]))


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


def _find_default() -> tuple[Path, None]:
    folder = shipped.find_shipped(shipped.DEFAULT)
    if folder is None:
        raise shipped.missing_default()
    return folder, None


def _find_named(name: str) -> tuple[Path, int | None]:
    """Return folder and step of a model that is named.

    The name is looked up in the working folder, then under ./checkpoints, then among the models
    that come with colorjax. A path that is there means what it says and is looked up no further,
    unless it bears a shipped model's name and is no model, such as a folder of photos of flowers.
    """
    if hub.is_hub_name(name):
        return hub.fetch_model(name), None
    for path in (name, str(RUNS / name)):
        try:
            folder, step = checkpoint.parse_model_name(path)
        except UserError:
            continue
        if name not in shipped.NAMES or (folder / configuration.CONFIG_FILE).is_file():
            return folder, step
    if (ours := shipped.find_shipped(name)) is not None:
        return ours, None
    if Path(name).is_file():
        raise UserError(f"{name} is a file: name a run's or a model's folder.")
    raise shipped.missing_model(name)


def _is_step(path: Path) -> bool:
    return path.parent.name in ("steps", "best") and path.name.isdigit() and path.is_dir()
