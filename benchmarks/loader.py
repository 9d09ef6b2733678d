"""How fast pictures come: decoded once, beside Pillow's own, and from then on batch by batch."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from colorjax import data
from configs import common

BATCH = 64  # pictures
SECONDS = 5.0  # of reading batches


def measure_decoding(photos: Path, size: int, count: int, cache: Path) -> dict[str, float]:
    """Return pictures per second of Pillow's decoding and resizing, and of the first epoch's.

    Args:
      photos: a folder.
      size: of the squares, in pixels.
      count: how many photos Pillow takes; 0 for all.
      cache: where decoded pictures are to be kept; empty.
    """
    paths = sorted(photos.rglob("*.jpg"))[: count or None]
    rates = {}
    for threads in (1, 2):
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda path: _decode(path, size), paths))
        rates[f"Pillow, {threads} thread(s)"] = len(paths) / (time.perf_counter() - began)
    began = time.perf_counter()
    pictures = _load(photos, size, cache)
    rates["colorjax"] = len(pictures.images) / (time.perf_counter() - began)
    return rates


def measure_reading(photos: Path, size: int, count: int, cache: Path) -> float:
    """Return pictures per second of batches, once decoded; arguments as `measure_decoding`."""
    pictures = _load(photos, size, cache)
    indices = np.arange(len(pictures.images))
    batch_size = min(BATCH, len(indices))
    batches = data.make_training_batches(pictures.images, indices, batch_size=batch_size, seed=0)
    next(batches)
    began, read = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        read += sum(len(batch) for batch in islice(batches, 8))
    return read / (time.perf_counter() - began)


def _decode(path: Path, size: int) -> None:
    with Image.open(path) as image:
        image.draft("RGB", (size, size))
        image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)


def _load(photos: Path, size: int, cache: Path) -> data.Pictures:
    fields = common.data()
    fields.source, fields.cache_dir = f"folder:{photos}", str(cache)
    return data.load_pictures(fields, size, "--photos")
