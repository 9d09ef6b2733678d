"""The palette of one photo, given to the colours predicted for another."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from colorjax import color
from colorjax.colorize.pictures import Picture, read_picture, to_8_bits

_SIDE = 128  # of the square on which a reference is measured
_CENTERS = np.array([15.0, 50.0, 85.0])  # lightness of shadows, middle tones and highlights
_WIDTH = 17.5  # standard deviation of a band of lightness
# Pixels, as a share of the picture, that a band takes from the whole picture's statistics, so that
# a few pixels of shadow don't decide alone.
_PRIOR = 0.05
_NOISE = 1.0  # variance, in CIE units squared, that is added: gray predictions stay near gray
_GAIN = 3.0  # by which a difference between predicted colours grows at the most


@dataclass(frozen=True)
class Statistics:
    """Means (3, 2) and covariances (3, 2, 2) of ab in bands of lightness, in CIE units."""

    means: np.ndarray
    covariances: np.ndarray


@dataclass(frozen=True)
class Palette:
    """The colours of a reference picture; see `create_palette`."""

    statistics: Statistics

    def steer(self, ab: np.ndarray, lightness: np.ndarray) -> np.ndarray:
        """Return ab moved so that its means and covariances are those of the reference.

        Within each band of lightness the map is the linear one that moves colours least (Pitié
        and Kokaram, The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour
        Transfer, 2007); between bands it is blended. It is the same for the whole picture: what
        was predicted alike stays alike.

        Args:
          ab: (H, W, 2) in CIE units.
          lightness: (H, W), 0..100.

        Returns:
          float32 (H, W, 2).
        """
        weights = _band_weights(lightness)
        own = _measure(ab, weights)
        result = np.zeros(ab.shape)
        for band in range(len(_CENTERS)):
            gain = _transport(own.covariances[band], self.statistics.covariances[band])
            moved = (ab - own.means[band]) @ gain + self.statistics.means[band]
            result += weights[..., band, None] * moved
        return result.astype(np.float32)


def create_palette(image: np.ndarray) -> Palette:
    """Return the palette of a picture, uint8 (H, W, 3)."""
    square = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    lab = np.asarray(color.rgb_to_lab(color.to_rgb(np.asarray(square))))
    return Palette(_measure(lab[..., 1:], _band_weights(lab[..., 0])))


def read_palette(picture: Picture) -> Palette:
    """Return the palette of a picture of any kind.

    Raises:
      UserError: if it can't be read.
    """
    return create_palette(to_8_bits(read_picture(picture)))


def _band_weights(lightness: np.ndarray) -> np.ndarray:
    """Return how much each pixel belongs to each band, (H, W, 3) with sum 1."""
    weights = np.exp(-0.5 * ((lightness[..., None] - _CENTERS) / _WIDTH) ** 2)
    return weights / weights.sum(axis=-1, keepdims=True)


def _measure(ab: np.ndarray, weights: np.ndarray) -> Statistics:
    colors = ab.reshape(-1, 2).astype(np.float64)
    shares = weights.reshape(len(colors), -1) + _PRIOR
    shares /= shares.sum(axis=0)
    means = shares.T @ colors
    centered = colors[:, None] - means
    return Statistics(means, np.einsum("pb,pbi,pbj->bij", shares, centered, centered))


def _transport(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the symmetric (2, 2) that turns one covariance into another, moving least."""
    source = source + _NOISE * np.eye(2)
    root = _power(source, 0.5)
    inverse = _power(source, -0.5)
    return _power(inverse @ _power(root @ target @ root, 0.5) @ inverse, 1.0, _GAIN)


def _power(matrix: np.ndarray, exponent: float, limit: float = np.inf) -> np.ndarray:
    """Return a power of a symmetric matrix, its eigenvalues made not negative and limited."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.clip(values, 0.0, limit) ** exponent) @ vectors.T
