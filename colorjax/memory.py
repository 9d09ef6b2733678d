"""Memory that one training step, or one picture, gave back is kept for the next one."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

# glibc's malloc.h; see mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_LARGEST = 2**31 - 1  # bytes; mallopt takes an int
_LARGE = 32 * 2**20  # bytes, the highest threshold that glibc takes

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# The kernel's pages of 2 MB for large blocks, and what `keep_freed_memory(large=False)` sets.
_TUNABLES = (
    f"glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={_LARGE}:"
    f"glibc.malloc.trim_threshold={_LARGEST}:glibc.malloc.arena_max=1"
)


def restart_with_huge_pages() -> None:
    """Start this program again, so that its large blocks lie in huge pages (glibc 2.35 and later).

    A step on a CPU then takes some 5 % less time. glibc reads its settings when a program starts,
    so nothing else helps. Not where GLIBC_TUNABLES says how it is to be, where the system has no
    such pages, or where the program was not started by itself, as within a notebook.
    """
    variables = huge_pages()
    if variables and sys.argv[0] in sys.orig_argv[1:]:
        os.environ.update(variables)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (this program)


def huge_pages() -> dict[str, str]:
    """Return the environment in which a program's large blocks lie in huge pages; {} if none."""
    if "GLIBC_TUNABLES" in os.environ or not huge_pages_are_offered():
        return {}
    return {"GLIBC_TUNABLES": _TUNABLES}


def huge_pages_are_offered() -> bool:
    """Return whether this system gives huge pages to those who ask."""
    try:
        return "[never]" not in _HUGE_PAGES.read_text()
    except OSError:  # no Linux, or one without them
        return False


def keep_freed_memory(*, large: bool = True) -> None:
    """Let glibc reuse blocks instead of giving them back to the system.

    A step on a CPU allocates the same large arrays again and again, and the system clears each page
    of a fresh one. Only for glibc, and not where GLIBC_TUNABLES says how it is to be; call it
    before the first large array. The process then keeps what it once needed in such blocks.

    Args:
      large: whether blocks of more than 32 MB are kept, too. In training the largest has gigabytes:
        as soon as a small one settles where it was, it needs another place, and the process grows
        to several times what a step takes. Giving it back costs a few percent of the time.
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


def _find(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):  # another system, or another C library
        return None
