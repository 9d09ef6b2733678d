"""What may befall a run: one sentence, no checkpoint lost, and the same command goes on.

Run as a script, it trains until its folder can't be written, or until it is told to stop at once.
"""

import ctypes
import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import chex
import jax
import pytest
from ml_collections import ConfigDict
from PIL import Image
from small_networks import register_small_networks
from test_loop import flip_a_byte, read_lines

from colorjax import checkpoint, parallel
from colorjax.cli.errors import reporting_errors
from colorjax.errors import TrainingError, UserError
from colorjax.training import loop
from colorjax.training.interruption import Interruption
from conftest import ROOT, create_tiny_config

STEPS = 8  # of two epochs
DAY = 86_400.0


def create_config(folder: Path) -> ConfigDict:
    """Return a recipe of two epochs that compiles in a moment and saves every step."""
    config = create_tiny_config(folder)
    config.generator = ConfigDict({"name": "small"})
    config.critic.name = ""
    config.phase_order = ("pretraining",)
    config.phases.pretraining.epochs = 2
    config.checkpoint.every_steps = 1
    return config


class At(Interruption):
    """An interruption that never comes; it lets something happen at a step."""

    def __init__(self, step: int, happen: Callable[[], object]) -> None:
        self._looks, self._happen = step, happen
        super().__init__()

    def share(self) -> bool:
        self._looks -= 1
        if self._looks == 0:
            self._happen()
        return super().share()


def train(config: ConfigDict, workdir: Path, step: int = 0, happen=lambda: None) -> loop.Run:
    """Train to the end; what happens once so many steps were asked about may prevent it."""
    with loop.Run(config, workdir) as run, At(step, functools.partial(happen)) as interruption:
        assert run.train(interruption) == 0
    return run


@pytest.fixture(autouse=True)
def small_networks(monkeypatch) -> None:
    register_small_networks(monkeypatch.setitem)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> tuple[loop.Run, Path]:
    """A run that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        register_small_networks(patch.setitem)
        return train(create_config(folder), folder / "run"), folder / "run"


@pytest.fixture
def config(tmp_path) -> ConfigDict:
    return create_config(tmp_path)


def assert_goes_on_as_if_nothing_had_been(config, workdir, whole_run) -> None:
    expected, folder = whole_run
    run = train(config, workdir)
    chex.assert_trees_all_equal(run.state, expected.state)
    assert read_lines(workdir) == read_lines(folder)


@pytest.fixture
def fill_disk() -> Iterator[Callable[[], None]]:
    """A function after which no file can grow beyond some bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("lines_every", [1, 1000])  # of metrics.jsonl, or in a checkpoint alone
def test_a_disk_that_is_full(config, tmp_path, whole_run, fill_disk, lines_every):
    config.log_every_steps = lines_every
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    message = r"run can't be written \(file too large\): once .* goes on from step [3456]\.$"
    with pytest.raises(TrainingError, match=message) as caught:
        train(config, tmp_path / "run", 5, fill_disk)
    assert len(str(caught.value).splitlines()) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    newest = checkpoint.find_newest_step(tmp_path / "run")
    assert str(caught.value).endswith(f"step {newest}.")
    config.log_every_steps = 1
    if lines_every == 1:
        assert_goes_on_as_if_nothing_had_been(config, tmp_path / "run", whole_run)


def test_a_workdir_that_becomes_a_file(config, tmp_path, whole_run):
    workdir, moved = tmp_path / "run", tmp_path / "moved"

    run = loop.Run(config, workdir)

    def replace() -> None:
        run.store.wait()  # a save that is under way would make the folder anew in between
        workdir.rename(moved)
        workdir.write_text("")

    with (
        pytest.raises(TrainingError, match=r"run can't be written \(not a directory\)"),
        run,
        At(5, replace) as interruption,
    ):
        run.train(interruption)
    workdir.unlink()
    moved.rename(workdir)
    assert_goes_on_as_if_nothing_had_been(config, workdir, whole_run)


def start_script(*arguments: str) -> subprocess.Popen[str]:
    """Start this file as a user whom permissions bind, which they don't bind root."""

    def obey_permissions() -> None:
        libc = ctypes.CDLL(None)
        libc.prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: gone with the next program

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=obey_permissions,
    )


