"""What commands share in telling."""

from collections.abc import Sequence


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
