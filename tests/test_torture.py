"""tools/torture.py: it kills a real run, and tells a run that ended otherwise."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from tools import torture


@pytest.fixture
def twins(model_folder, tmp_path) -> tuple[Path, Path]:
    """Two copies of a run."""
    first, second = (Path(shutil.copytree(model_folder, tmp_path / name)) for name in "ab")
    for folder in (first, second):
        (folder / "metrics.jsonl").write_text('{"step": 1, "train/l1": 0.5}\n')
        (folder / "samples").mkdir()
        (folder / "samples/epoch_0001.png").write_bytes(b"picture")
    return first, second


def test_times_alone_make_no_difference(twins):
    line = {"step": 1, "train/l1": 0.5, "pictures_per_second": 3.0}
    (twins[1] / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert torture.find_differences(*twins) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: (run / "metrics.jsonl").write_text('{"step": 1, "train/l1": 0.25}\n'),
            "metrics.jsonl: line 1: train/l1 is 0.5 and 0.25",
        ),
        (lambda run: (run / "samples/epoch_0001.png").unlink(), "samples/epoch_0001.png"),
        (lambda run: shutil.rmtree(run / "steps/2"), "steps: the last is 2 in one run, 1"),
        (
            # Step 1 has other weights, in its item `generator` alone.
            lambda run: (
                shutil.rmtree(run / "best/2"),
                shutil.copytree(run / "steps/1", run / "best/2"),
            ),
            "best/2: ['generator']['params']['Conv_0']['bias']",
        ),
    ],
)
def test_a_difference_is_named(twins, change, message):
    change(twins[1])
    differences = torture.find_differences(*twins)
    assert any(difference.startswith(message) for difference in differences), differences


def test_a_run_bears_being_killed(tmp_path):
    arguments = {
        "config.image_size": 16,
        "config.batch_size": 4,
        "config.generator.widths": "(4, 8)",
        "config.critic.widths": "(4, 8)",
        "config.data.garden_images": 24,
        "config.data.cache_dir": tmp_path / "cache",
        "config.phases.pretraining.epochs": 4,
        "config.phases.adversarial.epochs": 0,
    }
    command = [sys.executable, "tools/torture.py", "--config=configs/wgan.py:tiny"]
    command += [f"--workdir={tmp_path / 'runs'}", "--restarts=2", "--save-every=2"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "bit for bit" in run.stdout
    rows = [line for line in run.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 4  # the header, two killed lives and the last one
