"""What a run tells: lines, a progress bar, metrics.jsonl, TensorBoard and plots."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar
from tqdm import tqdm

from colorjax.console import notice, say
from colorjax.files import write_whole

PLAIN_LINE_EVERY_SECONDS = 30.0
_PLOTS = {
    "L1": ("train/l1", "validation/l1"),
    "generator's adversarial loss": ("train/gan_loss", "validation/gan_loss"),
    "critic": (
        "train/critic_loss",
        "train/wasserstein",
        "validation/critic_loss",
        "validation/wasserstein",
        "train/gradient_penalty",
    ),
    "critic's accuracy": ("train/critic_accuracy", "validation/critic_accuracy"),
    "loss of what pictures show": ("train/class_loss",),
    "accuracy of what pictures show": ("train/class_accuracy",),
    "PSNR (dB)": ("validation/psnr",),
}


class MetricsLog:
    """Appends to `metrics.jsonl` and to TensorBoard's files.

    Args:
      workdir: the run's folder.
      step: what is after this step is cut off: a resumed run writes it again.
    """

    def __init__(self, workdir: Path, step: int) -> None:
        self._path = workdir / "metrics.jsonl"
        _cut_back(self._path, step)
        self._tensorboard = TensorBoardLog(workdir / "tensorboard", step)

    def write(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Write one line; the values are finite."""
        line = json.dumps({"step": step, "epoch": epoch} | values)
        with self._path.open("a") as file:
            file.write(line + "\n")
        self._tensorboard.write(step, values)

    def close(self) -> None:
        """Flush TensorBoard's files."""
        self._tensorboard.close()


class TensorBoardLog:
    """Writes a file of numbers for TensorBoard.

    tensorboardX's own writer works in a thread, which a full disk ends without a word, and then
    keeps the caller waiting for ever.

    Args:
      folder: created if need be.
      step: TensorBoard drops what other files of the folder have after it.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names: a clock that was set back must not
        # put this one before those of the earlier starts.
        taken = [int(path.suffix[1:]) for path in folder.iterdir() if path.suffix[1:].isdecimal()]
        number = max([int(time.time()), *(each + 1 for each in taken)])
        self._records = RecordWriter(str(folder / f"events.out.tfevents.{number}"))
        begun = SessionLog(status=SessionLog.START)
        self._write(Event(step=step + 1, file_version="brain.Event:2"))
        self._write(Event(step=step + 1, session_log=begun))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write the numbers of a step."""
        for name, value in values.items():
            self._write(Event(step=step, summary=scalar(name, value)))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl`, up to one that a kill cut short or that is damaged."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text().splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict) or "step" not in line:
            break
        lines.append(line)
    return lines


class Progress:
    """A progress bar with rate and time left on a terminal, plain lines when piped.

    Args:
      total: pictures that the whole run trains on.
      done: of these, before this start.
      active: whether this process is the one that shows anything.
    """

    def __init__(self, total: int, done: int, active: bool) -> None:
        self._plain = active and not sys.stderr.isatty()
        self._bar = tqdm(
            total=total, initial=done, unit="picture", disable=self._plain or not active
        )
        self._total, self._done, self._first = total, done, done
        self._started = self._last_line = time.monotonic()
        self._paused = 0.0

    def advance(self, pictures: int, description: str) -> None:
        """Count pictures that were trained on."""
        self._done += pictures
        self._bar.set_description(description, refresh=False)
        self._bar.update(pictures)
        if self._plain and time.monotonic() - self._last_line > PLAIN_LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            say(f"{description}: {self.describe()}")

    def pause(self, seconds: float) -> None:
        """Leave time spent on evaluation and saving out of the training rate."""
        self._paused += seconds

    @property
    def rate(self) -> float:
        """Pictures trained on per second since this start."""
        elapsed = time.monotonic() - self._started - self._paused
        return (self._done - self._first) / max(elapsed, 1e-9)

    def describe(self) -> str:
        """Return how far the run is, its rate and the time left."""
        elapsed = time.monotonic() - self._started
        left = elapsed * (self._total - self._done) / max(self._done - self._first, 1)
        share = 100 * self._done / self._total
        return f"{share:.0f} %, {self.rate:.1f} pictures/s, {format_time(left)} left"

    def close(self) -> None:
        """Leave the terminal as it should be."""
        self._bar.close()


@contextlib.contextmanager
def telling_of_wait(reason: str, seconds: float = 10.0) -> Iterator[None]:
    """Say why there is nothing to be seen, if what is done within takes longer than `seconds`."""
    timer = threading.Timer(seconds, notice, [reason])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def format_time(seconds: float) -> str:
    """Return for instance `2 h 05 min`, `12 min` or `40 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def draw_plots(workdir: Path) -> None:
    """Draw losses and PSNR by epoch, from `metrics.jsonl` into `plots/losses.png`.

    What the run has no figures of is left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    lines = [line for line in read_metrics(workdir / "metrics.jsonl") if "validation/psnr" in line]
    reported = {name for line in lines for name in line}
    plots = {title: names for title, names in _PLOTS.items() if reported.intersection(names)}
    width = 4 * len(plots)  # inches
    figure = Figure(figsize=(width, 3.5))
    FigureCanvasAgg(figure)
    for place, (title, names) in enumerate(plots.items()):
        # A layout that Matplotlib finds by itself takes as long as the drawing, in every epoch.
        axes = figure.add_axes(((4 * place + 0.85) / width, 0.15, 3.05 / width, 0.75))
        for name in names:
            points = [(line["epoch"], line[name]) for line in lines if name in line]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.5, lines[-1]["epoch"] + 0.5)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    write_whole(workdir / "plots" / "losses.png", figure.savefig)


def _cut_back(path: Path, step: int) -> None:
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    write_whole(path, lambda draft: draft.write_text(text))
