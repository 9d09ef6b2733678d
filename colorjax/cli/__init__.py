"""The program `colorjax`: one module a command, which imports JAX only when it runs."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

import colorjax
from colorjax.cli import colorize, compare, describe, evaluate, export, models, serve
from colorjax.cli.errors import MISUSED, reporting_errors
from colorjax.memory import leave_garbage_at_exit

COMMANDS = {
    "colorize": colorize,
    "evaluate": evaluate,
    "compare": compare,
    "describe": describe,
    "models": models,
    "export": export,
    "serve": serve,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    Args:
      argv: the arguments after the program's name; None for those of this process.
    """
    if argv is None:  # this is the process's own program
        leave_garbage_at_exit()
    try:
        arguments = _create_parser().parse_args(argv)
        with reporting_errors(arguments.verbose):
            return COMMANDS[arguments.command].run(arguments)
    except SystemExit as end:
        return int(end.code or 0)


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"error: {message} (see {self.prog} --help)\n")


def _create_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="colorjax", description=colorjax.__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        summary = (command.__doc__ or "").splitlines()[0]
        subparser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        command.add_arguments(subparser)
        subparser.add_argument(
            "--verbose", action="store_true", help="show the traceback of an error, and logs"
        )
    return parser
