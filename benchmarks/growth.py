"""How a training step's time and memory grow with batch, size and width.

    python benchmarks/growth.py --output docs/images

A whole iteration of `configs/wgan.py` (two updates of the generator, one of the critic with its
gradient penalty) on one device, one measure varied at a time. Each case runs in a process of its
own, whose largest resident memory is read off; some 400 MB of it are Python and XLA. Beside the
time stand the operations that XLA counts in the compiled step, and what the processor reached.
Then `colorjax colorize` of one picture, larger and larger, from file to file.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apart import run_apart

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # `configs`, and the files beside this one
BASE = {"batch": 8, "size": 128, "width": 16}
VARIED = {"batch": (2, 4, 8, 16, 32), "size": (128, 192, 256, 384), "width": (8, 16, 32, 64)}
UNITS = {"batch": "pictures", "size": "pixels of a side", "width": "channels"}
SIDES = (500, 1000, 2000, 4000, 8000, 10_000)  # of the pictures that are coloured, in pixels


@dataclass(frozen=True)
class Case:
    """One step, measured.

    Attributes:
      batch: pictures.
      size: their side, in pixels.
      width: channels of the generator's first stage; the critic's is half of it.
      seconds: of a step, the median.
      operations: of a step, as XLA counts them.
      megabytes: the largest resident memory of the process.
    """

    batch: int
    size: int
    width: int
    seconds: float
    operations: float
    megabytes: float


@dataclass(frozen=True)
class Coloured:
    """One picture, coloured by the program.

    Attributes:
      megapixels: of the picture.
      seconds: from the program's start to its end.
      megabytes: the largest resident memory of the process.
    """

    megapixels: float
    seconds: float
    megabytes: float


def main() -> None:
    """Measure every case and write JSON, tables and a plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"), metavar="DIR")
    parser.add_argument("--steps", type=int, default=5, help="timed, after one that is not")
    parser.add_argument("--case", type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(asdict(measure(*arguments.case, arguments.steps))))
        return
    if arguments.prepare:
        prepare(int(arguments.prepare[0]), Path(arguments.prepare[1]))
        return
    cases = {tuple((BASE | {name: value}).values()) for name in VARIED for value in VARIED[name]}
    measured = [_measure_apart(case, arguments.steps) for case in sorted(cases)]
    pictures = [measure_picture(side) for side in SIDES]
    arguments.output.mkdir(parents=True, exist_ok=True)
    figures = {"steps": measured, "pictures": pictures}
    text = json.dumps(figures, default=asdict, indent=1)
    (arguments.output / "growth.json").write_text(text + "\n")
    print(format_table(measured), format_pictures(pictures), sep="\n\n")
    draw(measured, pictures, arguments.output / "growth.png")


