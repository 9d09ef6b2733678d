"""What commands share in telling."""

from collections.abc import Callable, Sequence
from pathlib import Path


def quieten(verbose: bool) -> None:
    """Leave the libraries' warnings out, unless they are asked for."""
    from absl import logging

    logging.set_verbosity(logging.INFO if verbose else logging.ERROR)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned lines, the first column left and the others right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def write_output(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file that a command was asked for.

    Raises:
      UserError: if it can't be written.
    """
    from colorjax.data.decode import explain
    from colorjax.errors import UserError

    try:
        write(path)
    except (OSError, ValueError) as error:  # ValueError: the format can't hold it
        raise UserError(f"{path} can't be written: {explain(error)}.") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file that a command was asked for, whole or not at all.

    Raises:
      UserError: if it can't be written.
    """
    from colorjax.files import write_whole

    write_output(path, lambda path: write_whole(path, lambda draft: draft.write_text(text)))
