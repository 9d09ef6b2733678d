"""How good a coloured picture is: one number an image, leading batch axes kept.

Pictures are rgb, (..., H, W, 3) in [0, 1]; results are float32 of shape (...). Everything is a
pure function of JAX arrays, usable under `jit` and `vmap`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from colorjax.color import CODECS, rgb_to_lab

_IMAGE_AXES = (-3, -2, -1)
_SSIM_SIGMA = 1.5
_SSIM_RADIUS = 5  # the Gaussian is cut at 3.5 sigma, rounded
_SSIM_C1 = 0.01**2
_SSIM_C2 = 0.03**2


def psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the peak signal-to-noise ratio of two rgb pictures in dB, with peak 1.

    Identical pictures give inf, as in scikit-image: a mean over pictures is inf then too.
    """
    return _psnr(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))


def psnr_lab(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the PSNR in dB over (L / 50 - 1, a / 110, b / 110), with peak 1, of two rgb pictures.

    For comparison with earlier published figures alone; it is no measure of quality and must not
    be compared with a PSNR of RGB. The lightness, which the network is given and cannot miss, is
    a third of the mean and adds up to 1.8 dB; the channels span 2, not the peak of 1; and real
    pictures' a and b fill so little of their range that even a gray picture scores well.
    """
    return _psnr(_normalized_lab(a), _normalized_lab(b))


def _normalized_lab(rgb: jax.Array) -> jax.Array:
    codec = CODECS["lab_centered"]
    return codec.critic_image(*codec.encode(rgb))


def _psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    return -10.0 * jnp.log10(jnp.mean(jnp.square(a - b), axis=_IMAGE_AXES))


def ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the mean structural similarity of two rgb pictures, at most 1.

    A Gaussian window of sigma 1.5 and 11x11 pixels, population covariance, data range 1, K1 0.01,
    K2 0.03; the mean over the three channels and over the pixels whose window lies wholly inside.
    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".

    Raises:
      ValueError: a side is shorter than the window.

    """
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    window = 2 * _SSIM_RADIUS + 1
    if min(a.shape[-3:-1]) < window:
        height, width = a.shape[-3:-1]
        raise ValueError(
            f"SSIM needs pictures of at least {window}x{window} pixels, not {height}x{width}"
        )
    mean_a, mean_b = _blur(a), _blur(b)
    mean_product = mean_a * mean_b
    mean_squares = mean_a * mean_a + mean_b * mean_b
    covariance = _blur(a * b) - mean_product
    variances = _blur(a * a + b * b) - mean_squares
    luminance = (2.0 * mean_product + _SSIM_C1) / (mean_squares + _SSIM_C1)
    structure = (2.0 * covariance + _SSIM_C2) / (variances + _SSIM_C2)
    return jnp.mean(luminance * structure, axis=_IMAGE_AXES)


def _blur(x: jax.Array) -> jax.Array:
    """Average (..., H, W, C) under the Gaussian window where it fits: (..., H - 10, W - 10, C)."""
    # A product with a banded matrix for each axis: on a CPU about 5 times as fast at 128x128 as
    # sums of shifted slices.
    highest = jax.lax.Precision.HIGHEST
    x = jnp.einsum("vh,...hwc->...vwc", _gaussian_band(x.shape[-3]), x, precision=highest)
    return jnp.einsum("vw,...hwc->...hvc", _gaussian_band(x.shape[-2]), x, precision=highest)


def _gaussian_band(length: int) -> np.ndarray:
    """Return the (length - 10, length) matrix whose rows are the window, one step on in each."""
    offsets = np.arange(length) - np.arange(_SSIM_RADIUS, length - _SSIM_RADIUS)[:, None]
    weights = np.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2) * (np.abs(offsets) <= _SSIM_RADIUS)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def colorfulness(rgb: jax.Array) -> jax.Array:
    """Return the colorfulness of an rgb picture: 0 is gray, 109 extremely colorful.

    The signed formula, on the scale 0..255, of Hasler and Suesstrunk 2003, "Measuring
    colourfulness in natural images".
    """
    return _colorfulness(*_opponents(rgb))


def colorfulness_abs(rgb: jax.Array) -> jax.Array:
    """Return the colorfulness that the code of DDColor and CT2 computes.

    It takes absolute values of the two opponent channels first, so it is another number than
    `colorfulness`, mostly a smaller one.
    """
    red_green, yellow_blue = _opponents(rgb)
    return _colorfulness(jnp.abs(red_green), jnp.abs(yellow_blue))


