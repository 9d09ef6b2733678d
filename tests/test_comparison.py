"""A photo as models colour it: the words under each picture against scikit-image and NumPy."""

from pathlib import Path

import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from colorjax import Colorizer
from colorjax.comparison import compare_photo, make_titles


@pytest.fixture(scope="module")
def colorizers(model_folder: Path) -> list[Colorizer]:
    return [Colorizer.load(f"{model_folder}@{step}") for step in (1, 2)]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(80, 170, (33, 50, 3), dtype=np.uint8)


def colorfulness(image: np.ndarray) -> float:
    """Hasler and Suesstrunk's formula, written out."""
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    opponents = (red - green, (red + green) / 2 - blue)
    spread = np.sqrt(sum(np.var(channel) for channel in opponents))
    return float(spread + 0.3 * np.sqrt(sum(np.mean(channel) ** 2 for channel in opponents)))


def test_under_each_picture_stand_its_figures(colorizers, photo):
    (row,) = compare_photo(photo, colorizers, side=64)
    assert make_titles(["one", "two"]) == ["grey", "one", "two", "original"]
    lightness = rgb2lab(photo)
    lightness[..., 1:] = 0
    gray = np.round(255 * lab2rgb(lightness)[..., 1:2]).astype(np.uint8).repeat(3, axis=-1)
    pictures = [gray, *(colorizer.colorize(photo) for colorizer in colorizers)]
    for cell, picture in zip(row, pictures, strict=False):
        psnr = peak_signal_noise_ratio(photo, picture)
        assert cell.lines == (f"PSNR {psnr:.2f} dB", f"colourfulness {colorfulness(picture):.1f}")
    assert row[0].lines[1] == "colourfulness 0.0"
    assert row[-1].lines == ("", f"colourfulness {colorfulness(photo):.1f}")
    assert all(cell.image.shape == (42, 64, 3) for cell in row)


def test_a_grey_photo_is_compared_too(colorizers):
    photo = np.full((20, 20, 3), 128, np.uint8)
    (row,) = compare_photo(photo, colorizers, side=64)
    assert row[0].lines == ("PSNR ∞", "colourfulness 0.0")
    assert row[-1].lines == ("", "colourfulness 0.0")


def test_heat_maps_are_of_the_prediction_and_of_the_photo(colorizers, photo):
    pictures, maps = compare_photo(photo, colorizers, side=64, heat_maps=True)
    assert len(maps) == len(pictures) == 4
    assert [cell.lines[0] for cell in maps[1:]] == ["predicted a, b"] * 2 + ["true a, b"]
    constant = maps[1].image  # a is 20, b is -15
    inside = constant[1:-1, 1:20], constant[1:-1, -20:-1]
    assert all(len(np.unique(part.reshape(-1, 3), axis=0)) == 1 for part in inside)
    assert inside[0][0, 0, 0] > inside[0][0, 0, 2]  # red: above 0
    assert inside[1][0, 0, 0] < inside[1][0, 0, 2]  # blue: below 0
    gray = np.repeat(photo[..., :1], 3, axis=-1)
    true = compare_photo(gray, colorizers[:1], side=64, heat_maps=True)[1][-1].image
    assert true[1:-1, 1:20].min() > 240