def measure(batch: int, size: int, width: int, steps: int) -> Case:
    """Return what a step takes in this process."""
    import numpy as np
    from jax_wgan import Training
    from widths import stage_widths

    from colorjax.memory import keep_freed_memory

    keep_freed_memory(large=False)  # as train.py does
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    critic_widths = stage_widths(width // 2)
    training = Training(images, width, critic_widths, "float32")
    training.iterate()
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        training.iterate()
        seconds.append(time.perf_counter() - began)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return Case(batch, size, width, statistics.median(seconds), training.operations, megabytes)


def _measure_apart(case: tuple[int, ...], steps: int) -> Case:
    """Measure in a process of its own, so that its memory is that of this case alone."""
    [found] = run_apart(__file__, "--steps", steps, "--case", *case)
    result = Case(**found)
    print(result, file=sys.stderr, flush=True)
    return result


def prepare(side: int, folder: Path) -> None:
    """Make a model and a picture."""
    import numpy as np
    from PIL import Image
    from start import save_model

    save_model(folder / "model")
    row = np.linspace(0, 255, side).astype(np.uint8)
    Image.fromarray(np.broadcast_to(row, (side, side))).save(folder / "picture.jpg")


def measure_picture(side: int) -> Coloured:
    """Colour a picture as a user does, twice, and return what the second time took.

    This process is small and stays so: a child's largest memory begins with its parent's.
    """
    with tempfile.TemporaryDirectory() as folder:
        list(run_apart(__file__, "--prepare", side, folder))
        command = [sys.executable, "-m", "colorjax", "colorize", f"{folder}/picture.jpg"]
        command += ["--model", f"{folder}/model", "--output", f"{folder}/coloured", "--overwrite"]
        for _ in range(2):  # the first compiles
            began = time.perf_counter()
            process = subprocess.Popen(  # noqa: S603 (no shell; our own arguments)
                command, stdout=subprocess.DEVNULL, cwd=ROOT
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            if status:
                sys.exit(f"{' '.join(command)} failed")
    result = Coloured(side**2 / 1e6, seconds, usage.ru_maxrss / 1e3)
    print(result, file=sys.stderr, flush=True)
    return result


def select(cases: list[Case], name: str) -> list[Case]:
    """Return the cases that differ from the base in one measure alone, in its order."""
    others = {key: value for key, value in BASE.items() if key != name}
    chosen = [c for c in cases if all(getattr(c, key) == others[key] for key in others)]
    return sorted(chosen, key=lambda case: getattr(case, name))


def format_table(cases: list[Case]) -> str:
    """Return Markdown, a part for each measure."""
    lines = ["| varied | | s a step | GFLOP a step | GFLOP/s | memory (MB) |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    for name in VARIED:
        for case in select(cases, name):
            rate = case.operations / case.seconds / 1e9
            cells = [name, getattr(case, name), f"{case.seconds:.3f}"]
            cells += [f"{case.operations / 1e9:.1f}", f"{rate:.0f}", f"{case.megabytes:,.0f}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def format_pictures(pictures: list[Coloured]) -> str:
    """Return Markdown."""
    lines = ["| megapixels | s | memory (MB) |", "|--:|--:|--:|"]
    for each in pictures:
        lines.append(f"| {each.megapixels:g} | {each.seconds:.1f} | {each.megabytes:,.0f} |")
    return "\n".join(lines)


def draw(cases: list[Case], pictures: list[Coloured], path: Path) -> None:
    """Plot time and memory against each measure, with what growing as the work would be."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(13, 6), layout="constrained")
    for column, name in enumerate(VARIED):
        chosen = select(cases, name)
        _draw_time(axes[0][column], chosen, name)
        _draw_memory(axes[1][column], chosen, name)
    sizes = [each.megapixels for each in pictures]
    for axis, field, unit in zip(axes[:, 3], ("seconds", "megabytes"), ("s", "MB"), strict=True):
        values = [getattr(each, field) for each in pictures]
        axis.plot(sizes, values, "o-", label="colorize, file to file")
        axis.set(xlabel="picture (megapixels)", ylabel=unit, ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)


def _draw_time(axis: Any, cases: list[Case], name: str) -> None:
    from matplotlib.ticker import LogLocator

    values = [getattr(case, name) for case in cases]
    last = cases[-1].seconds / cases[-1].operations
    axis.loglog(values, [case.seconds for case in cases], "o-", label="measured, median")
    axis.loglog(
        values, [case.operations * last for case in cases], "--", color="0.5", label="as the work"
    )
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.tick_params(axis="y", which="minor", labelleft=False)
    _label(axis, values, name, "seconds a step")


def _draw_memory(axis: Any, cases: list[Case], name: str) -> None:
    values = [getattr(case, name) for case in cases]
    axis.semilogx(values, [case.megabytes for case in cases], "o-", label="largest resident")
    axis.set_ylim(0, None)
    _label(axis, values, name, "MB")


def _label(axis: Any, values: list[int], name: str, unit: str) -> None:
    axis.set_xticks(values, [str(value) for value in values])
    axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axis.set(xlabel=f"{name} ({UNITS[name]})", ylabel=unit)
    axis.grid(alpha=0.3)
    axis.legend()


if __name__ == "__main__":
    main()
