"""What is told of a film while it is being coloured, and how that is ended."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tqdm import tqdm

from colorjax.console import notice

_EVERY = 30.0  # seconds between lines where there is no terminal


class FilmProgress:
    """A bar with rate and time left on a terminal, now and then a line on stderr when piped.

    Args:
      name: of the film.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = self._told = time.monotonic()
        self._bar = tqdm(desc=name, unit="frame", leave=False, disable=not sys.stderr.isatty())

    def update(self, count: int, total: int | None) -> None:
        """Tell that so many frames, of about `total`, are written."""
        self._bar.total = total
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and now - self._told >= _EVERY:
            self._told = now
            rate = count / (now - self._started)
            frames = f"{count} of about {total} frames" if total else f"{count} frames"
            left = f", {tqdm.format_interval(max(0, total - count) / rate)} left" if total else ""
            notice(f"{self._name}: {frames}, {rate:.1f} a second{left}")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


@contextmanager
def tidied_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does, so that drafts are taken away."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # others can't hear signals
        yield
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
