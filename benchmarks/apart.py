"""Measuring in processes of their own, whose memory, threads and devices are those of one case."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


def run_apart(
    script: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that a Python program prints, each on a line, as they come.

    Args:
      script: its file.
      *arguments: of its command line, as they print.
      environment: variables beside this process's own.

    Raises:
      SystemExit: if it fails, as it does when it is killed for its memory.
    """
    with _start(script, arguments, environment) as process:
        assert process.stdout is not None
        yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
    if process.returncode:
        sys.exit(f"{script} {arguments} failed with status {process.returncode}")


class Side:
    """A program that does one of several things whenever it is told to; see `serve`.

    Attributes:
      told: what it said of itself once it was ready.

    Raises:
      SystemExit: if it fails.
    """

    def __init__(self, script: str, *arguments: object) -> None:
        self._process = _start(script, arguments)
        self.told = self._read()

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, way: str) -> None:
        """Let it do one thing, and wait until that is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(way + "\n")
        self._process.stdin.flush()
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        sys.exit(f"{self._process.args!r} failed with status {self._process.wait()}")


def serve(told: Mapping[str, Any], ways: Mapping[str, Callable[[], object]]) -> None:
    """Be a `Side`: tell something, then do what is asked for until nobody asks any more."""
    print(json.dumps(dict(told)), flush=True)
    for line in sys.stdin:
        ways[line.strip()]()
        print("{}", flush=True)


def _start(
    script: str, arguments: Sequence[object], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 (no shell; our own arguments)
        [sys.executable, script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
    )
