"""A run's pictures: which ones it validates on, and how long its epochs are."""

import itertools
import json

import numpy as np
import pytest
from PIL import Image
from skimage import transform

from colorjax import Colorizer, parallel
from colorjax.errors import UserError
from colorjax.training import loop
from colorjax.training.batches import RunPictures


@pytest.fixture
def two_sources(tiny_config, photo_folder):
    """A config that trains on 17 of 24 drawn pictures and validates on 12 photos."""
    tiny_config.data.validation_source = f"folder:{photo_folder}"
    return tiny_config


def _photos(folder, shape):
    paths = sorted(folder.glob("photo_*.png"))
    return np.stack([np.asarray(Image.open(path).resize(shape[::-1], 3)) for path in paths])


def test_validation_is_on_all_of_the_other_source(two_sources, photo_folder):
    (photo_folder / "broken.png").write_text("no picture")
    pictures = RunPictures(two_sources, parallel.create_mesh())
    blocks, masks = zip(*pictures.validation_batches(), strict=True)
    validated = np.concatenate(blocks)[np.concatenate(masks)]
    np.testing.assert_array_equal(validated, _photos(photo_folder, (16, 16)))
    assert pictures.skipped == 1
    line = pictures.describe()
    assert "17 train" in line
    assert f"validation on all 12 of folder:{photo_folder}; 1 skipped" in line


def test_the_other_source_changes_nothing_about_training(two_sources):
    alone = two_sources.copy_and_resolve_references()
    alone.data.validation_source = ""
    ours, theirs = (RunPictures(each, parallel.create_mesh()) for each in (two_sources, alone))
    assert ours.training_set == theirs.training_set
    pairs = zip(ours.training_batches(0), theirs.training_batches(0), strict=True)
    for batch, expected in itertools.islice(pairs, 6):
        np.testing.assert_array_equal(batch, expected)


def test_samples_are_shown_as_the_network_sees_them(two_sources, photo_folder, tmp_path):
    two_sources.data.load_size, two_sources.data.crop_size = (30, 40), 20
    pictures = RunPictures(two_sources, parallel.create_mesh())
    cut = _photos(photo_folder, (30, 40))[[0, 11], 5:25, 10:30]
    options = {"order": 1, "mode": "edge", "anti_aliasing": False, "preserve_range": True}
    expected = [transform.resize(photo.astype(float), (16, 16), **options) for photo in cut]
    assert np.abs(pictures.originals - np.array(expected)).max() <= 0.501
    assert pictures.sample_block().shape == (2, 30, 40, 3)
    pictures.draw_samples(np.zeros((2, 16, 16, 3), np.uint8), tmp_path / "grid.png")
    assert Image.open(tmp_path / "grid.png").size == (2 * (16 + 4) + 4, 3 * (16 + 4) + 4)


@pytest.mark.parametrize(("steps", "expected"), [(0, 4), (3, 3), (9, 9)])
def test_an_epoch_is_as_long_as_the_config_says(tiny_config, steps, expected):
    tiny_config.steps_per_epoch = steps
    assert RunPictures(tiny_config, parallel.create_mesh()).steps_per_epoch == expected


@pytest.mark.parametrize("steps", [3, 6])
def test_a_run_with_every_preparation_ends_and_resumes(two_sources, tmp_path, steps):
    # 17 pictures are four batches: an epoch is shorter and longer than a pass over them.
    two_sources.steps_per_epoch = steps
    two_sources.data.load_size, two_sources.data.crop_size = (20, 24), 18
    two_sources.data.rotation, two_sources.data.split_rule = 15.0, "ordered"
    two_sources.phases.adversarial.epochs = 0
    assert loop.train(two_sources, tmp_path / "run") == 0
    two_sources.phases.pretraining.epochs = 2
    assert loop.train(two_sources, tmp_path / "run") == 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "validation/psnr" in line]
    assert [(line["step"], line["epoch"]) for line in epochs] == [(steps, 1), (2 * steps, 2)]


def test_a_run_learns_what_its_folders_say_and_colours(tiny_config, photo_folder, tmp_path):
    for number, path in enumerate(sorted(photo_folder.glob("*.png"))):
        folder = photo_folder / ("odd" if number % 2 else "even")
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    tiny_config.data.source = f"folder:{photo_folder}"
    tiny_config.phases.pretraining.class_weight = 0.5
    with pytest.raises(UserError, match="The generator unet scores no classes"):
        loop.train(tiny_config, tmp_path / "run")
    tiny_config.generator.classes = 2
    assert loop.train(tiny_config, tmp_path / "run") == 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert all(line["train/class_loss"] > 0 for line in lines if "train/class_loss" in line)
    assert any("train/class_accuracy" in line for line in lines)
    picture = np.zeros((20, 30), np.uint8)
    assert Colorizer.load(tmp_path / "run").colorize(picture).shape == (20, 30, 3)
