"""The 16 bits a channel that Pillow keeps only of gray pictures."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from colorjax.data.decode import make_upright, open_image

# Pillow decodes 16-bit colour to the upper byte of each sample; told that the file's byte order is
# the other one, it decodes to the lower byte.
_NATIVE, _OTHER = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_OTHER_ORDER = {"L": "B", "B": "L", "N": _OTHER}
# In memory Pillow keeps a PNG's 16-bit gray with alpha as RGBA; its four bytes fit in just so.
_DEEP_GRAY_WITH_ALPHA = "LA;16B"


def is_deep_color(image: Image.Image) -> bool:
    """Return whether Pillow would drop the lower 8 bits of this opened file's samples."""
    return _raw_mode(image).partition(";")[0] in ("RGB", "RGBA", "RGBX", "LA") and (
        ";16" in _raw_mode(image)
    )


def check_planes(image: Image.Image) -> None:
    """Check that Pillow reads the file right: it takes separate planes of 16 bits for 8.

    Raises:
      ValueError: if it doesn't.
    """
    bits = getattr(image, "tag_v2", {}).get(258, (8,))
    if image.mode in ("RGB", "RGBA", "CMYK") and max(bits) > 8 and ";16" not in _raw_mode(image):
        raise ValueError("its 16 bits lie in separate planes, which Pillow can't read")


def read_deep_color(path: Path) -> np.ndarray:
    """Return an upright picture as uint16 (H, W, 3) or, with alpha, (H, W, 4).

    Args:
      path: of a file for which `is_deep_color` holds.

    Raises:
      Exception: whatever Pillow raises for a file that is damaged.
    """
    with open_image(path) as image:
        raw_mode = _raw_mode(image)
    if raw_mode == _DEEP_GRAY_WITH_ALPHA:
        values = _decode(path, "RGBA").view(">u2").astype(np.uint16)
        return values[..., [0, 0, 0, 1]]
    layout, _, order = raw_mode.partition(";16")
    pixels = _decode(path, raw_mode).astype(np.uint16)
    pixels <<= 8
    pixels |= _decode(path, f"{layout};16{_OTHER_ORDER[order]}")
    return pixels


def _decode(path: Path, raw_mode: str) -> np.ndarray:
    """Return the upright picture as uint8 if the samples of its file were laid out like that."""
    with open_image(path) as image:
        image.tile = [
            tile._replace(args=_with_raw_mode(tile.args, raw_mode)) for tile in image.tile
        ]
        make_upright(image)
        return np.asarray(image)


def _with_raw_mode(arguments: str | tuple | None, raw_mode: str) -> str | tuple:
    return (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode


def _raw_mode(image: Image.Image) -> str:
    """Return how samples are laid out in an opened file, as Pillow writes it; '' if unknown."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""
