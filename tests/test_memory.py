"""Large blocks are reused: the system hands out their pages once."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
import numpy as np
from colorjax.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(2**26, np.uint8).fill(1)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_freed_memory_is_used_again() -> None:
    faults = {
        name: int(
            subprocess.run(
                [sys.executable, "-c", COUNT_FAULTS, name],
                capture_output=True,
                text=True,
                check=True,
                # Pages of one size, whatever the system would choose.
                env={"NUMPY_MADVISE_HUGEPAGE": "0", "PATH": ""},
            ).stdout
        )
        for name in ("keep", "leave")
    }
    assert faults["keep"] < 10
    assert faults["leave"] > 20
