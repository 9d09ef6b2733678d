"""Timing: several ways to do one thing, in turns, so that the machine's moods hit all alike."""

import statistics
import time
from collections.abc import Callable, Mapping


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each way; a turn is two calls, the second of which counts.

    The first finds the processor's caches and the system's free memory as another way has left
    them. In use, a way follows itself.

    Args:
      ways: each returns when its work is done.
      rounds: how often each is timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            way()
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}
