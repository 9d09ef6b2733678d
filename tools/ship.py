"""Make a model folder of a run: the generator alone, in half the bytes.

    python tools/ship.py checkpoints/colorjax checkpoints/flowers

The folder holds `config.json` and the item `generator`, and can be copied, renamed and shared. The
weights are stored in float16 and computed with in float32; what only this machine knows, such as
where the photos lie, is taken out of the config.
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

_LOCAL = ("cache_dir", "tfds_dir", "manual_dir")


def main() -> int:
    """Ship what the command line names and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run's folder, or DIR@STEP")
    parser.add_argument("folder", type=Path, help="of the model; must not exist, or be empty")
    arguments = parser.parse_args()
    try:
        ship(arguments.run, arguments.folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in arguments.folder.rglob("*") if file.is_file())
    print(f"{arguments.folder}: {size / 1e6:.1f} MB")
    return 0


def ship(run: str, folder: Path) -> None:
    """Write the model of a run into a folder.

    Raises:
      UserError: if there is no such run, the folder is not empty, or a weight is too large for
        float16.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name a new folder.")
    files = find_model(run)
    networks = create_networks(files.config)
    mesh = parallel.create_mesh()
    variables = read_variables(files, "generator", generator_shapes(networks), mesh)
    halved = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float16), variables)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(halved)):
        raise UserError(f"{run} has weights that are too large for float16: it can't be shipped.")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save_model(folder, halved)
    configuration.save_config(_without_places(files.config), folder)


def _without_places(config: ConfigDict) -> ConfigDict:
    """Return a config without what only the machine of its training knows."""
    config = config.copy_and_resolve_references()
    kind, colon, place = config.data.source.partition(":")
    if kind == "folder":
        config.data.source = f"{kind}{colon}{Path(place).name}"
    config.init_from = ""
    for field in _LOCAL:
        config.data[field] = ""
    return config


if __name__ == "__main__":
    sys.exit(main())
