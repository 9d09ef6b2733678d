from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2hsv, rgb2lab

from colorjax.data import garden
from colorjax.errors import UserError

COUNT = len(garden.KINDS)
COLORED = [kind for kind in garden.KINDS if kind.petal[1] > 0.2]


@lru_cache(maxsize=1)
def album() -> dict[str, np.ndarray]:
    """Return ten pictures of every kind, (10, 64, 64, 3), by the kind's name."""
    pictures: dict[str, list[np.ndarray]] = {}
    for index in range(10 * COUNT):
        pictures.setdefault(garden.kind_of(index), []).append(garden.draw(index, 64))
    return {name: np.stack(images) for name, images in pictures.items()}


def center(images: np.ndarray) -> np.ndarray:
    """Return the pixels within 0.3 of the middle, where the flower is, as (N, 3)."""
    axis = (np.arange(64) + 0.5) / 64 - 0.5
    return images[:, np.hypot(axis, axis[:, None]) < 0.3].reshape(-1, 3)


def hue_apart(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    return np.abs((np.asarray(a) - b + 180) % 360 - 180)


def commonest_hue(images: np.ndarray) -> float:
    hue, saturation, value = rgb2hsv(center(images)).T
    hue = 360 * hue[(saturation > 0.2) & (value > 0.4)]
    votes = [np.sum(hue_apart(hue, degree) < 12) for degree in range(360)]
    near = hue[hue_apart(hue, np.argmax(votes)) < 12]
    return float(np.degrees(np.angle(np.exp(1j * np.radians(near)).mean())) % 360)


@pytest.mark.parametrize("size", [1, 17, 64, 100])
def test_any_size_gives_a_uint8_square(size):
    image = garden.draw(3, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert 10 < image.mean() < 245
    assert size == 1 or image.std() > 20


def test_a_picture_depends_on_index_and_seed_alone():
    first = garden.draw(5, 64)
    garden.draw(6, 32, seed=9)
    np.testing.assert_array_equal(first, garden.draw(5, 64))
    for other in (garden.draw(6, 64), garden.draw(5, 64, seed=1)):
        assert np.abs(first.astype(float) - other).mean() > 10


@pytest.mark.parametrize("index", range(COUNT))
def test_the_picture_is_the_same_at_every_size(index):
    large = garden.draw(index, 256)
    for size in (64, 17):
        shrunk = Image.fromarray(large).resize((size, size), Image.Resampling.BOX)
        difference = np.abs(np.asarray(shrunk, float) - garden.draw(index, size))
        assert difference.mean() < 4
    assert np.abs(large.mean((0, 1)) - garden.draw(index, 1)[0, 0]).max() < 2


def test_kinds_are_many_distinct_and_equally_frequent():
    assert COUNT >= 12
    assert len({kind.name for kind in garden.KINDS}) == COUNT
    counts = Counter(garden.kind_of(index, seed=4) for index in range(5 * COUNT))
    assert set(counts.values()) == {5}
    orders = {tuple(garden.kind_of(b * COUNT + i) for i in range(COUNT)) for b in range(4)}
    assert len(orders) == 4


@pytest.mark.parametrize("kind", COLORED, ids=lambda kind: kind.name)
def test_petals_have_the_hue_their_kind_declares(kind):
    assert hue_apart(commonest_hue(album()[kind.name]), kind.petal[0]) < 8


def test_white_petals_are_white():
    saturation = rgb2hsv(center(album()["daisy"]))[:, 1]
    assert np.mean(saturation < 0.15) > 0.4


def test_hues_go_round_the_circle():
    hues = np.array([commonest_hue(album()[kind.name]) for kind in COLORED])
    farthest = max(hue_apart(hues, degree).min() for degree in range(360))
    # The widest gap lies about green, which is the background's.
    assert farthest < 60


def test_lightness_alone_does_not_tell_the_kind():
    lightness = [
        [rgb2lab(center(image[None]))[:, 0].mean() for image in album()[kind.name]]
        for kind in garden.KINDS
    ]
    values = np.array(lightness)  # (kinds, 10)
    nearest = np.abs(values[:, 1::2, None] - values[:, ::2].mean(1)).argmin(-1)
    accuracy = np.mean(nearest == np.arange(COUNT)[:, None])
    assert accuracy < 0.35


def test_every_part_a_kind_names_exists():
    for kind in garden.KINDS:
        assert kind.form in garden.FORMS
        assert kind.marking in garden.MARKINGS
        assert kind.center in garden.CENTERS


@pytest.mark.parametrize(("index", "size", "seed"), [(0, 0, 0), (-1, 8, 0), (0, 8, -1)])
def test_impossible_pictures_are_refused(index, size, seed):
    with pytest.raises(UserError, match="garden"):
        garden.draw(index, size, seed)
