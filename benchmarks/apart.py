"""Measuring in a process of its own, whose memory, threads and devices are those of one case."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
      SystemExit: with its status, if it fails.
    """
    command = [sys.executable, script, *map(str, arguments)]
    variables = os.environ | (environment or {})
    with subprocess.Popen(  # noqa: S603 (no shell; our own arguments)
        command, stdout=subprocess.PIPE, text=True, env=variables
    ) as process:
        assert process.stdout is not None
        yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
    if process.returncode:
        sys.exit(process.returncode)
