"""Batches of decoded pictures, through Grain: the position in the data is the step."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from colorjax.errors import UserError


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return how many whole batches `count` pictures give; what remains waits an epoch."""
    return count // batch_size


def make_training_batches(
    images: np.ndarray,
    indices: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    labels: np.ndarray | None = None,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
    prefetch: int = 4,
) -> Iterator[Any]:
    """Return an endless iterator over this process's part of the shuffled batches.

    The global batch of step k depends on the seed and k alone, and each process has a contiguous
    block of it, so that a run resumed at any step, on any number of processes, sees what it
    would have seen. Every epoch has its own order; the pictures that don't fill a last batch are
    left out of that epoch.

    Args:
      images: uint8 (N, H, W, 3).
      indices: (M,), the pictures of `images` to train on.
      batch_size: pictures in a global batch.
      seed: of the order.
      labels: int32 (N,), of what the pictures show, to be given with them.
      start_step: the first step to give, counted from 0 over all epochs.
      process_index: which block of each batch to give.
      process_count: how many blocks each batch is divided into.
      threads: that read ahead.
      prefetch: batches to read ahead; 0 reads each when it is asked for.

    Returns:
      An iterator over uint8 (batch_size / process_count, H, W, 3); with labels, over pairs of
      these and int32 (batch_size / process_count,). Its threads end when it is dropped.

    Raises:
      ValueError: if there are fewer pictures than a batch holds.
      UserError: if the processes can't share a batch evenly.
    """
    import grain

    if batch_size > len(indices):
        raise ValueError(f"A batch of {batch_size} is larger than the {len(indices)} pictures.")
    block = _process_block(batch_size, process_index, process_count)
    pixels = np.asarray(images)

    def read(places: np.ndarray) -> Any:
        chosen = indices[places[block]]
        return pixels[chosen] if labels is None else (pixels[chosen], labels[chosen])

    # Places are batched and only then read, so that a batch is one gather from the memory map.
    places = grain.MapDataset.range(len(indices)).shuffle(seed=seed % 2**32)
    batches = places.batch(batch_size, drop_remainder=True).repeat().map(read)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return iter(batches[start_step:].to_iter_dataset(options))


def make_evaluation_batches(
    images: np.ndarray,
    indices: np.ndarray,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return an iterator that gives every picture exactly once, in the order of `indices`.

    Args:
      images: uint8 (N, H, W, 3).
      indices: (M,), the pictures of `images` to evaluate.
      batch_size: pictures in a global batch; the last is padded with black.
      process_index: which block of each batch to give.
      process_count: how many blocks each batch is divided into.

    Returns:
      An iterator over this process's blocks of ceil(M / batch_size) batches: uint8
      (batch_size / process_count, H, W, 3), and bool (batch_size / process_count,) that
      is true for pictures and false for padding.

    Raises:
      UserError: if the processes can't share a batch evenly.
    """
    block = _process_block(batch_size, process_index, process_count)
    return _read_padded(np.asarray(images), np.asarray(indices), batch_size, block)


def _read_padded(
    images: np.ndarray, indices: np.ndarray, batch_size: int, block: slice
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    size = block.stop - block.start
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size][block]
        batch = np.zeros((size, *images.shape[1:]), images.dtype)
        batch[: len(chosen)] = images[chosen]
        yield batch, np.arange(size) < len(chosen)


def _process_block(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size % process_count:
        raise UserError(
            f"A batch of {batch_size} pictures can't be shared evenly by {process_count} "
            "processes: make batch_size a multiple of their number."
        )
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)
