"""Guided enlarging of colour, against closed forms and the colours of real photos."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab

from colorjax.colorize.painting import Look, create_field
from colorjax.colorize.pictures import Photo
from colorjax.colorize.upsampling import (
    enlarge_guided,
    fit_lightness,
    resample,
    resize_guided,
    working_size,
)


def shrink(values: np.ndarray, side: int) -> np.ndarray:
    shape = (side, side, values.shape[-1])
    return np.asarray(jax.image.resize(values, shape, "cubic", antialias=True))


def enlarge_bicubic(values: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(jax.image.resize(values, (side, side, values.shape[-1]), "cubic"))


def draw_disc(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lightness and ab of a bright red disc on dark green."""
    rows, columns = np.mgrid[:side, :side]
    inside = np.hypot(rows - 0.43 * side, columns - 0.52 * side) < 0.3 * side
    lightness = np.where(inside, 70.0, 35.0).astype(np.float32)
    return lightness, np.where(inside[..., None], (50.0, 30.0), (-30.0, 20.0)).astype(np.float32)


def test_color_stops_at_the_edges_of_lightness() -> None:
    lightness, ab = draw_disc(128)
    small = shrink(ab, 16)
    edge = ndimage.gaussian_gradient_magnitude(lightness, 2.0) > 1.0

    def error(result: np.ndarray) -> float:
        return float(np.linalg.norm(result - ab, axis=-1)[edge].mean())

    guided = np.asarray(enlarge_guided(small, lightness))
    assert error(guided) < 0.5 * error(enlarge_bicubic(small, 128))


def test_the_prediction_is_kept_at_its_own_size() -> None:
    generator = np.random.default_rng(0)
    small = ndimage.gaussian_filter(generator.uniform(-60, 60, (16, 16, 2)), (1.5, 1.5, 0))
    lightness = generator.uniform(0, 100, (64, 64)).astype(np.float32)
    result = np.asarray(enlarge_guided(small.astype(np.float32), lightness))
    assert np.abs(shrink(result, 16) - small).mean() < 0.05 * np.abs(small).mean()
    constant = np.asarray(enlarge_guided(np.full((16, 16, 3), 7.0, np.float32), lightness))
    np.testing.assert_allclose(constant, 7.0, atol=1e-3)


def test_color_is_fitted_as_a_function_of_lightness() -> None:
    generator = np.random.default_rng(1)
    lightness = generator.uniform(0, 100, (40, 40)).astype(np.float32)
    ab = np.stack([0.5 * lightness - 20, 0 * lightness + 9], axis=-1)
    slope, offset = map(np.asarray, fit_lightness(ab, lightness))
    np.testing.assert_allclose(slope[..., 1], 0.0, atol=1e-4)
    np.testing.assert_allclose(offset[..., 1], 9.0, atol=1e-2)
    # Windows of less variance than the filter's 16 units are flattened a little.
    assert np.abs(slope[..., 0] - 0.5).mean() < 0.02
    assert np.abs(slope * lightness[..., None] + offset - ab).mean() < 1.0


@pytest.mark.parametrize(("before", "after"), [(16, 64), (64, 16), (20, 48), (48, 20), (1, 4)])
def test_maps_are_resampled_as_jax_does_it(before: int, after: int) -> None:
    values = np.random.default_rng(3).uniform(-50, 50, (before, before, 2)).astype(np.float32)
    np.testing.assert_allclose(resample(values, after), shrink(values, after), atol=1e-3)


def test_the_working_size_is_a_doubling() -> None:
    sizes = [16, 64, 96, 256, 512, 640]
    assert [working_size(size) for size in sizes] == [512, 512, 768, 512, 512, 640]


@pytest.mark.parametrize("side", [8, 16, 40])
def test_squares_of_a_batch_are_coloured_as_photos_are(side: int) -> None:
    generator = np.random.default_rng(2)
    images = generator.integers(40, 220, (2, side, side, 3), dtype=np.uint8)
    ab = generator.uniform(-40, 40, (2, 16, 16, 2)).astype(np.float32)
    results = jax.jit(jax.vmap(resize_guided))(ab, images.astype(np.float32) / 255)
    if side == 16:
        np.testing.assert_array_equal(results, ab)
        return
    for image, small, result in zip(images, ab, results, strict=True):
        field = create_field(Photo(image), small, Look())
        assert field.slope is not None
        slope, offset = (resize_by_pillow(each, side) for each in (field.slope, field.offset))
        expected = slope * rgb2lab(image)[..., :1] + offset
        # The Colorizer's guide is rounded to 8 bits.
        np.testing.assert_allclose(result, expected, atol=0.5)


def resize_by_pillow(values: np.ndarray, side: int) -> np.ndarray:
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(values, -1, 0)]
    return np.dstack([plane.resize((side, side), Image.Resampling.BICUBIC) for plane in planes])


@pytest.mark.photos
def test_real_photos_bleed_less() -> None:
    photos = Path(__file__).parents[3] / "shared/data/flowers"
    if not photos.is_dir():
        pytest.skip("the photos of ../shared/data are not here")
    guided, bicubic = [], []
    for path in sorted(photos.rglob("*.jpg"))[::1000]:
        image = Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
        lab = rgb2lab(np.asarray(image)).astype(np.float32)
        lightness, ab = lab[..., 0], lab[..., 1:]
        edges = np.hypot(*(ndimage.gaussian_gradient_magnitude(ab[..., i], 1.0) for i in (0, 1)))
        edge = edges > np.percentile(edges, 90)
        small = shrink(ab, 64)
        for errors, result in (
            (guided, enlarge_guided(small, lightness)),
            (bicubic, enlarge_bicubic(small, 256)),
        ):
            errors.append(np.linalg.norm(result - ab, axis=-1)[edge].mean())
    assert np.mean(guided) < 0.9 * np.mean(bicubic)
