"""What train.py says to wrong calls: one sentence on stderr, exit status 2, nothing written."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from conftest import ROOT

TINY = (
    "--config=configs/wgan.py:tiny",
    "--config.image_size=16",
    "--config.batch_size=4",
    "--config.generator.widths=(4, 8)",
    "--config.critic.widths=(4, 8)",
    "--config.data.garden_images=24",
)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "train.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Name a recipe"),
        (("--config=configs/nowhere.py",), "no such recipe"),
        (("--config=configs/wgan.py:huge",), "no variant 'huge'"),
        (("--config=configs/wgan.py:tiny", "--config.data.sourc=x"), "no field 'sourc'"),
        (("--config=configs/wgan.py:tiny", "--config.batch_size=x"), "batch_size"),
        (("--config=configs/wgan.py:tiny", "--config.data.source=gardn"), "'gardn'"),
    ],
)
def test_a_wrong_call_gets_one_sentence(arguments, message, tmp_path):
    process = start(*arguments, f"--workdir={tmp_path / 'run'}")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1
    assert errors.startswith("error: ")
    assert message in errors
    assert list(tmp_path.iterdir()) == []


def test_help_is_no_failure():
    process = start("--help")
    output, _ = process.communicate()
    assert process.returncode == 0
    assert "--workdir" in output


def test_ctrl_c_before_the_first_step_ends_the_run(tmp_path):
    cache = f"--config.data.cache_dir={tmp_path / 'cache'}"
    arguments = (*TINY, cache, f"--workdir={tmp_path / 'run'}", "--config.data.garden_images=9000")
    process = start(*arguments)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("cache/**/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    # Python loses an interrupt that comes while its garbage collector runs a callback, which says
    # so; a user then presses again.
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
    assert process.returncode == 130
    assert "interrupted: " in process.communicate()[1]


def test_two_processes_train_as_one_does(tmp_path):
    cache = f"--config.data.cache_dir={tmp_path / 'cache'}"
    short = ("--config.phases.pretraining.epochs=1", "--config.phases.adversarial.epochs=1")
    alone = start(*TINY, cache, *short, f"--workdir={tmp_path / 'alone'}")
    _, errors = alone.communicate(timeout=300)
    assert alone.returncode == 0, errors
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = [
        start(
            *(*TINY, cache, *short, f"--workdir={tmp_path / 'both'}"),
            *(f"--coordinator={address}", "--processes=2", f"--process_id={index}"),
        )
        for index in range(2)
    ]
    ends = [process.communicate(timeout=300) for process in together]
    assert [process.returncode for process in together] == [0, 0], ends
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("alone", "both")
    )
    assert len(one) == len(two)
    for expected, line in zip(one, two, strict=True):
        rates = {"pictures_per_second": 0.0}
        assert line | rates == pytest.approx(expected | rates, rel=1e-3, abs=1e-4)


def test_sigterm_saves_and_says_how_to_resume(tmp_path):
    cache = f"--config.data.cache_dir={tmp_path / 'cache'}"
    arguments = (*TINY, cache, f"--workdir={tmp_path / 'run'}")
    process = start(*arguments, "--config.phases.pretraining.epochs=100000")
    metrics = tmp_path / "run/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "the same command again resumes" in output
    again = start(
        *arguments, "--config.phases.pretraining.epochs=1", "--config.phases.adversarial.epochs=0"
    )
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert "resumed from step" in output
