from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from colorjax import color, metrics

PAIRED = [metrics.psnr, metrics.psnr_lab, metrics.ssim, metrics.ciede2000]
SINGLE = [metrics.colorfulness, metrics.colorfulness_abs]


def pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures with noise, and the same with more noise, as float64."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 1, shape[-2])[:, None] * np.array([1, 0.7, 0.2])
    a = np.clip(ramp + 0.1 * random.normal(size=shape), 0, 1)
    return a, np.clip(a + 0.15 * random.normal(size=shape), 0, 1)


def structural_similarity_of(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=1,
    )


def psnr_lab_of(a: np.ndarray, b: np.ndarray) -> float:
    normalized_a, normalized_b = (rgb2lab(x) / [50, 110, 110] - np.array([1, 0, 0]) for x in (a, b))
    return peak_signal_noise_ratio(normalized_a, normalized_b, data_range=1)


def ciede2000_of(a: np.ndarray, b: np.ndarray) -> float:
    return deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean()


@pytest.mark.parametrize(
    ("metric", "oracle", "tolerance"),
    [
        (metrics.psnr, lambda a, b: peak_signal_noise_ratio(a, b, data_range=1), 1e-4),
        (metrics.psnr_lab, psnr_lab_of, 1e-4),
        (metrics.ssim, structural_similarity_of, 1e-5),
        (metrics.ciede2000, ciede2000_of, 1e-3),
    ],
)
@pytest.mark.parametrize("size", [(11, 11), (32, 47)])
def test_matches_scikit_image(
    metric: Callable, oracle: Callable, tolerance: float, size: tuple[int, int]
) -> None:
    a, b = pair(3, *size, 3)
    expected = [oracle(*pictures) for pictures in zip(a, b, strict=True)]
    np.testing.assert_allclose(jax.jit(metric)(a, b), expected, atol=tolerance)


@pytest.mark.parametrize("metric", PAIRED + SINGLE)
def test_leading_axes_and_vmap(metric: Callable) -> None:
    pictures = pair(2, 3, 12, 13, 3)[: 2 if metric in PAIRED else 1]
    metric = jax.jit(metric)
    values = metric(*pictures)
    assert values.shape == (2, 3)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(jax.vmap(metric)(*pictures), values, rtol=1e-5)
    first = metric(*(picture[0, 0] for picture in pictures))
    np.testing.assert_allclose(first, values[0, 0], rtol=1e-5)


def test_identical_pictures() -> None:
    a, _ = pair(16, 16, 3)
    assert metrics.psnr(a, a) == jnp.inf
    assert jax.jit(metrics.ciede2000)(a, a) == 0
    np.testing.assert_allclose(metrics.ssim(a, a), 1, atol=1e-6)


def test_psnr_of_a_constant_error() -> None:
    a = jnp.full((4, 4, 3), 0.5)
    np.testing.assert_allclose(metrics.psnr(a, a + 0.1), 20, rtol=1e-5)


def test_psnr_lab_of_a_constant_error_in_a() -> None:
    lab = jnp.full((4, 4, 3), jnp.array([50.0, 0.0, 0.0]))
    shifted = lab + jnp.array([0.0, 11.0, 0.0])
    value = metrics.psnr_lab(color.lab_to_rgb(lab), color.lab_to_rgb(shifted))
    np.testing.assert_allclose(value, 10 * np.log10(3 / 0.1**2), atol=1e-3)


def test_ssim_of_a_picture_smaller_than_the_window() -> None:
    with pytest.raises(ValueError, match="at least 11x11 pixels, not 10x32"):
        metrics.ssim(jnp.zeros((10, 32, 3)), jnp.zeros((10, 32, 3)))


def half_and_half(left: tuple[int, int, int], right: tuple[int, int, int]) -> jax.Array:
    return jnp.broadcast_to(jnp.array([left, right], jnp.float32) / 255, (6, 2, 3))


@pytest.mark.parametrize("metric", SINGLE)
def test_gray_has_no_colorfulness(metric: Callable) -> None:
    gray = half_and_half((20, 20, 20), (90, 90, 90))
    value, gradient = jax.value_and_grad(metric)(gray)
    np.testing.assert_allclose(value, 0, atol=1e-4)
    assert jnp.isfinite(gradient).all()


def test_colorfulness_of_red_and_green() -> None:
    # red - green is 255 on one half and -255 on the other, yellow - blue 127.5 on both: deviations
    # 255 and 0, means 0 and 127.5. In absolute values both are constant.
    picture = half_and_half((255, 0, 0), (0, 255, 0))
    np.testing.assert_allclose(metrics.colorfulness(picture), 255 + 0.3 * 127.5, rtol=1e-5)
    expected = 0.3 * np.hypot(255, 127.5)
    np.testing.assert_allclose(metrics.colorfulness_abs(picture), expected, rtol=1e-5)


# Pairs of Sharma, Wu and Dalal 2005, table 1, under their numbers there: blues, a gray, opposite
# hues on either side of the jump, large differences, a small one, near-white and near-black.
SHARMA = {
    1: ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    4: ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    7: ((50, 0, 0), (50, -1, 2), 2.3669),
    9: ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    11: ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    17: ((50, 2.5, 0), (73, 25, -18), 27.1492),
    18: ((50, 2.5, 0), (61, -5, 29), 22.8977),
    19: ((50, 2.5, 0), (56, -27, -3), 31.9030),
    20: ((50, 2.5, 0), (58, 24, 15), 19.4535),
    21: ((50, 2.5, 0), (50, 3.1736, 0.5854), 1.0000),
    25: ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    31: ((90.9257, -0.5406, -0.9208), (88.6381, -0.8985, -0.7239), 1.5381),
    34: ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
}


def test_ciede2000_of_published_pairs() -> None:
    labs_a, labs_b, expected = (np.array(column) for column in zip(*SHARMA.values(), strict=True))
    difference = jax.jit(metrics.ciede2000_lab)
    np.testing.assert_allclose(difference(labs_a, labs_b), expected, atol=1e-4)
    np.testing.assert_allclose(difference(labs_b, labs_a), expected, atol=1e-4)


def test_ciede2000_matches_scikit_image_on_any_colors() -> None:
    random = np.random.default_rng(1)
    # float32 values, so that both see the same colors.
    lab_a, lab_b = random.uniform((0, -100, -100), 100, (2, 20_000, 3)).astype(np.float32)
    expected = deltaE_ciede2000(lab_a.astype(np.float64), lab_b.astype(np.float64))
    np.testing.assert_allclose(metrics.ciede2000_lab(lab_a, lab_b), expected, atol=1e-3)


def test_ciede2000_gradients_are_finite() -> None:
    colors = jnp.array(
        [[0.0, 0, 0], [50, 0, 0], [100, 0, 0], [50, 20, 0], [50, -20, 0], [40, 9, 9]]
    )
    lab_a, lab_b = (x.reshape(-1, 3) for x in jnp.broadcast_arrays(colors[:, None], colors[None]))
    gradient_fn = jax.jit(jax.grad(lambda *labs: metrics.ciede2000_lab(*labs).sum(), (0, 1)))
    assert all(np.isfinite(np.asarray(gradient)).all() for gradient in gradient_fn(lab_a, lab_b))
