"""Pictures in: whatever Pillow reads, upright and in sRGB; pictures out: whole or not at all."""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from colorjax.data.decode import explain, to_rgb
from colorjax.errors import UserError
from colorjax.files import write_whole

Picture = Image.Image | np.ndarray | str | os.PathLike[str]


def read_picture(picture: Picture) -> np.ndarray:
    """Return a picture as uint8 (H, W, 3), upright and in sRGB.

    EXIF orientation is applied, an ICC profile is converted to sRGB, transparent parts are laid
    on white, 16 bits become 8, and of several frames the first is taken.

    Args:
      picture: a path, a PIL image, or uint8 (H, W) or (H, W, 3).

    Raises:
      UserError: if it can't be read, or is an array of another kind.
    """
    if not isinstance(picture, Image.Image | str | os.PathLike):
        return _check_array(np.asarray(picture))
    try:
        if isinstance(picture, Image.Image):
            return _to_srgb(picture)
        # Pillow warns of large pictures, and refuses those of more than 179 million pixels.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(picture) as image:
                return _to_srgb(image)
    except Exception as error:  # damaged files raise many kinds
        name = "The image" if isinstance(picture, Image.Image) else os.fspath(picture)
        raise UserError(f"{name} can't be read: {explain(error)}.") from error


def save_picture(image: np.ndarray, path: Path) -> None:
    """Write uint8 (H, W, 3) as the extension says; the file appears whole or not at all.

    Raises:
      OSError: if it can't be written.
      ValueError: if the format can't hold it.
    """
    options: dict[str, Any] = {"quality": 95} if path.suffix == ".jpg" else {}
    write_whole(path, lambda draft: Image.fromarray(image).save(draft, **options))


def _check_array(array: np.ndarray) -> np.ndarray:
    is_gray, is_rgb = array.ndim == 2, array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (is_gray or is_rgb) or not array.size:
        raise UserError(
            f"A picture is a uint8 array (H, W) or (H, W, 3), not {array.dtype} {array.shape}."
        )
    return np.stack([array] * 3, axis=-1) if is_gray else array


def _to_srgb(image: Image.Image) -> np.ndarray:
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    # Lcms takes 8 bits a channel, without palette or transparency.
    if image.mode not in ("L", "RGB", "CMYK", "LAB") or image.has_transparency_data:
        gray = image.mode.startswith("I") or image.mode in ("F", "LA")
        image = to_rgb(image)
        image = image.convert("L") if gray else image
    converted = _convert_profile(image, profile) if profile else None
    return np.asarray(to_rgb(image) if converted is None else converted)


def _convert_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Return the image in sRGB; None for one that is in sRGB, or whose profile is of no use."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
