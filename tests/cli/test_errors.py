"""How commands end by Ctrl-C, wherever it finds them."""

import pytest

from colorjax.cli.errors import reporting_errors
from colorjax.errors import UserError


class Lock:
    """A lock whose holder is left in a state that it can't leave in order."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        raise self.error


def interrupt(error: Exception) -> None:
    with Lock(error):
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [RuntimeError("release unlocked lock"), UserError("It broke.")])
def test_ctrl_c_that_comes_out_as_an_error_is_still_ctrl_c(error, capsys):
    with pytest.raises(SystemExit) as end, reporting_errors():
        interrupt(error)
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted: what is written is whole\n"


def test_an_error_without_ctrl_c_is_an_error():
    with pytest.raises(RuntimeError, match="release unlocked lock"), reporting_errors():
        raise RuntimeError("release unlocked lock")
