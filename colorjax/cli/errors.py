"""How every command ends: mistakes as one sentence on stderr, with the right exit status."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from colorjax.errors import TrainingError, UserError

FAILED = 1  # some inputs, or a run, failed
MISUSED = 2  # the call itself is wrong
INTERRUPTED = 130  # by Ctrl-C


_INTERRUPTED = "interrupted: what is written is whole"


class _Interrupt:
    """A context that notes Ctrl-C: the first raises KeyboardInterrupt, the second ends the process.

    The exception alone isn't enough: it rises anywhere, so that a library may turn it into an error
    of its own, or lose it in a callback.
    """

    def __init__(self) -> None:
        self.came = False
        self.told = False

    def __enter__(self) -> "_Interrupt":
        # What was started in the background ignores Ctrl-C, and only the main thread may hear it.
        self._listens = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._listens:
            signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        # After one, a second must still end a process that is slow to leave.
        if self._listens and not self.came:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def tell(self) -> None:
        """Say that the program was interrupted."""
        self.told = True
        print(_INTERRUPTED, file=sys.stderr)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            if not self.told:  # not by print, in the midst of which the signal may have come
                os.write(2, f"{_INTERRUPTED}\n".encode())
            os._exit(INTERRUPTED)
        self.came = True
        raise KeyboardInterrupt


@contextmanager
def reporting_errors(verbose: bool = False) -> Iterator[None]:
    """Turn a user's mistake into one sentence and an exit status; with `verbose`, a traceback."""
    with _Interrupt() as interrupt:
        try:
            yield
        except SystemExit:
            raise
        except BaseException as error:
            if interrupt.came or isinstance(error, KeyboardInterrupt):
                interrupt.tell()
                sys.exit(INTERRUPTED)
            if not isinstance(error, UserError | TrainingError):
                raise
            if verbose:
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            sys.exit(MISUSED if isinstance(error, UserError) else FAILED)
