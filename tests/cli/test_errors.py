"""How commands end by Ctrl-C, wherever it finds them."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from colorjax.cli.errors import reporting_errors
from colorjax.errors import UserError

TOLD = "interrupted: what is written is whole\n"


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def interrupt_as(error: Exception) -> None:
    """Let a library make an error of its own of Ctrl-C."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise error from None


@pytest.mark.parametrize("error", [RuntimeError("release unlocked lock"), UserError("It broke.")])
def test_ctrl_c_that_comes_out_as_an_error_is_still_ctrl_c(error, capsys):
    with pytest.raises(SystemExit) as end, reporting_errors():
        interrupt_as(error)
    assert end.value.code == 130
    assert capsys.readouterr().err == TOLD


def test_an_error_without_ctrl_c_is_an_error():
    with pytest.raises(RuntimeError, match="release unlocked lock"), reporting_errors():
        raise RuntimeError("release unlocked lock")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_ends_what_swallowed_the_first():
    program = """
import contextlib, signal, time
from colorjax.cli.errors import reporting_errors
with reporting_errors():
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    print("still here")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", TOLD)
