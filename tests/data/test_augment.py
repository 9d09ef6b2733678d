"""What is done to pictures on the device is what SciPy, scikit-image and NumPy do."""

import jax
import numpy as np
import pytest
from scipy import ndimage
from skimage import transform

from colorjax.data import augment


@pytest.fixture
def rgb():
    return np.random.default_rng(0).random((4, 12, 17, 3), dtype=np.float32)


@pytest.mark.parametrize("degrees", [0.0, 15.0, -7.3, 60.0, 180.0])
def test_rotation_is_scipys(rgb, degrees):
    turned = augment.rotate(rgb, np.full(4, degrees, np.float32))
    options = {"axes": (1, 2), "reshape": False, "order": 1, "mode": "reflect"}
    expected = ndimage.rotate(rgb.astype(float), degrees, **options)
    np.testing.assert_allclose(turned, expected, atol=1e-4)


@pytest.mark.parametrize("size", [8, 9])
def test_a_quarter_turn_is_exact_and_counterclockwise(size):
    rgb = np.random.default_rng(1).random((3, size, size, 3), dtype=np.float32)
    turned = np.asarray(augment.rotate(rgb, np.array([90.0, -90.0, 180.0], np.float32)))
    for picture, result, quarters in zip(rgb, turned, (1, -1, 2), strict=True):
        np.testing.assert_allclose(result, np.rot90(picture, quarters), atol=1e-4)


def test_angles_are_uniform_between_the_bounds():
    # The middle of a ramp along x stays a ramp, whose slopes tell the angle.
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32)[:, None], (2000, 9, 9, 1))
    turned = np.asarray(augment.random_rotation(ramp, jax.random.key(0), 15.0))[..., 0]
    across, down = turned[:, 4, 5] - turned[:, 4, 3], turned[:, 5, 4] - turned[:, 3, 4]
    angles = np.rad2deg(np.arctan2(down, across))
    counts, _ = np.histogram(angles, bins=6, range=(-15, 15))
    assert np.abs(angles).max() < 15.001
    # Five standard deviations of a binomial count.
    assert (np.abs(counts - 2000 / 6) < 5 * np.sqrt(2000 * (1 / 6) * (5 / 6))).all()


def test_corners_are_filled_with_the_picture():
    bright = np.full((5, 16, 16, 3), 0.75, np.float32)
    turned = augment.random_rotation(bright, jax.random.key(0), 45.0)
    np.testing.assert_allclose(turned, bright, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (218, 178, slice(34, 184), slice(14, 164)),  # CelebA as it comes
        (151, 153, slice(0, 150), slice(1, 151)),  # of an odd remainder, less goes at the start
    ],
)
def test_the_middle_is_cut_out(height, width, rows, columns):
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    cut = augment.crop_or_pad(images, 150)
    assert cut.dtype == np.uint8
    np.testing.assert_array_equal(cut, images[:, rows, columns])


def test_what_is_too_small_is_padded_with_black():
    images = np.random.default_rng(0).integers(1, 256, (2, 4, 9, 3), dtype=np.uint8)
    # Seven rows: one above and two below; nine columns become seven.
    expected = np.pad(images[:, :, 1:8], [(0, 0), (1, 2), (0, 0), (0, 0)])
    np.testing.assert_array_equal(augment.crop_or_pad(images, 7), expected)


@pytest.mark.parametrize(("shape", "size"), [((15, 15), 12), ((7, 7), 12), ((21, 17), 12)])
def test_resizing_is_bilinear_without_antialiasing(shape, size):
    rgb = np.random.default_rng(0).random((2, *shape, 3), dtype=np.float32)
    options = {"order": 1, "mode": "edge", "anti_aliasing": False}
    expected = [transform.resize(picture, (size, size), **options) for picture in rgb]
    np.testing.assert_allclose(augment.resize(rgb, size), expected, atol=1e-5)


def test_zoom_is_scipys(rgb):
    part, start = np.array([1.0, 0.5, 0.7, 0.9]), np.array([[0, 0], [0.5, 0], [0.1, 0.3], [0, 0.1]])
    height, width = rgb.shape[1:3]
    side = max(height, width)  # so that nothing shrinks
    zoomed = augment.zoom(rgb, part, start, side)
    for picture, result, size, (top, left) in zip(rgb, zoomed, part, start, strict=True):
        # The centre of pixel i lies at i + 1/2 of the whole.
        rows = top * height + (np.arange(side) + 0.5) * size * height / side - 0.5
        columns = left * width + (np.arange(side) + 0.5) * size * width / side - 0.5
        grid = np.meshgrid(rows, columns, indexing="ij")
        for channel in range(3):
            expected = ndimage.map_coordinates(picture[..., channel], grid, order=1, mode="nearest")
            np.testing.assert_allclose(result[..., channel], expected, atol=1e-5)


def test_a_part_that_shrinks_is_antialiased():
    stripes = np.zeros((1, 32, 32, 1), np.float32)
    stripes[:, :, ::2] = 1.0
    start = np.zeros((1, 2))
    whole = augment.zoom(stripes, np.array([1.0]), start, 8)
    half = augment.zoom(stripes, np.array([0.5]), start, 16)  # pixel by pixel
    np.testing.assert_allclose(whole[:, :, 1:-1], 0.5, atol=0.01)
    np.testing.assert_allclose(half, stripes[:, :16, :16], atol=1e-6)


def test_random_parts_lie_within_the_picture_and_differ():
    ramp = np.broadcast_to(np.linspace(0, 1, 32)[:, None, None], (32, 32, 1)).astype(np.float32)
    batch = np.stack([ramp] * 64)
    zoomed = np.asarray(augment.random_zoom(batch, jax.random.key(0), 2.0, 32))[:, :, 0, 0]
    shown = zoomed[:, -1] - zoomed[:, 0]  # about the part's height
    assert 0.45 < shown.min() < 0.6
    assert 0.9 < shown.max() <= 1.0
    assert zoomed.min() >= 0
    assert zoomed.max() <= 1
    assert zoomed[:, 0].std() > 0.05
