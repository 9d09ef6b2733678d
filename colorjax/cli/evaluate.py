"""Measure models on pictures, beside the uncoloured picture and the best constant colour."""

import argparse
import csv
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colorjax.cli.numbers import between

if TYPE_CHECKING:
    import numpy as np
    from jax.sharding import Mesh
    from ml_collections import ConfigDict

    from colorjax.cli.figures import Group
    from colorjax.colorize.model import ModelFiles
    from colorjax.evaluation import Batches, Evaluator, Judge, Resizing
    from colorjax.fid import FeatureNetwork
    from colorjax.models import Networks

_BATCH = 64  # pictures
_BATCH_PIXELS = 2**22  # of a batch that is measured at a size of the user's choice
_SHEET_PICTURES = 6
_SHEET_SIDE = 192  # pixels


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Pictures that models are measured on.

    Attributes:
      images: uint8 (N, S, S, 3), of the whole source, at the size that they are measured at.
      names: of the N pictures.
      indices: of those that are measured.
      description: which these are, in words.
      baselines: what is reached on them without a model.
    """

    images: "np.ndarray"
    names: Sequence[str]
    indices: "np.ndarray"
    description: str
    baselines: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one model reaches.

    Attributes:
      figures: means over the pictures, named as in `figures.FIELDS`.
      each: the metrics of each picture, (N,).
    """

    figures: dict[str, Any]
    each: Mapping[str, "np.ndarray"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--models",
        nargs="+",
        required=True,
        metavar="MODEL",
        help="folders, DIR@STEP, names, hf://OWNER/NAME",
    )
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="folder:PATH, tfds:NAME or garden; default: what each model was trained on",
    )
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test", "all"),
        default="test",
        help="of SOURCE, as each model's config divides it; default: test",
    )
    parser.add_argument(
        "--size",
        type=between(11, 2048),  # SSIM has a window of 11 pixels
        metavar="N",
        help="measure all models on pictures of NxN, in one table; default: each at its training "
        "size",
    )
    parser.add_argument(
        "--fid-weights",
        metavar="FILE",
        help="of a ResNet-18 or -50 (.npz, .safetensors, hf://OWNER/NAME) for FID in its features",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument(
        "--each", type=Path, metavar="FILE", help="write each picture's figures there, CSV"
    )
    parser.add_argument(
        "--heat-maps",
        type=Path,
        metavar="FILE",
        help="draw some of the pictures, spread over the split, as `compare --heat-maps` does (of "
        "the first model's pictures, where they differ); .png or .jpg",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure each model, print one table and return 0."""
    from colorjax.cli.figures import format_markdown, make_notes, make_table
    from colorjax.cli.reporting import format_table, quieten, write_text
    from colorjax.colorize.model import find_model
    from colorjax.compilation import keep_compiled_programs
    from colorjax.console import say

    quieten(arguments.verbose)
    keep_compiled_programs()
    _check_outputs(arguments)
    found = {name: find_model(name) for name in arguments.models}
    network = _load_feature_network(arguments.fid_weights)
    size = arguments.size
    sets = _load_sets(found, arguments.data, arguments.split, size)
    evaluated = {name: evaluate_model(found[name], sets[name], network, size) for name in found}
    results = {name: evaluation.figures for name, evaluation in evaluated.items()}
    groups = _group(results, sets)
    notes = make_notes(groups, size) + ([network.protocol] if network else [])
    say(format_table(make_table(groups)))
    wrap = textwrap.TextWrapper(100, break_long_words=False, break_on_hyphens=False)
    say("\n".join(map(wrap.fill, notes)))
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(results, indent=2) + "\n")
    if arguments.markdown is not None:
        write_text(arguments.markdown, format_markdown(groups, notes))
    if arguments.each is not None:
        write_text(arguments.each, _format_each(evaluated, sets))
    if arguments.heat_maps is not None:
        _draw_heat_maps(list(found), sets[arguments.models[0]], arguments.heat_maps)
    return 0


def evaluate_model(
    files: "ModelFiles",
    pictures: EvaluationSet,
    network: "FeatureNetwork | None" = None,
    size: int | None = None,
) -> Evaluation:
    """Return the figures of one model.

    Args:
      files: of the model.
      pictures: of the size to measure at.
      network: in whose features FID is taken; None for no FID.
      size: the one that models of all training sizes are measured at; None if this one is measured
        at its own.

    Raises:
      UserError: if the model can't be read.
    """
    from colorjax import evaluation, parallel
    from colorjax.cli.figures import FIELDS
    from colorjax.colorize.model import read_variables
    from colorjax.models import create_networks, generator_shapes

    networks = create_networks(files.config)
    mesh = parallel.create_mesh()
    variables = read_variables(files, "generator", generator_shapes(networks), mesh)
    judge, critic_variables = _create_judge(files, networks, mesh)
    resizing = _create_resizing(networks, size)
    evaluator = evaluation.Evaluator(
        networks.codec, networks.generator, mesh, judge, resizing=resizing
    )
    batch_size = _fit_batch(files.config.batch_size, size if resizing else None)
    batches = _make_batches(pictures.images, pictures.indices, batch_size)
    measured = evaluator.evaluate_each(variables, batches, critic_variables)
    side = pictures.images.shape[1]
    values: dict[str, Any] = {"images": len(pictures.indices), "size": side, **pictures.baselines}
    values |= {name: float(each.mean()) for name, each in measured.items()}
    for name, (low, high) in evaluation.bootstrap_intervals(measured).items():
        values |= {f"{name}_low": low, f"{name}_high": high}
    if network is not None:
        values["fid"] = _measure_fid(network, evaluator, variables, pictures, size)
    return Evaluation({field: values.get(field) for field in FIELDS}, measured)


def _load_feature_network(weights: str | None) -> "FeatureNetwork | None":
    from colorjax import parallel

    if weights is None:
        return None
    from colorjax.fid import FeatureNetwork

    return FeatureNetwork(weights, parallel.create_mesh())


def _create_resizing(networks: "Networks", size: int | None) -> "Resizing | None":
    """Return how a network is measured at a size; None if there is nothing to resize or join."""
    import jax

    from colorjax.colorize.upsampling import resize_guided
    from colorjax.evaluation import Resizing

    is_own = size == networks.image_size and not networks.codec.predicts_lightness
    if size is None or is_own:
        return None
    return Resizing(networks.image_size, jax.vmap(resize_guided))


def _fit_batch(batch_size: int, size: int | None) -> int:
    """Return how many pictures of a size are measured together; None for a training size."""
    from colorjax.colorize.upsampling import WORKING_SIZE

    if size is None:
        return batch_size
    return max(1, min(batch_size, _BATCH_PIXELS // max(size, WORKING_SIZE) ** 2))


def _measure_fid(
    network: "FeatureNetwork",
    evaluator: "Evaluator",
    variables: Any,
    pictures: EvaluationSet,
    size: int | None,
) -> float:
    from colorjax.fid import frechet_distance

    batch_size = _fit_batch(_BATCH, size)

    def colored() -> "Batches":
        for images, mask in _make_batches(pictures.images, pictures.indices, batch_size):
            yield evaluator.colorize(variables, images), mask

    true = _make_batches(pictures.images, pictures.indices, batch_size)
    return frechet_distance(network.extract(colored()), network.extract(true))


def _load_sets(
    found: Mapping[str, "ModelFiles"], source: str | None, split: str, size: int | None
) -> dict[str, EvaluationSet]:
    """Return the pictures for each model, loaded once where models share them."""
    loaded: dict[str, EvaluationSet] = {}
    sets = {}
    for name, files in found.items():
        key = _identify_set(files.config, source, split, size)
        if key not in loaded:
            loaded[key] = _load_set(files.config, source, split, size)
        sets[name] = loaded[key]
    return sets


def _identify_set(config: "ConfigDict", source: str | None, split: str, size: int | None) -> str:
    """Return the same for two configs if they are measured on the same pictures."""
    from colorjax.cli.sources import name_source

    name = name_source(config, source, split)
    fields = ["tfds_dir", "manual_dir"]
    fields += ["garden_images"] if name == "garden" else []
    fields += ["tfds_split"] if name == config.data.source else []
    fields += ["split_rule", "split_fractions", "split_seed"] if split != "all" else []
    return repr(
        [name, size or config.image_size, *(config.data.get(field) or "" for field in fields)]
    )


def _load_set(
    config: "ConfigDict", source: str | None, split: str, size: int | None
) -> EvaluationSet:
    from colorjax import evaluation, parallel
    from colorjax.cli.sources import load_split, name_source

    side = size or config.image_size
    pictures, indices = load_split(config, source, split, side)
    images = pictures.images
    batch_size = _fit_batch(_BATCH, size)
    baselines = evaluation.evaluate_baselines(
        lambda: _make_batches(images, indices, batch_size), parallel.create_mesh()
    )
    name = name_source(config, source, split)
    which = "all" if split == "all" else f"the {split} split"
    description = f"{len(indices):,} pictures, {which} of {name}, at {side}x{side}"
    return EvaluationSet(images, pictures.names, indices, description, baselines)


def _make_batches(images: "np.ndarray", indices: "np.ndarray", batch_size: int) -> "Batches":
    from colorjax import data, parallel

    size = parallel.round_up_to_devices(min(batch_size, len(indices)))
    return data.make_evaluation_batches(images, indices, batch_size=size)


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


def _group(
    results: Mapping[str, dict[str, Any]], sets: Mapping[str, EvaluationSet]
) -> list["Group"]:
    """Return the figures by the pictures that they were measured on."""
    from colorjax.cli.figures import Group

    return [
        Group(each.description, {name: results[name] for name in results if sets[name] is each})
        for each in dict.fromkeys(sets.values())
    ]


def _format_each(evaluated: Mapping[str, Evaluation], sets: Mapping[str, EvaluationSet]) -> str:
    """Return CSV: a line for each model and picture, with the metrics that all models have."""
    metrics = [
        metric
        for metric in next(iter(evaluated.values())).each
        if all(metric in evaluation.each for evaluation in evaluated.values())
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "picture", *metrics])
    for name, evaluation in evaluated.items():
        pictures = [sets[name].names[index] for index in sets[name].indices]
        columns = [evaluation.each[metric] for metric in metrics]
        for picture, *values in zip(pictures, *columns, strict=True):
            writer.writerow([name, picture, *(f"{value:.6g}" for value in values)])
    return text.getvalue()


def _draw_heat_maps(models: Sequence[str], pictures: EvaluationSet, path: Path) -> None:
    from colorjax.cli.reporting import write_output
    from colorjax.cli.sources import take_every
    from colorjax.colorize.colorizer import Colorizer
    from colorjax.comparison import compare_photo, make_titles
    from colorjax.sheets import draw_sheet, save_sheet

    colorizers = [Colorizer.load(name) for name in models]
    images = pictures.images[take_every(pictures.indices, None, _SHEET_PICTURES)]
    compared = [compare_photo(x, colorizers, _SHEET_SIDE, heat_maps=True) for x in images]
    rows = [row for photo in compared for row in photo]
    sheet = draw_sheet(make_titles(models), rows, _SHEET_SIDE)
    write_output(path, lambda path: save_sheet(sheet, path))


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raise before the work begins, not after it."""
    from colorjax.files import check_file
    from colorjax.sheets import check_sheet_path

    if arguments.json is not None:
        check_file(arguments.json, "--json")
    if arguments.markdown is not None:
        check_file(arguments.markdown, "--markdown")
    if arguments.each is not None:
        check_file(arguments.each, "--each")
    if arguments.heat_maps is not None:
        check_sheet_path(arguments.heat_maps, "--heat-maps")
