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
    except (UserError, TrainingError) as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISUSED if isinstance(error, UserError) else FAILED)
    except KeyboardInterrupt:
        print("interrupted: what is written is whole", file=sys.stderr)
        sys.exit(INTERRUPTED)
