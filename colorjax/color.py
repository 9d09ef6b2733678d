"""Colour: sRGB to CIE Lab and back, uint8 pictures, and the codecs networks are trained in.

Everything is a pure function of JAX arrays with any leading axes and channels last, computed in
float32, usable under `jit`, `grad` and `vmap`. Names carry ranges: `image` is uint8, `rgb` is in
[0, 1], `lab` in CIE units (L 0..100), `gray` and `ab` are normalised as a codec says.
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from colorjax.errors import UserError

# IEC 61966-2-1 primaries and the D65 white of the 2 degree observer, to the digits that
# scikit-image has, so that the two agree on the whole cube. NumPy arrays: importing this module
# must not start a device.
_XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_RELATIVE_XYZ_FROM_RGB = _XYZ_FROM_RGB / _WHITE[:, None]
_RGB_FROM_RELATIVE_XYZ = np.linalg.inv(_RELATIVE_XYZ_FROM_RGB)

_SRGB_THRESHOLD = 0.04045
_LINEAR_THRESHOLD = 0.0031308
_XYZ_THRESHOLD = 0.008856
_LAB_THRESHOLD = 0.2068966
_LAB_SLOPE = 7.787
_LAB_OFFSET = 16.0 / 116.0


def rgb_to_lab(rgb: jax.Array) -> jax.Array:
    """Convert sRGB to CIE Lab under D65 and the 2 degree observer.

    Args:
      rgb: (..., 3) in [0, 1], of any float type.

    Returns:
      (..., 3) float32: L in 0..100, a and b in CIE units, roughly -86..98 and -108..94.

    """
    linear = _linear_from_srgb(jnp.asarray(rgb, jnp.float32))
    x, y, z = jnp.split(_lab_curve(_multiply(_RELATIVE_XYZ_FROM_RGB, linear)), 3, axis=-1)
    return jnp.concatenate([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def lab_to_rgb(lab: jax.Array) -> jax.Array:
    """Convert CIE Lab under D65 to sRGB; colours that sRGB cannot show are clipped.

    Args:
      lab: (..., 3), L in 0..100, a and b in CIE units, of any float type.

    Returns:
      (..., 3) float32 in [0, 1].

    """
    return _srgb_from_linear(_linear_from_lab(lab))


def lab_to_rgb_keeping_lightness(lab: jax.Array) -> jax.Array:
    """Convert CIE Lab to sRGB; colours that sRGB cannot show give up chroma, never lightness.

    They move straight towards the gray of their luminance, in linear light, until they are within
    the cube. Clipping (`lab_to_rgb`) changes the lightness of saturated highlights and shadows.

    Args:
      lab: (..., 3), L in 0..100, a and b in CIE units, of any float type.

    Returns:
      (..., 3) float32 in [0, 1], of the same L.

    """
    lab = jnp.asarray(lab, jnp.float32)
    gray = _inverse_lab_curve((lab[..., :1] + 16.0) / 116.0)
    chroma = _linear_from_lab(lab) - gray
    room = jnp.where(chroma > 0.0, 1.0 - gray, gray)
    # Without chroma there is room enough: the divisor only keeps 0 / 0 away.
    shares = room / jnp.maximum(jnp.abs(chroma), 1e-6)
    share = jnp.clip(jnp.min(shares, axis=-1, keepdims=True), 0.0, 1.0)
    return _srgb_from_linear(gray + share * chroma)


def gray_from_lightness(lightness: jax.Array) -> jax.Array:
    """Return the neutral gray of a CIE lightness, the Lab color (L, 0, 0).

    Args:
      lightness: (..., 1) in 0..100.

    Returns:
      (..., 3) float32 in [0, 1], the three channels equal.

    """
    y = _inverse_lab_curve((jnp.asarray(lightness, jnp.float32) + 16.0) / 116.0)
    return jnp.repeat(_srgb_from_linear(y), 3, axis=-1)


def to_rgb(image: jax.Array | np.ndarray) -> jax.Array:
    """Convert an image, uint8 of any shape, to float32 in [0, 1]."""
    return jnp.asarray(image).astype(jnp.float32) / 255.0


def to_image(rgb: jax.Array) -> jax.Array:
    """Convert values in [0, 1] to uint8, rounded to nearest and clipped, of the same shape."""
    rgb = jnp.asarray(rgb, jnp.float32)
    return jnp.clip(jnp.round(rgb * 255.0), 0.0, 255.0).astype(jnp.uint8)


# In each curve the branch that is not taken sees a harmless constant, as an infinite slope there
# would turn the gradient of `where` into NaN (0 times infinity).


def _linear_from_srgb(rgb: jax.Array) -> jax.Array:
    curved = rgb > _SRGB_THRESHOLD
    power = ((jnp.where(curved, rgb, 1.0) + 0.055) / 1.055) ** 2.4
    return jnp.where(curved, power, rgb / 12.92)


def _srgb_from_linear(linear: jax.Array) -> jax.Array:
    curved = linear > _LINEAR_THRESHOLD
    power = 1.055 * jnp.where(curved, linear, 1.0) ** (1.0 / 2.4) - 0.055
    return jnp.clip(jnp.where(curved, power, 12.92 * linear), 0.0, 1.0)


def _linear_from_lab(lab: jax.Array) -> jax.Array:
    """Return linear RGB, beyond [0, 1] for colours that sRGB cannot show."""
    lightness, a, b = jnp.split(jnp.asarray(lab, jnp.float32), 3, axis=-1)
    y = (lightness + 16.0) / 116.0
    # Colours of strongly negative Z do not exist; scikit-image stops there too.
    z = jnp.maximum(y - b / 200.0, 0.0)
    xyz = _inverse_lab_curve(jnp.concatenate([y + a / 500.0, y, z], axis=-1))
    return _multiply(_RGB_FROM_RELATIVE_XYZ, xyz)


def _lab_curve(xyz: jax.Array) -> jax.Array:
    curved = xyz > _XYZ_THRESHOLD
    return jnp.where(curved, jnp.cbrt(jnp.where(curved, xyz, 1.0)), _LAB_SLOPE * xyz + _LAB_OFFSET)


def _inverse_lab_curve(value: jax.Array) -> jax.Array:
    return jnp.where(value > _LAB_THRESHOLD, value**3, (value - _LAB_OFFSET) / _LAB_SLOPE)


def _multiply(matrix: np.ndarray, vectors: jax.Array) -> jax.Array:
    """Apply a 3x3 matrix to (..., 3); accelerators would round the factors by default."""
    matrix = matrix.T.astype(np.float32)
    return jnp.matmul(vectors, matrix, precision=jax.lax.Precision.HIGHEST)


class Codec(Protocol):
    """What a network reads and predicts, and the way back to a picture.

    A codec is a small hashable value. Networks, objectives and evaluation use these members
    alone and never ask which codec they have. Pictures are (..., H, W, channels); results are
    float32.
    """

    @property
    def input_channels(self) -> int:
        """Channels of the network's input."""

    @property
    def output_channels(self) -> int:
        """Channels of the network's prediction and of the target."""

    @property
    def predicts_lightness(self) -> bool:
        """Whether a prediction has a lightness of its own; if not, it is the input's."""

    def encode(self, rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Turn pictures, rgb (..., H, W, 3), into (network_input, target)."""

    def decode(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Turn a network's input and prediction into rgb (..., H, W, 3) in [0, 1]."""

    def critic_image(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Return the (..., H, W, 3) that the critic judges; a target may be the prediction."""

    def predicted_ab(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Return the predicted a and b, (..., H, W, 2) in CIE units, to join with any lightness."""

    def input_from_lightness(self, lightness: jax.Array) -> jax.Array:
        """Return the network's input for a lightness, (..., H, W, 1) in 0..100."""

    def target_from_lab(self, lab: jax.Array) -> jax.Array:
        """Return the target for a picture, (..., H, W, 3) in CIE units."""


@dataclass(frozen=True)
class LabCodec:
    """Lightness in, a and b out: gray = L / lightness_scale - lightness_shift, ab = (a, b) / scale.

    See `Codec` for the methods.
    """

    lightness_scale: float
    lightness_shift: float
    ab_scale: float
    input_channels: int = 1
    output_channels: int = 2
    predicts_lightness: bool = False

    def encode(self, rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return gray (..., 1) and ab (..., 2), both normalised."""
        lab = rgb_to_lab(rgb)
        return self.input_from_lightness(lab[..., :1]), self.target_from_lab(lab)

    def decode(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Join the input's lightness with the predicted ab; rgb (..., 3) in [0, 1]."""
        gray = jnp.asarray(network_input, jnp.float32)
        lightness = (gray + self.lightness_shift) * self.lightness_scale
        ab = self.predicted_ab(network_input, prediction)
        return lab_to_rgb(jnp.concatenate([lightness, ab], axis=-1))

    def critic_image(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Return normalised (gray, a, b), (..., 3)."""
        gray = jnp.asarray(network_input, jnp.float32)
        return jnp.concatenate([gray, jnp.asarray(prediction, jnp.float32)], axis=-1)

    def predicted_ab(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Return the prediction in CIE units, (..., 2)."""
        return jnp.asarray(prediction, jnp.float32) * self.ab_scale

    def input_from_lightness(self, lightness: jax.Array) -> jax.Array:
        """Return gray (..., 1), the normalised lightness."""
        lightness = jnp.asarray(lightness, jnp.float32)
        return lightness / self.lightness_scale - self.lightness_shift

    def target_from_lab(self, lab: jax.Array) -> jax.Array:
        """Return ab (..., 2), normalised."""
        return jnp.asarray(lab, jnp.float32)[..., 1:] / self.ab_scale


@dataclass(frozen=True)
class RGBCodec:
    """The gray picture repeated three times in, the color picture out, both in [0, 1].

    See `Codec` for the methods.
    """

    input_channels: int = 3
    output_channels: int = 3
    predicts_lightness: bool = True

    def encode(self, rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the gray picture, (..., 3) with equal channels, and the picture itself."""
        rgb = jnp.asarray(rgb, jnp.float32)
        return self.input_from_lightness(rgb_to_lab(rgb)[..., :1]), rgb

    def decode(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Return the prediction clipped to [0, 1], its own lightness kept."""
        return jnp.clip(jnp.asarray(prediction, jnp.float32), 0.0, 1.0)

    def critic_image(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Return the prediction alone: this critic does not see the input."""
        return jnp.asarray(prediction, jnp.float32)

    def predicted_ab(self, network_input: jax.Array, prediction: jax.Array) -> jax.Array:
        """Return a and b of the predicted picture, (..., 2) in CIE units."""
        return rgb_to_lab(self.decode(network_input, prediction))[..., 1:]

    def input_from_lightness(self, lightness: jax.Array) -> jax.Array:
        """Return the neutral gray of that lightness, (..., 3) with equal channels."""
        return gray_from_lightness(lightness)

    def target_from_lab(self, lab: jax.Array) -> jax.Array:
        """Return the picture in [0, 1], (..., 3)."""
        return lab_to_rgb(lab)


CODECS: dict[str, Codec] = {
    "lab_centered": LabCodec(lightness_scale=50.0, lightness_shift=1.0, ab_scale=110.0),
    "lab_unit": LabCodec(lightness_scale=100.0, lightness_shift=0.0, ab_scale=128.0),
    "rgb": RGBCodec(),
}


def get_codec(name: str) -> Codec:
    """Return the codec of that name.

    Raises:
      UserError: there is no such codec; the message lists those there are.

    """
    if name not in CODECS:
        raise UserError(f"config.codec is {name!r}: choose one of {', '.join(CODECS)}.")
    return CODECS[name]
