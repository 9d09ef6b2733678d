"""Batches depend on seed and step alone, on any number of processes."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest

from colorjax.data.pipeline import (
    make_evaluation_batches,
    make_training_batches,
    steps_per_epoch,
)
from colorjax.errors import UserError

# Picture k is filled with k, so that a batch tells which pictures it holds.
IMAGES = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 2, 2, 3)).copy()
INDICES = np.arange(3, 50, 2)  # 24 pictures, none of which is its own place


def _take(count, batch_size=4, indices=INDICES, **options):
    batches = make_training_batches(
        IMAGES, indices, batch_size=batch_size, **{"seed": 0, "threads": 2, **options}
    )
    return np.stack([batch[:, 0, 0, 0] for batch in itertools.islice(batches, count)])


def test_each_epoch_is_another_permutation():
    epochs = _take(18).reshape(3, 24)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), INDICES)
    assert len(np.unique(epochs, axis=0)) == 3


def test_labels_come_with_their_pictures():
    options = {"batch_size": 4, "process_index": 1, "process_count": 2, "start_step": 3}
    labels = np.arange(50, dtype=np.int32) * 7
    batches = make_training_batches(IMAGES, INDICES, seed=0, labels=labels, **options)
    alone = _take(7, **options)
    for (images, chosen), expected in zip(itertools.islice(batches, 7), alone, strict=True):
        np.testing.assert_array_equal(images[:, 0, 0, 0], expected)
        np.testing.assert_array_equal(chosen, 7 * expected.astype(int))


def test_what_does_not_fill_a_batch_waits_an_epoch():
    assert steps_per_epoch(24, 5) == 4
    epochs = _take(4 * 30, batch_size=5).reshape(30, 20)
    assert all(len(np.unique(epoch)) == 20 for epoch in epochs)
    assert len(np.unique(epochs)) == 24


def test_every_picture_comes_first_about_equally_often():
    first = _take(120, batch_size=8, indices=INDICES[:8])[:, 0]
    counts = np.array([(first == picture).sum() for picture in INDICES[:8]])
    # Chi-squared with 7 degrees of freedom is above 35 once in 90,000 times.
    assert ((counts - 15) ** 2 / 15).sum() < 35


def test_the_seed_decides():
    np.testing.assert_array_equal(_take(6, seed=7), _take(6, seed=7))
    assert (_take(6, seed=7) != _take(6, seed=8)).any()


@pytest.mark.parametrize("start_step", [1, 6, 15])
def test_starting_late_continues_the_same_run(start_step):
    np.testing.assert_array_equal(_take(5, start_step=start_step), _take(20)[start_step:][:5])


@pytest.mark.parametrize("process_count", [2, 4])
def test_blocks_of_the_processes_make_up_the_batch(process_count):
    blocks = [
        _take(8, process_index=index, process_count=process_count) for index in range(process_count)
    ]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), _take(8))


def test_reading_ahead_changes_nothing():
    np.testing.assert_array_equal(_take(8, prefetch=0), _take(8, prefetch=4, threads=3))


def test_a_batch_larger_than_the_set_is_refused():
    with pytest.raises(ValueError, match="larger"):
        make_training_batches(IMAGES, INDICES, batch_size=25, seed=0)


@pytest.mark.parametrize("make", [make_training_batches, make_evaluation_batches])
def test_uneven_blocks_are_refused(make):
    options = {"seed": 0} if make is make_training_batches else {}
    with pytest.raises(UserError, match="multiple"):
        make(IMAGES, INDICES, batch_size=10, process_count=4, **options)


def test_dropped_iterators_leave_no_threads():
    before = threading.active_count()
    for _ in range(3):
        _take(2)
    gc.collect()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 8, 21, 24])
def test_evaluation_gives_each_picture_once(count, process_count):
    iterators = [
        make_evaluation_batches(
            IMAGES, INDICES[:count], batch_size=8, process_index=index, process_count=process_count
        )
        for index in range(process_count)
    ]
    seen = []
    for parts in zip(*iterators, strict=True):
        images = np.concatenate([images for images, _ in parts])
        mask = np.concatenate([mask for _, mask in parts])
        assert images.shape == (8, 2, 2, 3)
        assert not images[~mask].any()
        seen.extend(images[mask][:, 0, 0, 0])
    np.testing.assert_array_equal(seen, INDICES[:count])
