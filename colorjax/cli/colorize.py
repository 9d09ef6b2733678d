"""Colour pictures: files, folders, patterns and links."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("inputs", nargs="+", metavar="IMAGE|FOLDER|GLOB|URL", help="what to colour")
    parser.add_argument("--model", help="a run's or model's folder, DIR@STEP, or a listed name")
    parser.add_argument(
        "--output", type=Path, default=Path("colorized"), metavar="DIR", help="default: colorized"
    )
    parser.add_argument(
        "--size", type=int, metavar="N", help="side of the square the network sees, in pixels"
    )
    parser.add_argument(
        "--saturation", type=float, default=1.0, metavar="X", help="factor of the colour; default 1"
    )
    parser.add_argument(
        "--upsample",
        choices=("guided", "bicubic"),
        default="guided",
        help="how colour is enlarged: along the picture's edges, or smoothly; default: guided",
    )
    parser.add_argument(
        "--lightness",
        choices=("input", "network"),
        default="input",
        help="the picture's own, or that which a network of RGB predicts; default: input",
    )
    parser.add_argument(
        "--hint",
        action="append",
        default=[],
        metavar="x,y,#rrggbb",
        help="a colour wanted at a pixel of the upright picture; may be given again",
    )
    parser.add_argument("--reference", type=Path, metavar="PHOTO", help="whose palette to follow")
    parser.add_argument("--overwrite", action="store_true", help="write over existing files")
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="default: png")
    parser.add_argument("--keep-metadata", action="store_true", help="keep EXIF and XMP")


def run(arguments: argparse.Namespace) -> int:
    """Colour the pictures and return the exit status."""
    from colorjax.cli.reporting import quieten
    from colorjax.colorize.batch import Options, colorize_files
    from colorjax.colorize.hints import parse_hint

    quieten(arguments.verbose)
    options = Options(
        size=arguments.size,
        saturation=arguments.saturation,
        upsample=arguments.upsample,
        lightness=arguments.lightness,
        reference=arguments.reference,
        hints=[parse_hint(text) for text in arguments.hint],
        keep_metadata=arguments.keep_metadata,
        overwrite=arguments.overwrite,
        extension=f".{arguments.format}",
    )
    return colorize_files(arguments.inputs, arguments.model, arguments.output, options)
