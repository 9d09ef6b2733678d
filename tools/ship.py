"""Make a model folder of a run: the generator alone, in half the bytes.

    python tools/ship.py checkpoints/colorjax-flowers checkpoints/flowers --saturation 1.1

The folder holds `config.json`, `checksums.json` and the item `generator`, and can be copied,
renamed and shared. `LICENSE` and `README.md`, the model's card, are written there by hand, before
or after. The weights are stored in float16, arrays of which one is too large for that in float32,
and computed with in float32; what only this machine knows, such as where the photos lie, is taken
out of the config. `--saturation` sets the factor of the predicted colour, which a generator that
has that field learns without.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from colorjax import checkpoint, configuration, parallel
from colorjax.colorize.model import find_model, read_variables
from colorjax.errors import UserError
from colorjax.models import create_networks, generator_shapes

_MODEL = (configuration.CONFIG_FILE, checkpoint.CHECKSUMS, "generator")
_PAPERS = ("LICENSE", "README.md")
_LOCAL = ("cache_dir", "tfds_dir", "manual_dir")


def main() -> int:
    """Ship what the command line names and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run's folder, or DIR@STEP")
    parser.add_argument("folder", type=Path, help="of the model; must not hold one")
    parser.add_argument("--saturation", type=float, help="of the generator; default: the run's")
    arguments = parser.parse_args()
    try:
        ship(arguments.run, arguments.folder, arguments.saturation)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in arguments.folder.rglob("*") if file.is_file())
    missing = [name for name in _PAPERS if not (arguments.folder / name).is_file()]
    still = f"; it still needs {' and '.join(missing)}" if missing else ""
    print(f"{arguments.folder}: {size / 1e6:.1f} MB{still}")
    return 0


def ship(run: str, folder: Path, saturation: float | None = None) -> None:
    """Write the model of a run into a folder, and leave alone what else lies there.

    Args:
      run: its folder, or DIR@STEP.
      folder: of the model; need not exist.
      saturation: factor of the predicted colour; None for the run's own.

    Raises:
      UserError: if there is no such run, the folder holds a model, a weight is not finite, or the
        generator can't be given that saturation.
    """
    held = [name for name in _MODEL if (folder / name).exists()]
    if held:
        raise UserError(f"{folder} holds a model: remove {', '.join(held)} there first.")
    files = find_model(run)
    if saturation is not None:
        files.config.generator.saturation = saturation
    networks = create_networks(files.config)
    mesh = parallel.create_mesh()
    variables = read_variables(files, "generator", generator_shapes(networks), mesh)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise UserError(f"{run} has weights that are not finite: it can't be shipped.")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save_model(folder, jax.tree.map(_halve, variables))
    configuration.save_config(_make_config(files.config), folder)


def _halve(leaf: jax.Array) -> np.ndarray:
    """Return an array in half the bytes if float16 can hold it: variances may be larger."""
    array = np.asarray(leaf)
    fits = np.abs(array).max() <= np.finfo(np.float16).max
    return array.astype(np.float16 if fits else np.float32)


def _make_config(config: ConfigDict) -> ConfigDict:
    """Return a run's config as one that fits any machine, without what only its own one knows."""
    config = config.copy_and_resolve_references()
    config.dtype = "float32"
    for field in ("source", "validation_source"):
        kind, colon, place = config.data.get(field, "").partition(":")
        if kind == "folder":
            config.data[field] = f"{kind}{colon}{Path(place).name}"
    config.init_from = config.pretrained = ""
    for field in _LOCAL:
        config.data[field] = ""
    return config


if __name__ == "__main__":
    sys.exit(main())
