"""Timing: several ways to do one thing, in turns, so that the machine's moods hit all alike."""

import statistics
import time
from collections.abc import Callable, Mapping


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each way, after one round that doesn't count.

    Args:
      ways: each returns when its work is done.
      rounds: how often each is timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}
