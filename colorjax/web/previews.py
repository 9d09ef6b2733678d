"""Small pictures for the page: what is sent, its grays, what came of it, and where hints lie."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from colorjax.colorize.hints import Hint
from colorjax.colorize.join import join_lightness
from colorjax.colorize.pictures import Photo, to_8_bits
from colorjax.colorize.upsampling import ColorField
from colorjax.data import garden

# Pixels of the longer side. The page shows no picture larger than it is, and small ones are hard to
# click on.
_LEAST, _MOST = 800, 1600
_QUALITY = 92  # of JPEG: what is downloaded is another file
# Pictures of the garden, chosen for looking unlike each other.
_EXAMPLES = (7, 12, 3, 8, 15, 9)
_EXAMPLE_SIDE = 512


def resize(photo: Photo) -> np.ndarray:
    """Return a photo, laid on white, as uint8 (h, w, 3) of a size that suits a page."""
    image = Image.fromarray(to_8_bits(photo.on_white()))
    longer = max(image.size)
    scale = min(max(longer, _LEAST), _MOST) / longer
    size = [max(1, round(side * scale)) for side in image.size]
    return np.asarray(image.resize((size[0], size[1]), Image.Resampling.BICUBIC))


def to_gray(image: np.ndarray) -> np.ndarray:
    """Return uint8 (h, w, 3) without colour, at its own Lab lightness."""
    return join_lightness(image, ColorField(np.zeros((1, 1, 2), np.float32)))


def mark_hints(image: np.ndarray, hints: Sequence[Hint], scale: float) -> np.ndarray:
    """Return a small picture (h, w, 3) with a dot of its colour where each hint lies.

    Args:
      image: of the photo.
      hints: in pixels of the photo.
      scale: pixels of the small picture for one of the photo.
    """
    marked = Image.fromarray(image)
    draw = ImageDraw.Draw(marked)
    radius = max(4.0, max(marked.size) / 60)
    for hint in hints:
        center = ((hint.x + 0.5) * scale, (hint.y + 0.5) * scale)
        # A ring in black and white is seen on every ground.
        for size, color in ((1.0, "black"), (0.85, "white"), (0.65, hint.color)):
            draw.circle(center, radius * size, fill=color)
    return np.asarray(marked)


def save_preview(image: np.ndarray, path: Path) -> str:
    """Write a small picture as JPEG, and return its path."""
    Image.fromarray(image).save(path, quality=_QUALITY)
    return str(path)


def draw_examples(folder: Path) -> list[Path]:
    """Write gray drawings of flowers into a folder, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)

    def draw(index: int) -> Path:
        path = folder / f"{garden.kind_of(index).replace(' ', '-')}.png"
        Image.fromarray(garden.draw(index, _EXAMPLE_SIDE)).convert("L").save(path)
        return path

    with ThreadPoolExecutor() as pool:
        return list(pool.map(draw, _EXAMPLES))