def test_a_workdir_that_becomes_read_only(config, tmp_path, whole_run):
    workdir = tmp_path / "run"
    process = start_script("read-only", str(tmp_path))
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        for folder in (workdir, workdir / "steps"):
            folder.chmod(0o755)
    assert process.returncode == 1, errors
    newest = checkpoint.find_newest_step(workdir)
    assert f"{workdir} can't be written (permission denied): once it can be" in errors
    assert errors.endswith(f"goes on from step {newest}.\n")
    assert "Traceback" not in errors
    assert_goes_on_as_if_nothing_had_been(config, workdir, whole_run)


def test_a_second_ctrl_c_leaves_at_once_and_the_last_checkpoint_is_whole(
    config, tmp_path, whole_run
):
    process = start_script("slow", str(tmp_path))
    for line in process.stderr:
        if line.startswith("ready"):
            process.send_signal(signal.SIGINT)
        if "once more to stop at once" in line:
            break
    process.send_signal(signal.SIGINT)  # in the midst of a step without end
    assert process.wait(timeout=60) == -signal.SIGINT
    assert checkpoint.find_newest_step(tmp_path / "run") in (3, 4)  # 4 was perhaps being saved
    assert_goes_on_as_if_nothing_had_been(config, tmp_path / "run", whole_run)


