"""What a run tells: its plots, and numbers for TensorBoard."""

import json
import struct
import time
from pathlib import Path

import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from colorjax.training.reporting import TensorBoardLog, draw_plots, telling_of_wait

RECONSTRUCTION = {"train/l1": 0.1, "validation/l1": 0.2, "validation/psnr": 20.0}
GAN = RECONSTRUCTION | {"train/gan_loss": 1.0, "train/critic_loss": 0.5}
ACCURACY = {"train/critic_accuracy": 0.7, "validation/critic_accuracy": 0.6}
CLASSES = {"train/class_loss": 2.0, "train/class_accuracy": 0.5}


@pytest.mark.parametrize(
    ("values", "plots"),
    [
        (RECONSTRUCTION, 2),
        (GAN, 4),
        (GAN | ACCURACY, 5),
        ({"validation/psnr": 20.0}, 1),
        (RECONSTRUCTION | CLASSES, 4),
    ],
)
def test_each_kind_of_figure_that_is_there_has_a_plot(tmp_path, values, plots):
    lines = [{"step": 5 * epoch, "epoch": epoch} | values for epoch in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_plots(tmp_path)
    # 400 by 350 pixels each.
    assert Image.open(tmp_path / "plots/losses.png").size == (400 * plots, 350)


def test_the_reason_of_a_long_wait_is_told_and_no_other(capsys):
    with telling_of_wait("This takes long.", seconds=0.01):
        time.sleep(0.5)
    with telling_of_wait("This doesn't.", seconds=100.0):
        pass
    assert capsys.readouterr().err == "This takes long.\n"


def read_events(path: Path) -> list[Event]:
    """Return a file's records: length, its checksum, event, its checksum."""
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[12 + length + 4 :]
    return events


def test_tensorboard_reads_a_resumed_runs_files_in_order_also_if_the_clock_was_set_back(
    tmp_path, monkeypatch
):
    for now, step in ((2e9, 0), (1e9, 20), (1e9, 30)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        log = TensorBoardLog(tmp_path / "tensorboard", step)
        log.write(step + 10, {"train/l1": 0.5, "validation/psnr": 20.0})
        log.close()
    files = sorted((tmp_path / "tensorboard").iterdir())
    for path, step in zip(files, (0, 20, 30), strict=True):
        version, begun, *numbers = read_events(path)
        assert version.file_version == "brain.Event:2"
        assert begun.session_log.status == begun.session_log.START
        assert begun.step == step + 1  # what other files have from here on is dropped
        values = {event.summary.value[0].tag: event.summary.value[0] for event in numbers}
        assert {event.step for event in numbers} == {step + 10}
        assert values["train/l1"].simple_value == 0.5
        assert values["validation/psnr"].simple_value == 20.0
