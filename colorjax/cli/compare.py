"""Draw photos side by side: grey, as each model colours them, original."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from colorjax.cli.numbers import between

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from colorjax.colorize.colorizer import Colorizer
    from colorjax.colorize.inputs import Problem
    from colorjax.colorize.pictures import Picture
    from colorjax.sheets import Cell

    Photo = tuple[str, Picture]  # what it is called, and where it is


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        f"{__doc__} Under each picture stand its PSNR to the original (in dB, on RGB) and its "
        "colourfulness (Hasler and Suesstrunk), both at the photo's own size, at which the models "
        "colour it; only then is it fitted into the sheet."
    )
    parser.add_argument(
        "--models",
        nargs="+",
        required=True,
        metavar="MODEL",
        help="folders, DIR@STEP, names, hf://OWNER/NAME",
    )
    photos = parser.add_mutually_exclusive_group(required=True)
    photos.add_argument("--images", nargs="+", metavar="IMAGE|FOLDER|GLOB", help="what to draw")
    photos.add_argument(
        "--data",
        metavar="SOURCE",
        help="folder:PATH, tfds:NAME or garden: draw pictures of it, chosen by a fixed rule",
    )
    _add_choice_arguments(parser)
    parser.add_argument(
        "--heat-maps", action="store_true", help="add heat maps of predicted and true a and b"
    )
    parser.add_argument(
        "--side",
        type=between(48, 2048),
        default=192,
        metavar="N",
        help="pixels of the square that each picture is fitted in; default: 192",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the sheet, .png or .jpg"
    )
    parser.add_argument("--overwrite", action="store_true", help="write over an existing file")


def run(arguments: argparse.Namespace) -> int:
    """Draw the sheet; return 0, or 1 if some photos can't be read."""
    from colorjax.cli.reporting import quieten, write_output
    from colorjax.colorize.colorizer import Colorizer
    from colorjax.colorize.model import find_model
    from colorjax.comparison import make_titles
    from colorjax.compilation import keep_compiled_programs
    from colorjax.console import notice, say
    from colorjax.sheets import draw_sheet, save_sheet

    quieten(arguments.verbose)
    keep_compiled_programs()
    _check_choice(arguments)
    _check_output(arguments)
    configs = [find_model(name).config for name in arguments.models]
    photos, problems = _find_photos(arguments, configs)
    for problem in problems:
        notice(f"{problem.name}: failed, {problem.reason}")
    colorizers = [Colorizer.load(name) for name in arguments.models]
    drawn = list(_draw_photos(photos, colorizers, arguments))
    if drawn:
        rows = [row for photo in drawn for row in photo]
        sheet = draw_sheet(make_titles(arguments.models), rows, arguments.side)
        write_output(arguments.output, lambda path: save_sheet(sheet, path))
        say(f"{len(drawn)} pictures -> {arguments.output}")
    return 1 if problems or len(drawn) < len(photos) else 0


def _add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test", "all"),
        help="of SOURCE, as the first model's config divides it; default: test",
    )
    parser.add_argument(
        "--every",
        type=between(1, 10**9),
        metavar="K",
        help="take every K-th picture of the split; default: spread --count of them over it",
    )
    parser.add_argument(
        "--count",
        type=between(1, 10_000),
        metavar="N",
        help="of SOURCE, at most; default: 8, or all that --every takes",
    )
    parser.add_argument(
        "--size",
        type=between(1, 4096),
        metavar="N",
        help="side of the squares that a SOURCE other than a folder gives (a folder's photos keep "
        "their own size); default: the largest that the models were trained at",
    )


def _check_choice(arguments: argparse.Namespace) -> None:
    """Raise for an option that would choose nothing."""
    from colorjax.errors import UserError

    if arguments.images is not None:
        for option in ("split", "every", "count", "size"):
            if getattr(arguments, option) is not None:
                raise UserError(f"--{option} applies only with --data: --images are all drawn.")
    elif arguments.size and arguments.data.startswith("folder:"):
        raise UserError(
            "--size applies only with --data tfds:NAME or garden: a folder's photos keep their own "
            "size."
        )


def _check_output(arguments: argparse.Namespace) -> None:
    """Raise before the work begins, not after it; an input is never written over."""
    from colorjax.errors import UserError
    from colorjax.sheets import check_sheet_path

    output = arguments.output
    check_sheet_path(output, "--output")
    if output.resolve() in [Path(name).resolve() for name in arguments.images or ()]:
        raise UserError(f"{output} is itself an input: name another --output.")
    if output.exists() and not arguments.overwrite:
        raise UserError(f"{output} exists: --overwrite writes it anew.")


def _find_photos(
    arguments: argparse.Namespace, configs: Sequence["ConfigDict"]
) -> tuple[list["Photo"], list["Problem"]]:
    """Return the photos to draw, and what was named that gives none."""
    from colorjax.colorize.inputs import find_inputs

    if arguments.images is None:
        return _choose_photos(arguments, configs), []
    inputs, problems = find_inputs(arguments.images, arguments.output)
    sheet = arguments.output.resolve()  # in a folder of photos it is none of them
    paths = [item.path for item in inputs if item.path.resolve() != sheet]
    return [(str(path), path) for path in paths], problems


def _choose_photos(arguments: argparse.Namespace, configs: Sequence["ConfigDict"]) -> list["Photo"]:
    """Return every k-th picture of a split: a folder's files, or another source's squares."""
    from colorjax.cli.sources import load_split, take_every

    size = arguments.size or max(config.image_size for config in configs)
    pictures, indices = load_split(configs[0], arguments.data, arguments.split or "test", size)
    chosen = take_every(indices, arguments.every, arguments.count)
    kind, _, folder = arguments.data.partition(":")
    root = Path(folder).expanduser()
    return [
        (pictures.names[i], root / pictures.names[i] if kind == "folder" else pictures.images[i])
        for i in chosen
    ]


def _draw_photos(
    photos: Sequence["Photo"], colorizers: Sequence["Colorizer"], arguments: argparse.Namespace
) -> Iterator[list[list["Cell"]]]:
    """Yield the rows of each photo that can be read; name the others on stderr."""
    from tqdm import tqdm

    from colorjax.colorize.pictures import read_picture
    from colorjax.comparison import compare_photo
    from colorjax.console import notice, say
    from colorjax.data.decode import explain
    from colorjax.errors import UserError

    plain = not sys.stderr.isatty()
    for name, photo in tqdm(photos, unit="picture", disable=plain):
        try:
            image = read_picture(photo)
        except UserError as error:
            notice(f"{name}: failed, {explain(error)}")
            continue
        yield compare_photo(image, colorizers, arguments.side, heat_maps=arguments.heat_maps)
        if plain:
            say(f"{name}: drawn")
