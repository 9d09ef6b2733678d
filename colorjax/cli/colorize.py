"""Colour pictures: files, folders and patterns."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("inputs", nargs="+", metavar="IMAGE|FOLDER|GLOB", help="what to colour")
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
    parser.add_argument("--overwrite", action="store_true", help="write over existing files")
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="default: png")


def run(arguments: argparse.Namespace) -> int:
    """Colour the pictures and return the exit status."""
    from colorjax.cli.reporting import quieten
    from colorjax.colorize.batch import colorize_files
    from colorjax.compilation import keep_compiled_programs

    quieten(arguments.verbose)
    keep_compiled_programs()
    return colorize_files(
        arguments.inputs,
        arguments.model,
        arguments.output,
        size=arguments.size,
        saturation=arguments.saturation,
        overwrite=arguments.overwrite,
        extension=f".{arguments.format}",
    )
