"""Numbers on the command line."""

import argparse
from collections.abc import Callable


def between(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser, for argparse's `type`, of whole numbers within bounds, these included."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text!r}: give {lowest} to {highest}")
        return int(text)

    return parse
