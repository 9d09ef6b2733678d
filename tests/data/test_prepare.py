"""From the config to what the networks are shown."""

import jax
import numpy as np
import pytest
from skimage import transform

from colorjax import color
from colorjax.data import make_prepare, make_training_prepare
from colorjax.data.augment import random_horizontal_flip, rotate
from colorjax.errors import UserError
from configs import common

KEY = jax.random.key(3)


@pytest.fixture
def data():
    return common.data()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (16, 12, 12, 3), dtype=np.uint8)


def test_by_default_pictures_are_flipped_and_nothing_else(data, images):
    def plain(images, key):
        return color.to_rgb(random_horizontal_flip(images, key, 0.5))

    prepare = make_training_prepare(data, 12)
    np.testing.assert_array_equal(jax.jit(prepare)(images, KEY), jax.jit(plain)(images, KEY))
    # The program is the same: a rotation of 0 costs nothing.
    assert str(jax.make_jaxpr(prepare)(images, KEY)) == str(jax.make_jaxpr(plain)(images, KEY))


def test_evaluation_draws_nothing(data, images):
    data.rotation = 15.0
    np.testing.assert_array_equal(make_prepare(data, 12)(images), color.to_rgb(images))


def _resize(rgb, size):
    options = {"order": 1, "mode": "edge", "anti_aliasing": False}
    return [transform.resize(picture, (size, size), **options) for picture in rgb]


@pytest.mark.parametrize(
    ("crop_size", "columns"), [(8, slice(2, 10)), (0, slice(0, 12))], ids=["cut", "squashed"]
)
def test_pictures_are_cut_and_then_resized(data, images, crop_size, columns):
    tall = np.concatenate([images, images[:, :4]], axis=1)
    rows = slice(4, 12) if crop_size else slice(0, 16)
    data.crop_size, data.horizontal_flip = crop_size, 0.0
    expected = _resize(tall[:, rows, columns].astype(np.float32) / 255, 10)
    prepared = make_prepare(data, 10)(tall)
    assert prepared.shape == (16, 10, 10, 3)
    np.testing.assert_allclose(prepared, expected, atol=1e-5)
    trained = make_training_prepare(data, 10)(tall, KEY)
    np.testing.assert_array_equal(trained, prepared)


def test_a_cut_larger_than_the_pictures_is_an_error(data, images):
    tall = np.concatenate([images, images[:, :4]], axis=1)
    data.crop_size = 17
    with pytest.raises(UserError, match=r"config\.data\.crop_size=17: .* loaded at 16x12"):
        make_prepare(data, 10)(tall)
    data.crop_size = 16  # the narrower side is filled up
    assert make_prepare(data, 10)(tall).shape == (16, 10, 10, 3)


def test_zoomed_parts_are_taken_from_the_pictures_as_loaded(data):
    stripes = np.zeros((16, 32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    data.zoom = 2.0
    zoomed = np.asarray(make_training_prepare(data, 16)(stripes, KEY))
    assert zoomed.shape == (16, 16, 16, 3)
    assert np.ptp(zoomed) > 0.5  # resized as a whole they would be grey
    assert np.ptp(make_prepare(data, 16)(stripes)) < 0.01


def test_rotation_comes_last_and_leaves_the_flips_as_they_were(data, images):
    data.crop_size = 8
    flipped = make_training_prepare(data, 10)(images, KEY)
    data.rotation = 20.0
    turned = np.asarray(make_training_prepare(data, 10)(images, KEY))
    # Turned back by the right angle, the middle of each picture is the flipped one's: blurred,
    # but nearer than that of the mirrored picture.
    angles = np.linspace(-20, 20, 81)
    middle = (slice(None), slice(3, 7), slice(3, 7))
    for result, same in zip(turned, flipped, strict=True):
        tries = rotate(np.repeat(same[None], 81, 0), angles)
        mirrored = rotate(np.repeat(same[None, :, ::-1], 81, 0), angles)
        errors = [np.abs(each - result)[middle].mean((1, 2, 3)).min() for each in (tries, mirrored)]
        assert errors[0] < 0.02 < errors[1]
