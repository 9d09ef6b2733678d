"""train.py as it is called: wrong calls, signals, several processes and what becomes of them.

Run as a script, it is train.py with a note of every picture that its batches held.
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from colorjax.checkpoint import find_newest_step
from conftest import ROOT

TINY = (
    "--config=configs/wgan.py:tiny",
    "--config.image_size=16",
    "--config.batch_size=4",
    "--config.generator.widths=(4, 8)",
    "--config.critic.widths=(4, 8)",
    "--config.data.garden_images=24",
    "--config.phases.adversarial.generator_steps=1",
)
RECIPES = ROOT / "tests/training"
SMALL = f"--config={RECIPES / 'small_recipe.py'}"


def start(*arguments: str, program: str = "train.py", **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, program, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": f"{ROOT}:{RECIPES}"} | variables,
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
    arguments = (SMALL, cache, f"--workdir={tmp_path / 'run'}", "--config.data.garden_images=9000")
    process = start(*arguments)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("cache/**/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    # Python loses an interrupt that comes while its garbage collector runs a callback, which says
    # so; a user then presses again.
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)  # a slow machine takes some seconds to leave
    assert process.returncode == 130
    assert "interrupted: " in process.communicate()[1]


def start_noting(notes: Path, devices: int, *arguments: str) -> subprocess.Popen[str]:
    """Start train.py with so many devices of its own; see `note_pictures`."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return start(*arguments, program=__file__, XLA_FLAGS=flags, NOTES=str(notes))


def start_two(folder: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """Start two processes of two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    together = (f"--coordinator={address}", "--processes=2")
    return [
        start_noting(folder / f"notes{index}", 2, *arguments, *together, f"--process_id={index}")
        for index in range(2)
    ]


def wait_for_step(workdir: Path, step: int) -> None:
    """Wait until a run has a checkpoint of this step, or a later one."""
    deadline = time.monotonic() + 300
    while find_newest_step(workdir) < step:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_notes(*files: Path) -> dict[int, list[str]]:
    """Return the pictures of each step's global batch; steps that were trained twice agree."""
    blocks = [[line.split() for line in file.read_text().splitlines()] for file in files]
    batches: dict[int, list[str]] = {}
    for notes in blocks:
        own: dict[int, list[str]] = {}
        for step, *pictures in notes:
            assert own.setdefault(int(step), pictures) == pictures
        for step, pictures in own.items():
            batches[step] = [*batches.get(step, []), *pictures]
    return batches


def test_two_processes_of_two_devices_train_as_one_does_whatever_befalls_them(tmp_path):
    # The networks are colorjax's own, whose convolutions tell devices how to share them.
    arguments = (*TINY, f"--config.data.cache_dir={tmp_path / 'cache'}")
    arguments += ("--config.phases.pretraining.epochs=4", "--config.phases.adversarial.epochs=1")
    arguments += ("--config.checkpoint.every_steps=2",)
    # At the recipe's rate a difference in rounding grows tenfold in four steps.
    for network in ("generator", "critic"):
        arguments += (f"--config.{network}_optimizer.learning_rate=1e-4",)
    alone = start_noting(tmp_path / "notes", 1, *arguments, f"--workdir={tmp_path / 'alone'}")
    _, errors = alone.communicate(timeout=300)
    assert alone.returncode == 0, errors
    workdir = tmp_path / "both"
    arguments += (f"--workdir={workdir}",)

    # One is killed: the other ends soon, says so, and what is saved stays whole.
    killed, other = reversed(start_two(tmp_path, *arguments))
    wait_for_step(workdir, 2)
    killed.kill()
    _, errors = other.communicate(timeout=120)
    killed.communicate()
    assert other.returncode == 1, errors
    assert "error: Another process of this run has ended, or can't be reached" in errors
    reached = find_newest_step(workdir)

    # Both are killed.
    processes = start_two(tmp_path, *arguments)
    wait_for_step(workdir, min(reached + 4, 20))  # the last one, if it got so far
    for process in processes:
        process.kill()
    outputs = [process.communicate()[0] for process in processes]
    assert f"resumed from step {reached} " in outputs[0]

    processes = start_two(tmp_path, *arguments)
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], [end[1] for end in ends]
    assert_alike(tmp_path / "alone", workdir)
    batches = read_notes(tmp_path / "notes")
    assert len(batches) == 20
    assert read_notes(tmp_path / "notes0", tmp_path / "notes1") == batches


def assert_alike(expected: Path, found: Path) -> None:
    """Check that two runs' metrics are the same to rounding."""
    one, two = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (expected, found)
    )
    for line, twin in zip(one, two, strict=True):
        rates = {"pictures_per_second": 0.0}
        assert twin | rates == pytest.approx(line | rates, rel=1e-4, abs=1e-5)


def test_a_signal_saves_and_says_how_to_resume(tmp_path):
    run = (SMALL, f"--config.data.cache_dir={tmp_path / 'cache'}", f"--workdir={tmp_path / 'run'}")
    reached = 0
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = start(*run, "--config.phases.pretraining.epochs=100000")
        wait_for_metrics(tmp_path / "run/metrics.jsonl", reached)
        process.send_signal(number)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == status, errors
        assert "the same command again resumes" in output
        assert not reached or f"resumed from step {reached} " in output
        reached = find_newest_step(tmp_path / "run")
    again = start(
        *run, "--config.phases.pretraining.epochs=1", "--config.phases.adversarial.epochs=0"
    )
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert f"resumed from step {reached} " in output


def wait_for_metrics(path: Path, step: int) -> None:
    """Wait for a line of a step after `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        text = path.read_text() if path.is_file() else ""
        lines = text.rpartition("\n")[0].splitlines()  # the last may be half written
        if lines and json.loads(lines[-1])["step"] > step:
            return
        time.sleep(0.1)


def note_pictures(notes: Path) -> None:
    """Let training append a line for each batch that it takes: its step and hashes of pictures."""
    from colorjax import data

    make_training_batches = data.make_training_batches

    def make_noting(*arguments, start_step: int = 0, **options):
        batches = make_training_batches(*arguments, start_step=start_step, **options)
        for step, batch in enumerate(batches, start_step):
            hashes = [hashlib.sha256(picture).hexdigest() for picture in batch]
            with notes.open("a") as file:
                file.write(f"{step} {' '.join(hashes)}\n")
            yield batch

    data.make_training_batches = make_noting


if __name__ == "__main__":
    import runpy

    note_pictures(Path(os.environ["NOTES"]))
    sys.argv[0] = "train.py"
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
