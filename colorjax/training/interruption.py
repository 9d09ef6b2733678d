"""SIGTERM and Ctrl-C ask a run to save and stop; a second one stops it at once."""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

from colorjax import parallel


class Interruption:
    """A context in which the first SIGTERM or SIGINT only sets `signal_number`.

    The second one is left to the system, which ends the program wherever it is, also within
    compiled code. What was saved stays whole: an unfinished checkpoint never gets its name.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def share(self) -> bool:
        """Return whether a signal came, to any of the processes, which all have to ask."""
        if parallel.process_count() > 1:
            self.signal_number = parallel.largest(self.signal_number)
        return self.signal_number != 0

    @property
    def exit_status(self) -> int:
        """What a shell expects of a program that the signal ended: 143 or 130."""
        return 128 + self.signal_number

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)
        # Not by print, in the midst of which the signal may have come.
        os.write(2, b"stopping after this step; once more to stop at once\n")

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
