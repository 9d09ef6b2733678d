"""Lines for whoever runs a command: results on stdout, notices on stderr."""

import sys

from tqdm import tqdm


def say(line: str) -> None:
    """Print a line to stdout at once, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def notice(line: str) -> None:
    """Print a line to stderr at once, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
