"""Write a model as a program for other runtimes: StableHLO (jax alone) or ONNX."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        f"{__doc__} It takes and gives float32 pictures, RGB in [0, 1], and holds the weights and "
        "the conversion of colours; docs/export.md shows how to load it."
    )
    parser.add_argument(
        "--model",
        help="a folder, DIR@STEP, a listed name or hf://OWNER/NAME; default: flowers, as shipped",
    )
    parser.add_argument(
        "--format",
        choices=("stablehlo", "onnx"),
        required=True,
        help="stablehlo, for cpu, cuda and tpu at once, or onnx, which needs the extra `onnx`",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="to write")
    parser.add_argument("--overwrite", action="store_true", help="write over an existing file")


def run(arguments: argparse.Namespace) -> int:
    """Write the file, and return 0."""
    import logging

    from colorjax.cli.reporting import quieten, write_output
    from colorjax.colorize.export import PLATFORMS, export_model
    from colorjax.compilation import keep_compiled_programs
    from colorjax.console import say
    from colorjax.errors import UserError
    from colorjax.files import check_file, write_whole

    quieten(arguments.verbose)
    if not arguments.verbose:
        logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    keep_compiled_programs()
    output = arguments.output
    check_file(output, "--output")
    if output.exists() and not arguments.overwrite:
        raise UserError(f"{output} exists: --overwrite writes it anew.")
    program = export_model(arguments.model, arguments.format)
    write_output(
        output, lambda path: write_whole(path, lambda draft: draft.write_bytes(program.content))
    )
    platforms = f", for {', '.join(PLATFORMS)}" if arguments.format == "stablehlo" else ""
    name = arguments.model or "the shipped model"
    say(
        f"{name} -> {output}: {len(program.content) / 1e6:.1f} MB, RGB {program.shape} in [0, 1]"
        f"{platforms}; a picture of noise differs from the model's by {program.difference:.1g}"
    )
    return 0