def _opponents(rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
    red, green, blue = jnp.moveaxis(jnp.asarray(rgb, jnp.float32) * 255.0, -1, 0)
    return red - green, 0.5 * (red + green) - blue


def _colorfulness(red_green: jax.Array, yellow_blue: jax.Array) -> jax.Array:
    channels = jnp.stack([red_green, yellow_blue])
    variance = jnp.sum(jnp.var(channels, axis=(-2, -1)), axis=0)
    mean_square = jnp.sum(jnp.square(jnp.mean(channels, axis=(-2, -1))), axis=0)
    return _safe_sqrt(variance) + 0.3 * _safe_sqrt(mean_square)


def ciede2000(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the mean over pixels of the CIEDE2000 difference of two rgb pictures, 0 for equal."""
    return jnp.mean(ciede2000_lab(rgb_to_lab(a), rgb_to_lab(b)), axis=(-2, -1))


def ciede2000_lab(lab_a: jax.Array, lab_b: jax.Array) -> jax.Array:
    """Return the CIEDE2000 difference, (...), of Lab colors, (..., 3) in CIE units.

    Unit weights kL, kC and kH. Symbols and branches are those of Sharma, Wu and Dalal 2005, "The
    CIEDE2000 color-difference formula". Gradients are finite, also for equal and for gray colors;
    the formula itself jumps where two hues are opposite.
    """
    lightness_1, a_1, b_1 = jnp.moveaxis(jnp.asarray(lab_a, jnp.float32), -1, 0)
    lightness_2, a_2, b_2 = jnp.moveaxis(jnp.asarray(lab_b, jnp.float32), -1, 0)
    mean_chroma = (_chroma(a_1, b_1) + _chroma(a_2, b_2)) / 2.0
    stretch = 1.5 - 0.5 * _chroma_weight(mean_chroma)
    a_1, a_2 = stretch * a_1, stretch * a_2
    chroma_1, chroma_2 = _chroma(a_1, b_1), _chroma(a_2, b_2)
    hue_difference, mean_hue = _hue_difference_and_mean(_hue(a_1, b_1), _hue(a_2, b_2))
    chromatic = chroma_1 * chroma_2 > 0.0
    # A gray color has no hue: its hue is 0 by definition, so the other's hue is their "mean".
    mean_hue = jnp.where(chromatic, mean_hue, _hue(a_1, b_1) + _hue(a_2, b_2))

    mean_lightness = (lightness_1 + lightness_2) / 2.0
    mean_chroma = (chroma_1 + chroma_2) / 2.0
    from_middle = jnp.square(mean_lightness - 50.0)
    scale_lightness = 1.0 + 0.015 * from_middle / jnp.sqrt(20.0 + from_middle)
    scale_chroma = 1.0 + 0.045 * mean_chroma
    scale_hue = 1.0 + 0.015 * mean_chroma * _hue_weight(mean_hue)

    lightness_term = (lightness_2 - lightness_1) / scale_lightness
    chroma_term = (chroma_2 - chroma_1) / scale_chroma
    hue_chord = 2.0 * _safe_sqrt(chroma_1 * chroma_2) * jnp.sin(hue_difference / 2.0)
    hue_term = hue_chord / scale_hue
    rotation = _rotation(mean_hue, mean_chroma) * chroma_term * hue_term
    return _safe_sqrt(lightness_term**2 + chroma_term**2 + hue_term**2 + rotation)


def _chroma(a: jax.Array, b: jax.Array) -> jax.Array:
    return _safe_sqrt(a * a + b * b)


def _hue(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the hue angle in [0, 2 pi), 0 for gray, whose angle has no derivative."""
    gray = a * a + b * b <= 0.0
    angle = jnp.arctan2(jnp.where(gray, 0.0, b), jnp.where(gray, 1.0, a))
    return jnp.where(angle < 0.0, angle + 2.0 * np.pi, angle)


def _hue_difference_and_mean(hue_1: jax.Array, hue_2: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the shorter way round from hue_1 to hue_2, and the hue in its middle."""
    difference, total = hue_2 - hue_1, hue_1 + hue_2
    across_zero = jnp.abs(difference) > np.pi
    turn = jnp.where(across_zero, 2.0 * np.pi, 0.0)
    mean = (total + jnp.where(total < 2.0 * np.pi, turn, -turn)) / 2.0
    return difference - jnp.sign(difference) * turn, mean


def _hue_weight(hue: jax.Array) -> jax.Array:
    """Return T, the hue's weight in its own tolerance."""
    return (
        1.0
        - 0.17 * jnp.cos(hue - np.deg2rad(30.0).item())
        + 0.24 * jnp.cos(2.0 * hue)
        + 0.32 * jnp.cos(3.0 * hue + np.deg2rad(6.0).item())
        - 0.20 * jnp.cos(4.0 * hue - np.deg2rad(63.0).item())
    )


def _rotation(hue: jax.Array, chroma: jax.Array) -> jax.Array:
    """Return R_T, which couples chroma and hue differences among blues."""
    angle = np.deg2rad(30.0).item() * jnp.exp(-jnp.square((jnp.rad2deg(hue) - 275.0) / 25.0))
    return -2.0 * _chroma_weight(chroma) * jnp.sin(2.0 * angle)


def _chroma_weight(chroma: jax.Array) -> jax.Array:
    """Return sqrt(C^7 / (C^7 + 25^7)), with 25 taken out to stay well inside float32."""
    seventh = (chroma / 25.0) ** 7
    return _safe_sqrt(seventh / (seventh + 1.0))


def _safe_sqrt(x: jax.Array) -> jax.Array:
    """Return the square root, with derivative 0 instead of infinity where x is not positive."""
    positive = x > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
