"""How much faster many photos are coloured together than one by one.

    python benchmarks/throughput.py ../shared/data/flowers --model checkpoints/wgan-tiny

Photos are scaled and cut to 500x375 and kept as JPEG in a temporary folder. Together: what
`colorjax colorize FOLDER` does after the program has started, the loading of the model included.
One by one: a loop in one process over `Colorizer.colorize(path)` and the writing of the same PNG,
with the model loaded and compiled before. Both ways are warmed up and take turns; the figure is the
ratio of the medians. The machine should have nothing else to do: its load is printed.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from colorjax import Colorizer
from colorjax.colorize.batch import Options, colorize_files
from colorjax.colorize.pictures import save_picture

SIZE = (500, 375)  # width and height
WARM_UP = 10  # photos


def main() -> None:
    """Print the seconds of each round, and the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, default=500, help="photos; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="of both ways; default: %(default)s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="colorjax-throughput-") as name:
        folder = Path(name)
        _make_photos(arguments.photos, folder / "photos", arguments.count)
        _make_photos(arguments.photos, folder / "few", WARM_UP)
        ways = {
            "one by one": _make_one_by_one(arguments.model),
            "together": lambda source, target: _colorize_together(arguments.model, source, target),
        }
        for way in ways.values():
            way(folder / "few", folder / "warm-up")
        seconds = _measure(ways, folder, arguments.rounds)
    one, together = (statistics.median(seconds[way]) for way in ways)
    print(
        f"{arguments.count} photos of {SIZE[0]}x{SIZE[1]}: one by one {one:.1f} s, together "
        f"{together:.1f} s ({arguments.count / together:.1f} a second): {one / together:.2f} "
        "times as fast"
    )


def _make_photos(source: Path, target: Path, count: int) -> None:
    """Write photos, evenly chosen, at one size."""
    target.mkdir()
    paths = sorted(source.rglob("*.jpg"))
    for number, path in enumerate(paths[:: max(1, len(paths) // count)][:count]):
        with Image.open(path) as image:
            photo = ImageOps.fit(image.convert("RGB"), SIZE, Image.Resampling.BICUBIC)
        photo.save(target / f"{number:04d}.jpg", quality=90)


def _make_one_by_one(model: str) -> Callable[[Path, Path], None]:
    colorizer = Colorizer.load(model)

    def colorize(source: Path, target: Path) -> None:
        for path in sorted(source.iterdir()):
            save_picture(colorizer.colorize(path), target / f"{path.stem}.png")

    return colorize


def _colorize_together(model: str, source: Path, target: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        if colorize_files([str(source)], model, target, Options(overwrite=True)):
            raise RuntimeError("some photos failed")


def _measure(
    ways: dict[str, Callable[[Path, Path], None]], folder: Path, rounds: int
) -> dict[str, Sequence[float]]:
    """Return the seconds of each round, by way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way(folder / "photos", folder / f"{name}-{number}")
            seconds[name].append(time.perf_counter() - began)
            load = os.getloadavg()[0]
            print(f"{name}: {seconds[name][-1]:.1f} s (load {load:.1f})", flush=True)
    return dict(seconds)


if __name__ == "__main__":
    main()
