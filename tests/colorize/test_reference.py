"""The palette of a reference photo, against closed forms."""

from pathlib import Path

import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from colorjax import Colorizer
from colorjax.colorize.reference import create_palette


def draw(mean: tuple[float, float], spread: float, seed: int = 0) -> np.ndarray:
    """Return a picture whose ab are random around a mean at every lightness, uint8."""
    generator = np.random.default_rng(seed)
    lab = np.empty((128, 128, 3))
    lab[..., 0] = generator.uniform(30, 70, (128, 128))
    lab[..., 1:] = mean + spread * generator.standard_normal((128, 128, 2)) @ [[1, 0.5], [0, 0.6]]
    return np.round(255 * lab2rgb(lab)).astype(np.uint8)


def test_colors_take_the_means_and_covariances_of_the_reference() -> None:
    reference, source = draw((15, 20), 6.0), draw((-5, -8), 4.0, seed=1)
    lab, wanted = rgb2lab(source), rgb2lab(reference)[..., 1:].reshape(-1, 2)
    steered = create_palette(reference).steer(lab[..., 1:], lab[..., 0]).reshape(-1, 2)
    np.testing.assert_allclose(steered.mean(axis=0), wanted.mean(axis=0), atol=0.5)
    np.testing.assert_allclose(np.cov(steered.T), np.cov(wanted.T), atol=3.0)


def test_a_picture_of_its_own_palette_stays() -> None:
    lab = rgb2lab(draw((10, -10), 8.0))
    steered = create_palette(draw((10, -10), 8.0)).steer(lab[..., 1:], lab[..., 0])
    assert np.abs(steered - lab[..., 1:]).mean() < 0.5


def test_shadows_and_highlights_have_palettes_of_their_own() -> None:
    lightness = np.repeat(np.linspace(5, 95, 128)[None], 128, axis=0)
    wanted = np.stack([lightness / 5 - 10, 10 - lightness / 5], axis=-1)
    reference = np.round(255 * lab2rgb(np.dstack([lightness, wanted]))).astype(np.uint8)
    steered = create_palette(reference).steer(np.zeros((128, 128, 2)), lightness)
    assert steered[:, :20, 0].mean() < -3
    assert steered[:, -20:, 0].mean() > 3


def test_a_constant_prediction_becomes_the_mean(model_folder: Path) -> None:
    image = np.random.default_rng(0).integers(110, 150, (40, 60), dtype=np.uint8)
    colorizer = Colorizer.load(f"{model_folder}@1")
    lab = rgb2lab(colorizer.colorize(image, reference=draw((15, 20), 3.0)))
    np.testing.assert_allclose(lab[..., 1:].mean(axis=(0, 1)), (15, 20), atol=1.5)


def test_a_reference_may_be_many_pictures_palette(model_folder: Path) -> None:
    colorizer = Colorizer.load(f"{model_folder}@1")
    images = [np.full((6, 5), value, np.uint8) for value in (100, 140)]
    reference = draw((15, 20), 3.0)
    one_by_one = [colorizer.colorize(image, reference=reference) for image in images]
    many = list(colorizer.colorize_many(images, reference=reference))
    for one, other in zip(one_by_one, many, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_a_reference_that_can_not_be_read(model_folder: Path) -> None:
    from colorjax.errors import UserError

    with pytest.raises(UserError, match="can't be read"):
        Colorizer.load(model_folder).colorize(draw((0, 0), 1.0), reference="nowhere.jpg")
