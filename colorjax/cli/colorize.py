"""Colour pictures and films: files, folders, patterns and links."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from colorjax.colorize.batch import Engine
    from colorjax.colorize.film_reading import Span


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "inputs", nargs="+", metavar="IMAGE|FOLDER|GLOB|URL|VIDEO", help="what to colour"
    )
    parser.add_argument(
        "--model",
        help="a folder, DIR@STEP, a listed name, or hf://OWNER/NAME; default: flowers, as shipped",
    )
    parser.add_argument(
        "--output", default="colorized", metavar="DIR|URL", help="default: colorized"
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
    parser.add_argument(
        "--start", metavar="TIME", help="of films, in seconds or h:m:s; default: the beginning"
    )
    parser.add_argument("--end", metavar="TIME", help="of films, likewise; default: the end")
    parser.add_argument(
        "--frame-by-frame",
        action="store_true",
        help="colour a film's frames each by itself, which flickers",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="this process, or a pool of processes, on a cluster if there is one; default: local",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes of the engine ray; default: by cores"
    )
    parser.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="a Ray cluster that there is; default: RAY_ADDRESS, or one of this machine alone",
    )


def run(arguments: argparse.Namespace) -> int:
    """Colour the pictures and return the exit status."""
    from colorjax.memory import importing, keep_freed_memory

    with importing():
        from colorjax.cli.reporting import quieten
        from colorjax.colorize.batch import Options, colorize_files
        from colorjax.colorize.hints import parse_hint
        from colorjax.compilation import keep_compiled_programs

    quieten(arguments.verbose)
    keep_freed_memory()
    keep_compiled_programs()
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
        span=_parse_span(arguments.start, arguments.end),
        frame_by_frame=arguments.frame_by_frame,
    )
    engine = _create_engine(arguments)
    return colorize_files(arguments.inputs, arguments.model, arguments.output, options, engine)


def _parse_span(start: str | None, end: str | None) -> "Span":
    from colorjax.colorize.film_reading import Span, parse_time

    return Span(parse_time(start or "0"), None if end is None else parse_time(end))


def _create_engine(arguments: argparse.Namespace) -> "Engine":
    from colorjax.colorize.batch import colorize_here
    from colorjax.errors import UserError

    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers {arguments.workers} can't be: give 1 or more.")
    if arguments.engine == "local":
        if arguments.workers or arguments.ray_address:
            raise UserError("--workers and --ray-address go with --engine ray.")
        return colorize_here
    from colorjax.colorize.archive import Pool, create_engine

    address = arguments.ray_address or os.environ.get("RAY_ADDRESS", "")
    return create_engine(Pool(arguments.workers or 0, address, arguments.verbose))
