"""Enlarging colour and joining it with lightness, against JAX's resampling and scikit-image."""

import jax
import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from colorjax import color
from colorjax.colorize import join
from colorjax.colorize.upsampling import ColorField


@pytest.mark.parametrize(("height", "width"), [(37, 53), (8, 5), (1, 64), (90, 3)])
def test_strips_equal_a_bicubic_whole(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    generator = np.random.default_rng(1)
    image = generator.integers(100, 140, (height, width, 3), dtype=np.uint8)
    ab = generator.uniform(-15, 15, (8, 8, 2)).astype(np.float32)
    monkeypatch.setattr(join, "_CHUNK", 60)  # many strips, and rows longer than a chunk
    result = join.join_lightness(image, ColorField(ab))
    large = np.asarray(jax.image.resize(ab, (height, width, 2), "cubic", antialias=True))
    lab = np.concatenate([rgb2lab(image)[..., :1], large], axis=-1)
    assert np.abs(np.round(255 * lab2rgb(lab)) - result).max() <= 1


def test_colours_beyond_srgb_keep_lightness_and_others_all() -> None:
    generator = np.random.default_rng(2)
    lab = generator.uniform((0, -150, -150), (100, 150, 150), (5000, 3)).astype(np.float32)
    rgb = np.asarray(color.lab_to_rgb_keeping_lightness(lab), np.float64)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    np.testing.assert_allclose(rgb2lab(rgb)[:, 0], lab[:, 0], atol=1e-3)
    inside = generator.random((5000, 3))
    result = color.lab_to_rgb_keeping_lightness(rgb2lab(inside))
    np.testing.assert_allclose(result, inside, atol=1e-4)
