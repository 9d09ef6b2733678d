"""SIGTERM and Ctrl-C ask a run to save and stop; a second one stops it at once."""

import signal
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """A context in which the first SIGTERM or SIGINT only sets `signal_number`."""

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

    @property
    def exit_status(self) -> int:
        """What a shell expects of a program that the signal ended: 143 or 130."""
        return 128 + self.signal_number

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
