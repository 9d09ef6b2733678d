"""Lines for whoever runs a command: results on stdout, notices on stderr."""

import os
import sys
import unicodedata

from tqdm import tqdm


def printable(name: object) -> str:
    """Return a name on one line, whatever characters or bytes a file is named with.

    What would move the cursor, break the line or can't be written in stdout's encoding is escaped.
    """
    hidden = ("Cc", "Cs", "Zl", "Zp")  # controls, lone surrogates (no text), line separators
    shown = "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in hidden
        else character
        for character in str(name)
    )
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def say(line: str) -> None:
    """Print a line to stdout at once, above a progress bar if there is one.

    Where nobody reads any more, as after `| head`, the work goes on and nothing more is printed.
    """
    try:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # Under the stream itself, which Python writes out at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def notice(line: str) -> None:
    """Print a line to stderr at once, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
