"""Serve a page, and an HTTP API, that colour photos."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="to choose from; default: all that `colorjax models` lists",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; default: 127.0.0.1, this machine"
    )
    parser.add_argument(
        "--port", type=int, default=7860, help="default: 7860; 0 for any that is free"
    )
    parser.add_argument(
        "--max-upload", type=float, default=50, metavar="MB", help="of a file; default: 50"
    )
    parser.add_argument(
        "--max-pixels", type=float, default=50, metavar="MILLIONS", help="default: 50"
    )
    parser.add_argument(
        "--max-queue", type=int, default=16, metavar="N", help="photos that may wait; default: 16"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=120, metavar="S", help="per photo; default: 120"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C, and return the exit status."""
    from colorjax.cli.reporting import quieten
    from colorjax.web.server import check_installed, serve

    quieten(arguments.verbose)
    check_installed()
    limits = {
        "upload": arguments.max_upload * 1e6,
        "pixels": arguments.max_pixels * 1e6,
        "queue": arguments.max_queue,
        "seconds": arguments.max_seconds,
    }
    return serve(arguments.models, arguments.host, arguments.port, limits)
