"""Blocks are reused: the system hands out their pages once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from colorjax import memory
from conftest import ROOT

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


SHOW_START = """
import os, sys
from colorjax.memory import restart_with_huge_pages
print("start", flush=True)
restart_with_huge_pages()
print(sys.argv[1:], os.environ.get("GLIBC_TUNABLES"), flush=True)
"""


def run_restarting(*command: str, **variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, *command],
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(SHOW_START)
    return str(path)


@pytest.mark.skipif(not memory.huge_pages_are_offered(), reason="the system has no huge pages")
def test_a_program_starts_again_once_with_the_same_arguments(program: str) -> None:
    first, second, last = run_restarting("-X", "utf8", program, "--a", "b c")
    assert (first, second) == ("start", "start")
    assert last.startswith("['--a', 'b c'] glibc.malloc.hugetlb=1:")


def test_a_users_own_settings_are_left(program: str) -> None:
    lines = run_restarting(program, GLIBC_TUNABLES="glibc.malloc.check=0")
    assert lines == ["start", "[] glibc.malloc.check=0"]


def test_a_program_that_another_runs_is_not_started_again(program: str) -> None:
    code = f"import runpy, sys; sys.argv = ['train.py']; runpy.run_path({program!r})"
    assert run_restarting("-c", code) == ["start", "[] None"]
