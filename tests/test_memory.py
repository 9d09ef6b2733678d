"""Blocks are reused: the system hands out their pages once."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
import numpy as np
from colorjax.memory import keep_freed_memory
if sys.argv[1] != "leave":
    keep_freed_memory(large=sys.argv[1] == "keep all")
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.empty(int(sys.argv[2]), np.uint8) for _ in range(4)]
    for block in blocks:
        block.fill(1)
    del block, blocks
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
@pytest.mark.parametrize(
    ("policy", "size", "is_kept"),
    [
        ("leave", 2**24, False),
        ("keep small", 2**24, True),
        ("keep small", 2**26, False),
        ("keep all", 2**26, True),
    ],
)
def test_freed_memory_is_used_again(policy: str, size: int, is_kept: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, policy, str(size)],
        capture_output=True,
        text=True,
        check=True,
        # Pages of one size, whatever the system would choose.
        env={"NUMPY_MADVISE_HUGEPAGE": "0", "PATH": ""},
    )
    assert (int(done.stdout) < 10) == is_kept


SEARCHES = """
import gc, sys
from colorjax import memory
searches = []
gc.callbacks.append(lambda phase, info: searches.append(phase))
if sys.argv[1] == "importing":
    with memory.importing():
        lists = [[] for _ in range(100_000)]
else:
    lists = [[] for _ in range(100_000)]
print(len(searches))
assert gc.isenabled()
"""


def test_importing_looks_for_no_garbage() -> None:
    searches = [
        int(subprocess.check_output([sys.executable, "-c", SEARCHES, way]))
        for way in ("importing", "as ever")
    ]
    assert searches[0] == 0 < searches[1]


END = """
import sys
from colorjax import memory
class Cycle:
    def __init__(self):
        self.own = self
    def __del__(self):
        print("found")
cycle = Cycle()
if sys.argv[1] == "leave":
    memory.leave_garbage_at_exit()
"""


def test_the_end_looks_for_no_garbage() -> None:
    found = [
        subprocess.check_output([sys.executable, "-c", END, way]) for way in ("leave", "as ever")
    ]
    assert found == [b"", b"found\n"]
