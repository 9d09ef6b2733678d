"""Every kind of picture comes out as the upright RGB that a viewer shows."""

import io

import numpy as np
import pytest
from PIL import Image

from colorjax.data.decode import decode

RAMP = np.linspace(0, 255, 24 * 24 * 3).reshape(24, 24, 3).astype(np.uint8)


def _decode(image, file_format="PNG", size=24, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    file.seek(0)
    return decode(file, (size, size))


def test_rgb_at_its_own_size_is_unchanged():
    np.testing.assert_array_equal(_decode(Image.fromarray(RAMP)), RAMP)


def test_shrinking_is_antialiased():
    # Lines of one pixel, black and white: their mean, not one of them, is what is seen afar.
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[::2] = 255
    shrunk = _decode(Image.fromarray(lines), size=8)
    assert np.abs(shrunk.astype(int) - 127.5).max() < 6


def test_other_shapes_are_squashed_whole():
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, :20] = (255, 0, 0)
    square = _decode(Image.fromarray(wide), size=20)
    np.testing.assert_array_equal(square[:, :8], np.broadcast_to([255, 0, 0], (20, 8, 3)))
    np.testing.assert_array_equal(square[:, 12:], np.zeros((20, 8, 3)))


def test_a_picture_of_the_shape_asked_for_keeps_its_pixels():
    file = io.BytesIO()
    Image.fromarray(RAMP[:, :18]).save(file, "PNG")
    np.testing.assert_array_equal(decode(file, (24, 18)), RAMP[:, :18])


def test_height_comes_before_width():
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "PNG")
    plain = Image.fromarray(RAMP).resize((9, 11), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(decode(file, (11, 9)), np.asarray(plain))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, np.fliplr),
        (3, lambda stored: np.rot90(stored, 2)),
        (4, np.flipud),
        (5, lambda stored: stored.swapaxes(0, 1)),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: np.rot90(stored, 2).swapaxes(0, 1)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(_decode(Image.fromarray(RAMP), exif=exif), upright(RAMP))


def test_16_bit_gray_keeps_its_whole_range():
    deep = np.linspace(0, 65535, 24 * 24).reshape(24, 24).astype(np.uint16)
    expected = np.repeat(np.round(deep / 257).astype(np.uint8)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(_decode(Image.fromarray(deep)), expected)
    np.testing.assert_array_equal(_decode(Image.fromarray(deep), "TIFF"), expected)


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_float_gray_is_scaled_to_its_white(white):
    values = np.linspace(0, white, 24 * 24, dtype=np.float32).reshape(24, 24)
    expected = np.linspace(0, 255, 24 * 24).reshape(24, 24)
    rgb = _decode(Image.fromarray(values), "TIFF").astype(float)
    np.testing.assert_allclose(rgb, np.repeat(expected[..., None], 3, -1), atol=0.51)


def test_transparency_is_laid_on_white():
    rgba = np.zeros((24, 24, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[..., 3] = np.linspace(0, 255, 24).astype(np.uint8)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(_decode(Image.fromarray(rgba)), expected, atol=1)


def test_palette_and_its_transparent_color():
    image = Image.new("P", (24, 24), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    np.testing.assert_array_equal(_decode(image)[0, 0], [10, 200, 30])
    np.testing.assert_array_equal(_decode(image, transparency=1)[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(_decode(image, "GIF")[0, 0], [10, 200, 30])


def test_cmyk_jpeg():
    cmyk = Image.new("CMYK", (24, 24), (0, 255, 255, 0))
    red = _decode(cmyk, "JPEG", quality=100)[12, 12]
    np.testing.assert_allclose(red, [255, 0, 0], atol=4)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_gray_modes_have_three_equal_channels(mode):
    rgb = _decode(Image.new("L", (24, 24), 255).convert(mode))
    np.testing.assert_array_equal(rgb, np.full((24, 24, 3), 255))
