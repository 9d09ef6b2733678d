"""From a small predicted colour to a whole picture: palette, hints, upsampling, lightness."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from PIL import Image

from colorjax import color
from colorjax.colorize.hints import Hint, spread_hints
from colorjax.colorize.join import join_lightness
from colorjax.colorize.pictures import Photo, to_8_bits
from colorjax.colorize.reference import Palette
from colorjax.colorize.upsampling import ColorField, enlarge_guided, fit_lightness, working_size
from colorjax.errors import UserError
from colorjax.program_store import keep_program

_enlarge = keep_program(enlarge_guided, "enlarging along edges")
_fit = keep_program(fit_lightness, "fit of colour to lightness")

UPSAMPLINGS = ("guided", "bicubic")
LIGHTNESSES = ("input", "network")


@dataclass(frozen=True)
class Look:
    """How a prediction is shown.

    Attributes:
      saturation: factor of the predicted colour: 0 is gray, 1 as predicted.
      upsample: `guided`, whose edges are those of the picture's lightness, or `bicubic`.
      lightness: `input`, or `network` for that which a network of RGB predicts itself.
      palette: that the predicted colours are given; None to leave them.
    """

    saturation: float = 1.0
    upsample: str = "guided"
    lightness: str = "input"
    palette: Palette | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.saturation) and self.saturation >= 0):
            raise UserError(f"A saturation of {self.saturation} can't be had: give 0 or more.")
        for name, value, choices in (
            ("upsample", self.upsample, UPSAMPLINGS),
            ("lightness", self.lightness, LIGHTNESSES),
        ):
            if value not in choices:
                raise UserError(f"{name}={value!r} is unknown: give {' or '.join(choices)}.")


def paint(
    photo: Photo,
    ab: np.ndarray,
    look: Look,
    hints: Sequence[Hint] = (),
    lightness: np.ndarray | None = None,
) -> np.ndarray:
    """Return a photo in colour.

    Args:
      photo: whose lightness is kept.
      ab: float32 (S, S, 2), as predicted, in CIE units over the whole picture.
      look: how the prediction is shown.
      hints: within the picture; they are followed after palette and saturation.
      lightness: float32 (S, S), 0..100, to be shown instead of the photo's.

    Returns:
      (H, W, 3) of the type of the photo's pixels, not laid on white.
    """
    if look.palette:
        ab = look.palette.steer(ab, square_lightness(photo, len(ab)))
    field = create_field(photo, ab * np.float32(look.saturation), look, hints)
    return join_lightness(photo.pixels, field, lightness)


def squash(photo: Photo, size: int) -> np.ndarray:
    """Return uint8 (size, size, 3), as training saw it; see `data.decode.squash`."""
    image = Image.fromarray(to_8_bits(photo.on_white()))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def square_lightness(photo: Photo, size: int) -> np.ndarray:
    """Return the lightness of a squashed photo, float32 (size, size) in 0..100."""
    return np.asarray(_find_lightness(squash(photo, size)))


def create_field(
    photo: Photo, ab: np.ndarray, look: Look, hints: Sequence[Hint] = ()
) -> ColorField:
    """Return small ab (S, S, 2) as a field that can be evaluated at the photo's size."""
    if look.upsample == "bicubic" and not hints:
        return ColorField(ab)
    side = working_size(len(ab))
    lightness = square_lightness(photo, side)
    large = np.asarray(_enlarge(ab, lightness))
    if hints:
        height, width, _ = photo.pixels.shape
        large = spread_hints(hints, large, lightness, height, width)
    if look.upsample == "bicubic":
        return ColorField(large)
    slope, offset = _fit(large, lightness)
    return ColorField(np.asarray(offset), np.asarray(slope))


@partial(keep_program, identity="lightness of a picture")
@jax.jit
def _find_lightness(image: jax.Array) -> jax.Array:
    return color.rgb_to_lab(color.to_rgb(image))[..., 0]
