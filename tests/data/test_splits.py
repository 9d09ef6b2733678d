"""Splits are disjoint, complete, repeatable, and as large as asked."""

import numpy as np
import pytest

from colorjax.data.sources import Item
from colorjax.data.splits import split_items
from colorjax.errors import UserError

FRACTIONS = (0.7, 0.15, 0.15)


def _items(names):
    return [Item(name, "1") for name in names]


def _named(items, splits):
    return {split: {items[index].name for index in rows} for split, rows in splits.items()}


def _counts(splits):
    return [len(splits[split]) for split in ("train", "validation", "test")]


@pytest.mark.parametrize("split_by", ["hash", "permutation", "ordered"])
@pytest.mark.parametrize("count", [3, 4, 10, 1000])
def test_every_picture_is_in_one_split_and_each_split_has_one(split_by, count):
    items = _items(f"{number}.jpg" for number in range(count))
    for seed in range(20):
        splits = split_items(items, split_by, FRACTIONS, seed)
        together = np.concatenate(list(splits.values()))
        np.testing.assert_array_equal(np.sort(together), np.arange(count))
        assert min(_counts(splits)) >= 1


@pytest.mark.parametrize("split_by", ["hash", "permutation"])
def test_the_seed_decides(split_by):
    items = _items(f"{number}.jpg" for number in range(100))
    first, again = (split_items(items, split_by, FRACTIONS, 42) for _ in range(2))
    other = split_items(items, split_by, FRACTIONS, 43)
    assert _named(items, first) == _named(items, again)
    assert _named(items, first) != _named(items, other)


def test_permutation_counts_of_flowers_are_exact():
    items = _items(str(number) for number in range(8189))
    counts = np.array(_counts(split_items(items, "permutation", FRACTIONS, 42)))
    assert np.abs(counts - np.array(FRACTIONS) * 8189).max() < 1
    assert _counts(split_items(items[:1000], "permutation", FRACTIONS, 42)) == [700, 150, 150]


def test_hash_counts_are_near_the_fractions():
    counts = _counts(split_items(_items(map(str, range(10000))), "hash", FRACTIONS, 42))
    # Five standard deviations of a binomial count.
    deviation = 5 * np.sqrt(10000 * np.array(FRACTIONS) * (1 - np.array(FRACTIONS)))
    assert (np.abs(counts - np.array(FRACTIONS) * 10000) < deviation).all()


def test_hash_keeps_pictures_in_place_when_others_are_added():
    old = _items(f"rose/{number}.jpg" for number in range(200))
    new = _items(f"lily/{number}.jpg" for number in range(100))
    before = _named(old, split_items(old, "hash", FRACTIONS, 42))
    after = _named(new + old, split_items(new + old, "hash", FRACTIONS, 42))
    assert all(before[split] <= after[split] for split in before)


def test_a_fraction_of_zero_stays_empty():
    items = _items(map(str, range(50)))
    for split_by in ("hash", "permutation", "ordered"):
        assert _counts(split_items(items, split_by, (1.0, 0.0, 0.0), 42)) == [50, 0, 0]
        assert _counts(split_items(items, split_by, (0.5, 0.5, 0.0), 42))[2] == 0


def test_given_splits_are_kept():
    given = {"train/1": "train", "val/2": "validation", "test/3": "test", "readme/4": None}
    items = [Item(name, "1", split) for name, split in given.items()]
    splits = _named(items, split_items(items, "hash", FRACTIONS, 42))
    assert splits == {"train": {"train/1"}, "validation": {"val/2"}, "test": {"test/3"}}


def test_missing_validation_is_cut_from_train_and_missing_test_is_empty():
    train = [Item(f"train/{number}", "1", "train") for number in range(1000)]
    assert _counts(split_items(train, "hash", FRACTIONS, 42))[2] == 0
    test = [Item(f"test/{number}", "1", "test") for number in range(10)]
    splits = split_items(train + test, "hash", FRACTIONS, 42)
    np.testing.assert_array_equal(splits["test"], np.arange(1000, 1010))
    share = len(splits["validation"]) / 1000
    assert abs(share - 0.15 / 0.85) < 0.06


@pytest.mark.parametrize("count", [1000, 162_770])
def test_ordered_gives_test_the_first_and_validation_the_next(count):
    # The CelebA recipe: the first 10 % test, the next 15 % validation, the rest training.
    items = _items(map(str, range(count)))
    splits = split_items(items, "hash", (0.75, 0.15, 0.10), 42, "ordered")
    first, second = len(splits["test"]), len(splits["test"]) + len(splits["validation"])
    np.testing.assert_array_equal(splits["test"], np.arange(first))
    np.testing.assert_array_equal(splits["validation"], np.arange(first, second))
    np.testing.assert_array_equal(splits["train"], np.arange(second, count))
    assert abs(first - 0.10 * count) < 1
    assert abs(second - 0.25 * count) < 1


def test_a_rule_asked_for_divides_pictures_that_carry_a_split():
    items = [Item(f"train/{number}", "1", "train") for number in range(20)]
    for rule in ("hash", "permutation", "ordered"):
        plain = [Item(item.name, "1") for item in items]
        expected = split_items(plain, rule, FRACTIONS, 42)
        splits = split_items(items, "hash", FRACTIONS, 42, rule)
        assert _named(items, splits) == _named(plain, expected)


def test_an_unknown_rule_names_those_there_are():
    with pytest.raises(UserError, match=r"'random'.*hash, permutation, ordered"):
        split_items(_items("abc"), "hash", FRACTIONS, 42, "random")


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_must_be_shares_of_one(fractions):
    with pytest.raises(UserError, match="split_fractions"):
        split_items(_items("abc"), "hash", fractions, 42)
