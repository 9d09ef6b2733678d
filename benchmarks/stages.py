"""How long each stage of colouring a picture takes on one core.

    python benchmarks/stages.py ../shared/data/flowers --json stages.json

Photos of a folder, as they are and enlarged, go through what `colorjax colorize` does with a
picture, one stage at a time: read, squash, the network, enlarging the colour along edges, joining
it with the lightness, writing as JPEG and as PNG. The process keeps to one core; the network sees
batches of 8, as it does there. Its weights are 0, which takes the time that any weights take.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BATCH = 8
RECIPES = ("configs/wgan.py:small", "configs/wgan.py")
SCALES = (1, 6)  # by how much the photos' sides are enlarged


def main() -> None:
    """Print a line for each stage: pictures a second on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=24, help="of photos, evenly chosen")
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    keep_to_one_core()
    paths = sorted(arguments.photos.rglob("*.jpg"))
    paths = paths[:: max(1, len(paths) // arguments.count)][: arguments.count]
    results: dict[str, dict[str, float]] = {}
    for recipe in arguments.recipes:
        results[recipe] = _tell(recipe, {"network": measure_network(recipe)})
    with tempfile.TemporaryDirectory() as folder:
        for scale in SCALES:
            # A few large ones are enough.
            chosen = _enlarge(paths[: max(4, len(paths) // scale**2)], scale, Path(folder))
            name = f"photos of {_megapixels(chosen):.2g} megapixels"
            results[name] = _tell(name, measure_pictures(chosen, Path(folder)))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def keep_to_one_core() -> None:
    """Let this process, and the threads that libraries start in it, run on one core alone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    else:
        print("This system can't keep a process to one core.", file=sys.stderr)


def measure_network(recipe: str) -> float:
    """Return the milliseconds that a network takes for a picture in a batch."""
    import jax
    import numpy as np

    from colorjax import color, configuration
    from colorjax.models import create_networks, generator_shapes, predict

    networks = create_networks(configuration.load_recipe(str(ROOT / recipe)))
    shapes = generator_shapes(networks)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)

    @jax.jit
    def predict_ab(images: jax.Array) -> jax.Array:
        network_input, _ = networks.codec.encode(color.to_rgb(images))
        prediction = predict(networks.generator, variables, network_input)
        return networks.codec.predicted_ab(network_input, prediction)

    images = np.zeros((BATCH, networks.image_size, networks.image_size, 3), np.uint8)
    return _median([lambda: jax.block_until_ready(predict_ab(images))] * 5) / BATCH


def measure_pictures(paths: list[Path], folder: Path) -> dict[str, float]:
    """Return the median milliseconds that each stage takes for a picture, but for the network."""
    import numpy as np

    from colorjax.colorize.join import join_lightness
    from colorjax.colorize.painting import Look, create_field, squash
    from colorjax.colorize.pictures import read_photo, save_picture

    photos = [read_photo(path) for path in paths]
    ab = np.zeros((64, 64, 2), np.float32)
    guided = [create_field(photo, ab, Look()) for photo in photos]

    def each(function: Callable[..., Any], *lists: Any) -> float:
        return _median([partial(function, *items) for items in zip(*lists, strict=True)])

    def save(photo: Any, name: str) -> None:
        save_picture(photo.pixels, folder / name)

    return {
        "read": each(read_photo, paths),
        "squash": each(lambda photo: squash(photo, 128), photos),
        "enlarge (guided)": each(lambda photo: create_field(photo, ab, Look()), photos),
        "join": each(lambda photo, field: join_lightness(photo.pixels, field), photos, guided),
        "write JPEG": each(lambda photo: save(photo, "result.jpg"), photos),
        "write PNG": each(lambda photo: save(photo, "result.png"), photos),
    }


def _enlarge(paths: list[Path], scale: int, folder: Path) -> list[Path]:
    """Return photos as they are, or copies whose sides are enlarged."""
    from PIL import Image

    if scale == 1:
        return paths
    results = []
    for number, path in enumerate(paths):
        image = Image.open(path).convert("RGB")
        size = image.width * scale, image.height * scale
        results.append(folder / f"{number}.jpg")
        image.resize(size, Image.Resampling.BICUBIC).save(results[-1], quality=90)
    return results


def _megapixels(paths: list[Path]) -> float:
    from colorjax.colorize.pictures import count_pixels

    return statistics.median(count_pixels(path) for path in paths) / 1e6


def _median(calls: list[Callable[[], Any]]) -> float:
    """Return the median milliseconds of the calls, after one that is not counted."""
    calls[0]()
    milliseconds = []
    for call in calls:
        # Of this process's own work, so that others on the machine don't count.
        start = time.process_time()
        call()
        milliseconds.append(1000.0 * (time.process_time() - start))
    return statistics.median(milliseconds)


def _tell(name: str, milliseconds: dict[str, float]) -> dict[str, float]:
    for stage, each in milliseconds.items():
        print(f"{name}: {stage}: {each:.1f} ms, {1000.0 / each:.1f} pictures/s/core", flush=True)
    return milliseconds


if __name__ == "__main__":
    main()
