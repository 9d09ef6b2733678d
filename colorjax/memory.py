"""Memory that a training step gave back is kept for the next one."""

import ctypes
import os
import sys

# glibc's malloc.h; see mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_LARGEST = 2**31 - 1  # bytes; mallopt takes an int


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of giving them back to the system.

    A step on a CPU allocates the same large arrays again and again, and the system clears each page
    of a fresh one. Only for glibc, and not where GLIBC_TUNABLES says how it is to be; call it
    before the first large array. The process then keeps the memory that it once needed.
    """
    if not sys.platform.startswith("linux") or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _LARGEST)
    mallopt(_ARENA_MAX, 1)