def cut_in_half(folder: Path) -> None:
    file = max(folder.rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(file, file.stat().st_size // 2)


def empty(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            os.truncate(file, 0)


@pytest.mark.parametrize("item", ["state", "progress"])
@pytest.mark.parametrize("damage", [flip_a_byte, cut_in_half, empty, shutil.rmtree])
def test_a_checkpoint_that_is_damaged(config, tmp_path, whole_run, capsys, damage, item):
    workdir = Path(shutil.copytree(whole_run[1], tmp_path / "run"))
    newest = workdir / "steps" / str(STEPS)
    damage(newest / item)
    with loop.Run(config, workdir) as run:
        assert run.host.step == STEPS - 1
    errors = capsys.readouterr().err
    assert str(newest) in errors
    assert "It is passed over." in errors


def test_one_good_checkpoint_is_taken_however_many_are_damaged(config, tmp_path, whole_run):
    config.checkpoint.keep = 5
    workdir = tmp_path / "run"
    train(config, workdir)
    for step in range(STEPS - 3, STEPS + 1):
        flip_a_byte(workdir / "steps" / str(step) / "state")
    assert_goes_on_as_if_nothing_had_been(config, workdir, whole_run)
    for folder in (workdir / "steps").iterdir():
        flip_a_byte(folder / "state")
    with pytest.raises(UserError, match=r"Every checkpoint in .* is damaged"):
        train(config, workdir)


def change(**fields: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | fields)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", r"config\.json is damaged: restore it from a copy"),
        (lambda text: text[: len(text) // 2], r"config\.json is damaged: restore it from a copy"),
        (lambda text: "\0" * len(text), r"config\.json is damaged: restore it from a copy"),
        (change(image_size="16"), r"config\.json is damaged: restore it from a copy"),
        (change(phases=3), r"was trained with config\.phases"),
        (change(seed=[42]), r"was trained with config\.seed"),
        (
            lambda text: text.replace('"epochs": 2', '"epochs": "two"'),
            r"config\.json is damaged: restore it from a copy",
        ),
    ],
)
def test_a_config_that_is_damaged(config, tmp_path, whole_run, damage, message):
    workdir = Path(shutil.copytree(whole_run[1], tmp_path / "run"))
    text = (workdir / "config.json").read_text()
    (workdir / "config.json").write_text(damage(text))
    assert (workdir / "config.json").read_text() != text
    with pytest.raises(UserError, match=message):
        loop.train(config, workdir)
    assert checkpoint.find_newest_step(workdir) == STEPS
    (workdir / "config.json").write_text(text)
    with loop.Run(config, workdir) as run:
        assert run.host.step == STEPS


def test_two_programs_on_one_workdir(config, tmp_path):
    workdir = tmp_path / "run"
    with loop.Run(config, workdir):
        before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
        with pytest.raises(UserError, match=r"Another program is at work in .*/run: wait for its"):
            loop.train(config, workdir)
        assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before
    train(config, workdir)


def test_a_clock_that_jumps(config, tmp_path, whole_run, monkeypatch):
    offset = 0.0
    real_time, real_time_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real_time() + offset)
    monkeypatch.setattr(time, "time_ns", lambda: real_time_ns() + int(offset * 1e9))

    def jump(run: loop.Run, seconds: float) -> None:
        nonlocal offset
        run.store.wait()  # Orbax measures by this clock how long it has waited, at most minutes
        offset = seconds

    workdir = tmp_path / "run"
    for step, seconds in ((2, 400 * DAY), (2, -400 * DAY), (1, 0.0)):
        # Each start ends three steps after the clock was set.
        steps = checkpoint.find_newest_step(workdir) + 3
        run = loop.Run(config, workdir)
        happen = functools.partial(jump, run, seconds)
        with run, At(step, happen) as interruption:
            interruption.share = stop_after(interruption.share, 3)
            run.train(interruption)
        assert checkpoint.find_newest_step(workdir) == min(steps, STEPS)
    expected, folder = whole_run
    chex.assert_trees_all_equal(run.state, expected.state)
    assert read_lines(workdir) == read_lines(folder)
    # TensorBoard reads its files in the order of their names: they are those of the starts.
    files = sorted((workdir / "tensorboard").iterdir())
    assert len(files) == 3


def stop_after(share: Callable[[], bool], looks: int) -> Callable[[], bool]:
    counted = iter(range(1, 1000))

    def share_and_stop() -> bool:
        share()
        return next(counted) >= looks

    return share_and_stop


def test_photos_and_their_cache_that_vanish_while_training(config, photo_folder, tmp_path):
    config.data.source = f"folder:{photo_folder}"
    config.phases.pretraining.epochs = 4
    whole = train(config, tmp_path / "whole")
    photo = photo_folder / "photo_03.png"

    def vanish() -> None:
        photo.rename(tmp_path / photo.name)
        shutil.rmtree(config.data.cache_dir)

    disturbed = train(config, tmp_path / "run", 2, vanish)
    chex.assert_trees_all_equal(disturbed.state, whole.state)
    with pytest.raises(UserError, match="trained on other pictures than"):
        train(config, tmp_path / "run")
    assert checkpoint.find_newest_step(tmp_path / "run") == whole.host.step
    shutil.copy(tmp_path / photo.name, photo)  # with another time of modification
    with loop.Run(config, tmp_path / "run") as run:
        assert run.host == disturbed.host


def test_a_photo_that_changes_is_told_when_the_run_goes_on(config, photo_folder, tmp_path, capsys):
    config.data.source = f"folder:{photo_folder}"
    train(config, tmp_path / "run")
    for path in photo_folder.iterdir():
        Image.open(path).rotate(180).save(path)
    for times_told in (1, 1):
        train(config, tmp_path / "run")
        config.phases.pretraining.epochs += 1
        assert capsys.readouterr().err.count("pictures have changed since") == times_told


def test_determinism_asked_for_too_late_is_said(config, tmp_path):
    config.deterministic = True
    jax.devices()  # JAX has started, whichever test comes first
    with pytest.raises(UserError, match=r"config\.deterministic=True comes too late"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_determinism_is_asked_of_the_compiler_before_it_starts():
    code = (
        "import os; from colorjax import parallel; parallel.make_deterministic();"
        "parallel.make_deterministic(); import jax; jax.devices(); print(os.environ['XLA_FLAGS'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split().count(parallel.DETERMINISTIC) == 1


def become_read_only(workdir: Path) -> None:
    for folder in (workdir, workdir / "steps"):
        folder.chmod(0o555)


def wait_for_a_second_signal() -> None:
    """Save nothing more: the step never ends."""
    print("ready", file=sys.stderr, flush=True)
    while True:
        # Python handles signals between calls: a long one could begin just after the first came.
        time.sleep(0.1)


def main(scenario: str, folder: Path) -> None:
    register_small_networks()
    workdir = folder / "run"
    happen = {
        "read-only": functools.partial(become_read_only, workdir),
        "slow": wait_for_a_second_signal,
    }[scenario]
    train(create_config(folder), workdir, 5, happen)


if __name__ == "__main__":
    import logging

    logging.disable()
    with reporting_errors():
        main(sys.argv[1], Path(sys.argv[2]))
