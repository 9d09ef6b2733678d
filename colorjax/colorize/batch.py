"""Many files coloured in one go: what can be done is done, what can't is named."""

import contextlib
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from colorjax.colorize.colorizer import Colorizer
from colorjax.colorize.inputs import find_inputs, plan_outputs
from colorjax.colorize.model import find_model
from colorjax.colorize.pictures import read_picture, save_picture
from colorjax.console import notice
from colorjax.data.decode import explain
from colorjax.errors import UserError
from colorjax.files import check_folder, create_folder


@dataclass(frozen=True)
class Job:
    """A file and where its picture in colour goes."""

    source: Path
    target: Path


@dataclass
class Report:
    """Tells what becomes of each file: a bar on a terminal, a line for each when piped."""

    total: int
    failures: int = 0
    bar: tqdm = field(init=False)

    def __post_init__(self) -> None:
        self.bar = tqdm(total=self.total, unit="picture", disable=not sys.stderr.isatty())

    def done(self, job: Job) -> None:
        """Tell of a picture that was written."""
        self.bar.update()
        if self.bar.disable:
            print(f"{job.source} -> {job.target}", flush=True)

    def skipped(self, job: Job) -> None:
        """Tell of a result that was there before."""
        self.bar.update()
        notice(f"{job.source}: skipped, as {job.target} exists (--overwrite writes it anew)")

    def failed(self, name: str | Path, reason: str) -> None:
        """Tell of an input that could not be coloured."""
        self.bar.update()
        self.failures += 1
        notice(f"{name}: failed, {reason}")


def colorize_files(
    names: Sequence[str],
    model: str | None,
    output: Path,
    *,
    size: int | None = None,
    saturation: float = 1.0,
    overwrite: bool = False,
    extension: str = ".png",
) -> int:
    """Colour files into a folder; each result appears whole or not at all.

    Args:
      names: files, folders and patterns; a folder's tree is kept under `output`.
      model: see `Colorizer.load`.
      output: the folder of the results; created.
      size: see `Colorizer.colorize`.
      saturation: likewise.
      overwrite: whether existing files are written anew, instead of left as they are.
      extension: of the results, `.png` or `.jpg`.

    Returns:
      0 if every picture is there, 1 if some failed; these are named on stderr.

    Raises:
      UserError: if the call is wrong; nothing is written then.
    """
    find_model(model)
    inputs, problems = find_inputs(names, output)
    targets = plan_outputs(inputs, output, extension)
    jobs = [Job(item.path, target) for item, target in zip(inputs, targets, strict=True)]
    check_folder(output, "--output")
    report = Report(len(jobs) + len(problems))
    for problem in problems:
        report.failed(problem.name, problem.reason)
    todo = list(_choose(jobs, overwrite, report))
    if todo:
        _colorize_jobs(todo, Colorizer.load(model), output, report, size, saturation)
    report.bar.close()
    return 1 if report.failures else 0


def _choose(jobs: Sequence[Job], overwrite: bool, report: Report) -> Iterator[Job]:
    """Yield what is to be done: not over existing files, and never over an input."""
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if overwrite and job.target.resolve() in sources:
            report.failed(job.source, f"{job.target} is itself an input: name another --output")
        elif job.target.exists() and not overwrite:
            report.skipped(job)
        else:
            yield job


def _colorize_jobs(
    jobs: Sequence[Job],
    colorizer: Colorizer,
    output: Path,
    report: Report,
    size: int | None,
    saturation: float,
) -> None:
    waiting: deque[Job] = deque()

    def read_each() -> Iterator[np.ndarray]:
        for job in jobs:
            try:
                image = read_picture(job.source)
            except UserError as error:
                report.failed(job.source, explain(error))
                continue
            waiting.append(job)
            yield image

    results = colorizer.colorize_many(read_each(), size=size, saturation=saturation)
    with _created(output):
        for image in results:
            job = waiting.popleft()
            try:
                save_picture(image, job.target)
            except (OSError, ValueError) as error:
                report.failed(job.source, f"{job.target} can't be written: {explain(error)}")
            else:
                report.done(job)


@contextlib.contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create a folder, and take it away again if nothing came into it."""
    existed = folder.exists()
    create_folder(folder, "--output")
    try:
        yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                folder.rmdir()
