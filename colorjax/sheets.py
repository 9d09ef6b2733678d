"""Pictures side by side on one sheet."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

_GAP = 4  # pixels of white between pictures


def make_grid(rows: Sequence[np.ndarray]) -> Image.Image:
    """Return a sheet of pictures with a narrow gap between them.

    Args:
      rows: each uint8 (N, H, W, 3), all of one shape.
    """
    count, height, width, _ = rows[0].shape
    sheet_shape = (len(rows) * (height + _GAP) + _GAP, count * (width + _GAP) + _GAP, 3)
    sheet = np.full(sheet_shape, 255, np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
            sheet[top : top + height, left : left + width] = image
    return Image.fromarray(sheet)
