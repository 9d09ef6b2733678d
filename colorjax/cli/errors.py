"""How every command ends: mistakes as one sentence on stderr, with the right exit status."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from colorjax.errors import TrainingError, UserError

FAILED = 1  # some inputs, or a run, failed
MISUSED = 2  # the call itself is wrong
INTERRUPTED = 130  # by Ctrl-C


@contextmanager
def reporting_errors(verbose: bool = False) -> Iterator[None]:
    """Turn a user's mistake into one sentence and an exit status; with `verbose`, a traceback."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            print("interrupted: what is written is whole", file=sys.stderr)
            sys.exit(INTERRUPTED)
        if not isinstance(error, UserError | TrainingError):
            raise
        if verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISUSED if isinstance(error, UserError) else FAILED)


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether an error is Ctrl-C, or came of it: it may rise in the midst of any library."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
