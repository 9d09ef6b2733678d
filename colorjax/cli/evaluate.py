"""Measure models on pictures, beside the uncoloured picture and the best constant colour."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jax.sharding import Mesh

    from colorjax.colorize.model import ModelFiles
    from colorjax.evaluation import Judge
    from colorjax.models import Networks

FIELDS = (
    "images",
    "psnr",
    "psnr_lab",
    "ssim",
    "ciede2000",
    "colorfulness",
    "colorfulness_abs",
    "colorfulness_real",
    "l1",
    "gan_loss",
    "gray_psnr",
    "gray_ssim",
    "gray_ciede2000",
    "constant_psnr",
    "constant_ciede2000",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--models", nargs="+", required=True, metavar="MODEL", help="folders, DIR@STEP or names"
    )
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="folder:PATH, tfds:NAME or garden; default: what each model was trained on",
    )
    parser.add_argument(
        "--split", choices=("train", "validation", "test", "all"), default="test", help="of SOURCE"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Measure each model, print one table and return 0."""
    from colorjax.cli.reporting import quieten
    from colorjax.colorize.model import find_model

    quieten(arguments.verbose)
    if arguments.json is not None:
        _check_writable(arguments.json)
    found = {name: find_model(name) for name in arguments.models}
    results = {
        name: evaluate_model(files, arguments.data, arguments.split)
        for name, files in found.items()
    }
    print(_table(results))
    if arguments.json is not None:
        _write_json(results, arguments.json)
    return 0


def evaluate_model(files: "ModelFiles", source: str | None, split: str) -> dict[str, Any]:
    """Return the figures of one model, named as in `FIELDS`, at its own training size.

    Args:
      files: of the model.
      source: the pictures; None for those it was trained on.
      split: train, validation, test or all.

    Raises:
      UserError: if the model or the pictures can't be read, or the split is empty.
    """
    from colorjax import data, evaluation, parallel
    from colorjax.colorize.model import read_variables
    from colorjax.models import create_networks, generator_shapes

    networks = create_networks(files.config)
    images, indices = _load_pictures(files, networks.image_size, source, split)
    mesh = parallel.create_mesh()
    variables = read_variables(files, "generator", generator_shapes(networks), mesh)
    judge, critic_variables = _create_judge(files, networks, mesh)
    batch_size = parallel.round_up_to_devices(min(files.config.batch_size, len(indices)))

    def make_batches() -> Any:
        return data.make_evaluation_batches(images, indices, batch_size=batch_size)

    evaluator = evaluation.Evaluator(networks.codec, networks.generator, mesh, judge)
    values: dict[str, Any] = {"images": len(indices)}
    values |= evaluator.evaluate(variables, make_batches(), critic_variables)
    values |= evaluation.evaluate_baselines(make_batches, mesh)
    return {field: values.get(field) for field in FIELDS}


def _load_pictures(
    files: "ModelFiles", size: int, source: str | None, split: str
) -> tuple["np.ndarray", "np.ndarray"]:
    from colorjax import data

    fields = files.config.data.copy_and_resolve_references()
    if source is not None:
        fields.source = source
    pictures = data.load_pictures(fields, size)
    return pictures.images, data.split_indices(pictures, split)


def _create_judge(
    files: "ModelFiles", networks: "Networks", mesh: "Mesh"
) -> tuple["Judge | None", Any]:
    """Return the critic with the last objective that trains it, and its variables."""
    from colorjax import checkpoint
    from colorjax.colorize.model import read_variables
    from colorjax.evaluation import Judge
    from colorjax.models import critic_shapes
    from colorjax.training.objectives import create_objective

    config = files.config
    objectives = [create_objective(config.phases[name]) for name in config.phase_order]
    adversarial = [objective for objective in objectives if objective.critic_steps]
    if (
        networks.critic is None
        or not adversarial
        or not checkpoint.has_item(files.folder, "critic")
    ):
        return None, {}
    variables = read_variables(files, "critic", critic_shapes(networks), mesh)
    return Judge(networks.critic, adversarial[-1].critic_metrics), variables


def _table(results: dict[str, dict[str, Any]]) -> str:
    from colorjax.cli.reporting import format_table

    rows = [["", *results]]
    for field in FIELDS:
        rows.append([field, *(_format(values[field]) for values in results.values())])
    return format_table(rows)


def _format(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _check_writable(path: Path) -> None:
    """Raise before the work begins, not after it."""
    from colorjax.errors import UserError

    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{path} can't be written: name a file in a folder that exists.")


def _write_json(results: dict[str, dict[str, Any]], path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.replace(path)
