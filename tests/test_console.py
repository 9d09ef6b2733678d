"""Lines on stdout: on one line each, and no trouble where nobody reads them."""

import io
import os
import sys

import pytest

from colorjax.console import printable, say


def test_names_stay_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert printable("a\nb\x1b[31m\u2028") == r"a\nb\x1b[31m\u2028"
    assert printable(os.fsdecode(b"\xff.jpg")) == r"\udcff.jpg"
    assert printable("Blüte 🌸.jpg") == "Blüte 🌸.jpg"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert printable("Blüte.jpg") == r"Bl\xfcte.jpg"


def test_the_work_goes_on_where_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    end, start = os.pipe()
    os.close(end)
    with os.fdopen(start, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        say("first")
        say("second")
