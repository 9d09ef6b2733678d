"""Configs: read from a recipe's file or a run's folder, written, compared, checked."""

import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from colorjax.errors import UserError
from colorjax.files import write_whole
from colorjax.ranges import Range, check_numbers

CONFIG_FILE = "config.json"
LARGEST_SIDE = 8192  # pixels of a picture as it is loaded, cut out or shown to the networks
_LARGEST_CONFIG = 2**20  # bytes; a recipe's takes some kilobytes

# What may differ when a run is resumed: it changes how long and where, not what is trained.
_FREE_TO_CHANGE = re.compile(
    r"phases\.\w+\.epochs|patience|checkpoint\..*|log_every_steps|sample_images"
    r"|on_nonfinite|nonfinite_limit|deterministic"
    r"|data\.(cache_dir|tfds_dir|manual_dir|threads|prefetch)"
)

# Fields that runs of earlier versions lack, and the values that they were trained with.
_BORN_LATER = {"class_weight": 0.0}

# What decides how much memory is taken: also checked of a model that comes from elsewhere.
_SIZES = {
    "image_size": Range(1, LARGEST_SIDE),
    "batch_size": Range(1, 2**20),
    "data.garden_images": Range(1, 10**7),
}

_RANGES = {
    "data.horizontal_flip": Range(0.0, 1.0),
    "data.zoom": Range(1.0, 16.0),
    "data.rotation": Range(0.0, 180.0),
    "data.crop_size": Range(0, LARGEST_SIDE),
    "data.threads": Range(1, 1000),
    "data.prefetch": Range(0, 10**4),
    "steps_per_epoch": Range(0, 10**9),
    "patience": Range(0, 10**6),
    "nonfinite_limit": Range(1, 10**6),
    "ema_decay": Range(0.0, 1.0),
    "log_every_steps": Range(1, 10**9),
    "sample_images": Range(1, 1000),
    "checkpoint.keep": Range(1, 10**6),
    "checkpoint.keep_every_epochs": Range(0, 10**6),
    "checkpoint.every_steps": Range(0, 10**9),
}

_CHOICES = {"on_nonfinite": ("stop", "skip")}


def load_recipe(recipe: str) -> ConfigDict:
    """Return the config of a recipe.

    Args:
      recipe: a file such as `configs/wgan.py`, with `:variant` where one is wanted.

    Raises:
      UserError: if there is no such file or variant, or it is no recipe.
    """
    file, _, variant = recipe.partition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"There is no recipe {file}: name a file such as configs/wgan.py.")
    # A recipe imports `configs.common`, which lies beside it.
    root = str(path.absolute().parent.parent)
    if root not in sys.path:
        sys.path.insert(0, root)
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{file} is not a Python file: name one such as configs/wgan.py.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{file} has no get_config(): name a recipe such as configs/wgan.py.")
    return module.get_config(variant) if variant else module.get_config()


def unknown_variant(recipe: str, variant: str, known: list[str]) -> UserError:
    """Return the error for a variant that a recipe doesn't have."""
    return UserError(f"{recipe} has no variant {variant!r}: choose one of {', '.join(known)}.")


def default_workdir(recipe: str) -> Path:
    """Return `checkpoints/<config>`, or `checkpoints/<config>-<variant>`."""
    file, _, variant = recipe.partition(":")
    name = Path(file).stem
    return Path("checkpoints") / (f"{name}-{variant}" if variant else name)


def save_config(config: ConfigDict, workdir: Path) -> None:
    """Write `config.json` into a run's folder, whole or not at all."""
    text = config.to_json(indent=2) + "\n"
    write_whole(workdir / CONFIG_FILE, lambda draft: draft.write_text(text))


def read_config(folder: Path) -> ConfigDict:
    """Return the config of a run's or a model's folder.

    Raises:
      UserError: if the folder holds none, or one that is damaged or asks for absurd sizes.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder} is no colorjax run or model: it has no {CONFIG_FILE}.")
    if path.is_symlink():
        raise UserError(f"{path} is a link: put the file itself there.")
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError("too large for a config")
        config = ConfigDict(_with_tuples(json.loads(path.read_text())))
        check_numbers(_flatten(config), _SIZES)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged_config(folder) from error
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from error
    return config


def damaged_config(folder: Path) -> UserError:
    """Return the error for a folder's `config.json` that isn't as it was written."""
    return UserError(f"{folder / CONFIG_FILE} is damaged: restore it from a copy.")


def check_resumable(old: ConfigDict, new: ConfigDict, workdir: Path) -> None:
    """Check that a run can go on under a new config.

    Raises:
      UserError: naming the first field that makes it another run.
    """
    before, after = _flatten(old), _flatten(new)
    for field in after.keys() - before.keys():
        name = field.rpartition(".")[2]
        if name in _BORN_LATER:
            before[field] = _BORN_LATER[name]
    for field in sorted(before.keys() | after.keys()):
        if before.get(field) != after.get(field) and not _FREE_TO_CHANGE.fullmatch(field):
            raise UserError(
                f"{workdir} was trained with config.{field}={before.get(field)!r}, not "
                f"{after.get(field)!r}: resume with the old value, or name another --workdir."
            )


def check_ranges(config: ConfigDict) -> None:
    """Check what would otherwise fail late, or change what is trained unnoticed.

    Raises:
      UserError: naming the first field that is out of range.
    """
    flat = _flatten(config)
    check_numbers(flat, _SIZES | _RANGES)
    check_load_size(flat["data.load_size"])
    for field, choices in _CHOICES.items():
        if flat[field] not in choices:
            raise UserError(f"config.{field}={flat[field]!r}: choose {' or '.join(choices)}.")


def check_load_size(load_size: Sequence[int]) -> None:
    """Check the value of `config.data.load_size`.

    Raises:
      UserError: if it is neither empty nor a height and a width in pixels.
    """
    sides = [side for side in load_size if isinstance(side, int) and 1 <= side <= LARGEST_SIDE]
    if load_size and not len(load_size) == len(sides) == 2:
        raise UserError(
            f"config.data.load_size is {tuple(load_size)}: give (height, width) in pixels, each "
            f"from 1 to {LARGEST_SIDE}, or () for the square image_size."
        )


def _flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _with_tuples(value: Any) -> Any:
    """Return JSON's lists as tuples, which Flax modules need for hashing."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list) else value
