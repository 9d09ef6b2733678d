"""Memory that one training step, or one picture, gave back is kept for the next one.

Also spares Python's search for garbage while libraries are imported, and at the end.
"""

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# glibc's malloc.h; see mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_LARGEST = 2**31 - 1  # bytes; mallopt takes an int
_LARGE = 32 * 2**20  # bytes, the highest threshold that glibc takes


def keep_freed_memory(*, large: bool = True) -> None:
    """Let glibc reuse blocks instead of giving them back to the system.

    A step on a CPU allocates the same large arrays again and again, and the system clears each page
    of a fresh one. Only for glibc, and not where GLIBC_TUNABLES says how it is to be; call it
    before the first large array. The process then keeps what it once needed in such blocks.

    Args:
      large: whether blocks of more than 32 MB are kept, too. In training the largest has gigabytes:
        as soon as a small one settles where it was, it needs another place, and the process grows
        to several times what a step takes. Giving it back costs a few percent of the time of wide
        networks, and a quarter of that of light ones, whose steps do little with much memory.
    """
    if not sys.platform.startswith("linux") or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    ):
        return
    mallopt = _find("mallopt")
    if mallopt is None:
        return
    if large:
        mallopt(_MMAP_MAX, 0)
    else:
        mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, _LARGEST)
    mallopt(_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Give back what lies free between blocks in use, where the C library is glibc."""
    trim = _find("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage while libraries are imported; what the first of them made stays."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else each call would keep the garbage there is by then
            gc.freeze()
        if was_enabled:
            gc.enable()


def leave_garbage_at_exit() -> None:
    """Let the process end without looking through all that it holds, which takes half a second.

    For programs whose files are closed by then: one that is part of a cycle is not flushed.
    """
    atexit.register(gc.freeze)


def _find(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):  # another system, or another C library
        return None
