"""From a config's data fields to divided pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorjax.data import (
    load_pictures,
    load_validation_pictures,
    number_labels,
    split_indices,
)
from colorjax.errors import UserError
from configs import common

FLOWERS = Path(__file__).parents[2].parent / "shared/data/flowers"


@pytest.fixture
def data(tmp_path):
    fields = common.data()
    fields.cache_dir = str(tmp_path / "cache")
    return fields


def _save_photos(folder, count):
    for number in range(count):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (5, 5), (number, 0, 0)).save(folder / f"{number:03d}.png")


def test_ten_photos_have_all_three_splits(data, tmp_path):
    _save_photos(tmp_path / "photos", 10)
    (tmp_path / "photos/zzz.png").write_text("broken")
    data.source = f"folder:{tmp_path / 'photos'}"
    pictures = load_pictures(data, 4)
    assert pictures.names == tuple(f"{number:03d}.png" for number in range(10))
    np.testing.assert_array_equal(pictures.images[:, 0, 0, 0], np.arange(10))
    parts = [split_indices(pictures, split) for split in ("train", "validation", "test")]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), split_indices(pictures, "all"))
    assert min(len(part) for part in parts) >= 1
    assert [skipped.name for skipped in pictures.skipped] == ["zzz.png"]


@pytest.fixture
def sorted_photos(data, tmp_path):
    """Four pictures in three folders, and one that lies beside these."""
    _save_photos(tmp_path / "photos", 1)
    for folder, count in (("tulip", 2), ("aster", 1), ("rose", 1)):
        _save_photos(tmp_path / "photos" / folder, count)
    data.source = f"folder:{tmp_path / 'photos'}"
    return load_pictures(data, 4)


def test_labels_are_numbered_in_the_order_of_their_names(sorted_photos):
    assert sorted_photos.labels == (None, "aster", "rose", "tulip", "tulip")
    numbers = number_labels(sorted_photos, np.array([1, 2, 3, 4]), 3)
    np.testing.assert_array_equal(numbers, [-1, 0, 1, 2, 2])
    # What is in no folder, or is not asked for, changes nothing.
    numbers = number_labels(sorted_photos, np.array([2, 4]), 3)
    np.testing.assert_array_equal(numbers, [-1, -1, 0, -1, 1])


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1, 2], r"000\.png has no label, .*: take folder:PATH"),
        ([3, 4], "All pictures lie in the folder tulip"),
        ([1, 2, 3], "3 kinds of things: set config.generator.classes, which is 2, to 3"),
    ],
)
def test_labels_that_cannot_be_learnt_are_named(sorted_photos, indices, message):
    with pytest.raises(UserError, match=message):
        number_labels(sorted_photos, np.array(indices), 2)


def test_the_field_with_a_misspelt_source_is_named(data):
    data.source, data.validation_source = "gardn", "foldr:photos"
    with pytest.raises(UserError, match=r"config\.data\.source is 'gardn'"):
        load_pictures(data, 8)
    with pytest.raises(UserError, match=r"config\.data\.validation_source is 'foldr:photos'"):
        load_validation_pictures(data, 8)


def test_garden_is_divided_exactly(data):
    data.garden_images = 20
    splits = load_pictures(data, 8).splits
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 14,
        "validation": 3,
        "test": 3,
    }


def test_pictures_are_loaded_at_the_size_asked_for(data, tmp_path):
    _save_photos(tmp_path / "photos", 3)
    data.source, data.load_size = f"folder:{tmp_path / 'photos'}", (6, 4)
    assert load_pictures(data, 8).images.shape == (3, 6, 4, 3)
    for wrong in [(6,), (6, 0), (1, 2, 3)]:
        data.load_size = wrong
        with pytest.raises(UserError, match=r"data\.load_size is .*height, width"):
            load_pictures(data, 8)


def test_the_split_rule_of_the_config_is_followed(data):
    data.garden_images, data.split_rule = 10, "ordered"
    data.split_fractions = (0.5, 0.3, 0.2)
    splits = load_pictures(data, 8).splits
    assert {split: rows.tolist() for split, rows in splits.items()} == {
        "test": [0, 1],
        "validation": [2, 3, 4],
        "train": [5, 6, 7, 8, 9],
    }


def test_unknown_and_empty_splits_are_named(data, tmp_path):
    _save_photos(tmp_path / "photos", 4)
    data.source = f"folder:{tmp_path / 'photos'}"
    data.split_fractions = (0.5, 0.5, 0.0)
    pictures = load_pictures(data, 4)
    with pytest.raises(UserError, match="train, validation, test or all"):
        split_indices(pictures, "training")
    with pytest.raises(UserError, match="test split of these 4 pictures is empty"):
        split_indices(pictures, "test")


@pytest.mark.photos
@pytest.mark.skipif(not FLOWERS.is_dir(), reason="needs the photos in ../shared/data/flowers")
def test_real_photos_equal_plain_pillow(data):
    data.source = f"folder:{FLOWERS / '001'}"
    pictures = load_pictures(data, 64)
    assert not pictures.skipped
    for name, image in list(zip(pictures.names, pictures.images, strict=True))[:5]:
        with Image.open(FLOWERS / "001" / name) as photo:
            plain = photo.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(image, np.asarray(plain))
