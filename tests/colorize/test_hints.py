"""Hints hold where they are put, spread within edges and leave the rest alone."""

from pathlib import Path

import numpy as np
import pytest
from skimage.color import rgb2lab

from colorjax import Colorizer, Hint
from colorjax.colorize.hints import check_hints, parse_hint, spread_hints
from colorjax.errors import UserError

RED, BLUE = "#c03028", "#3050c0"
RED_AB = rgb2lab(np.array([0xC0, 0x30, 0x28]) / 255.0)[1:]
BLUE_AB = rgb2lab(np.array([0x30, 0x50, 0xC0]) / 255.0)[1:]
CONSTANT = (20.0, -15.0)  # ab of step 1 of `model_folder`


def draw_halves(height: int = 90, width: int = 120) -> np.ndarray:
    """Return a picture whose left half is darker than its right one, with some grain."""
    grain = np.random.default_rng(0).integers(-4, 5, (height, width))
    gray = np.where(np.arange(width) < width // 2, 110, 190) + grain
    return gray.astype(np.uint8)


@pytest.fixture(scope="module")
def constant_colorizer(model_folder: Path) -> Colorizer:
    return Colorizer.load(f"{model_folder}@1")


def test_a_hint_fills_its_region_and_no_other(constant_colorizer: Colorizer) -> None:
    image = draw_halves()
    plain = rgb2lab(constant_colorizer.colorize(image))
    lab = rgb2lab(constant_colorizer.colorize(image, hints=[Hint(20, 40, RED)]))
    np.testing.assert_allclose(lab[38:43, 18:23, 1:].mean(axis=(0, 1)), RED_AB, atol=2.0)
    # Not only there: the other corner of the region is as red.
    np.testing.assert_allclose(lab[80:, 45:50, 1:].mean(axis=(0, 1)), RED_AB, atol=6.0)
    assert np.abs(lab - plain)[:, 66:].max() < 1.0
    assert np.abs(lab - plain)[..., 0].max() < 1.5  # lightness, but for rounding


def test_hints_share_a_region(constant_colorizer: Colorizer) -> None:
    image = np.full((100, 100), 130, np.uint8)
    hints = [Hint(15, 50, RED), Hint(85, 50, BLUE)]
    ab = rgb2lab(constant_colorizer.colorize(image, hints=hints, upsample="bicubic"))[..., 1:]
    np.testing.assert_allclose(ab[50, 15], RED_AB, atol=3.0)
    np.testing.assert_allclose(ab[50, 85], BLUE_AB, atol=3.0)
    np.testing.assert_allclose(ab[50, 50], (RED_AB + BLUE_AB) / 2, atol=6.0)


def test_a_hint_is_followed_whatever_the_saturation(constant_colorizer: Colorizer) -> None:
    image = draw_halves()
    lab = rgb2lab(constant_colorizer.colorize(image, saturation=0.0, hints=[Hint(20, 40, RED)]))
    np.testing.assert_allclose(lab[40, 20, 1:], RED_AB, atol=3.0)
    np.testing.assert_allclose(lab[:, 80:, 1:], 0.0, atol=1.0)


def test_what_is_far_stays_exactly_as_predicted() -> None:
    lightness = np.full((64, 64), 30.0, np.float32)
    lightness[:, 32:] = 80.0
    ab = np.random.default_rng(0).uniform(-5, 5, (64, 64, 2)).astype(np.float32)
    result = spread_hints([Hint(5, 5, RED)], ab, lightness, 10, 30)
    np.testing.assert_array_equal(result[:, 48:], ab[:, 48:])
    assert np.abs(result[2:40, 2:20] - RED_AB).max() < 12


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 400), (400, 1)])
def test_hints_on_narrow_pictures(constant_colorizer: Colorizer, height: int, width: int) -> None:
    image = np.full((height, width), 130, np.uint8)
    hint = Hint(width - 1, height - 1, RED)
    lab = rgb2lab(constant_colorizer.colorize(image, hints=[hint]))
    np.testing.assert_allclose(lab[-1, -1, 1:], RED_AB, atol=3.0)


def test_hints_are_parsed_and_checked() -> None:
    assert parse_hint("12,7,#Ff0080") == Hint(12, 7, "#Ff0080")
    np.testing.assert_allclose(parse_hint(" 1, 2, #c03028 ").ab, RED_AB, atol=1e-3)
    for text in ("", "1,2", "1,2,red", "1,2,#ff00", "1,2,#gg0000", "-1,2,#ff0000", "1.5,2,#ff0000"):
        with pytest.raises(UserError, match="#rrggbb"):
            parse_hint(text)
    for x, y in ((20, 0), (0, 10), (-1, 0)):
        with pytest.raises(UserError, match="outside the picture"):
            check_hints([Hint(x, y, RED)], 10, 20)
    check_hints([Hint(19, 9, RED)], 10, 20)
