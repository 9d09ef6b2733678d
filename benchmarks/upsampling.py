"""How much colour bleeds over edges when true colour is shrunk and enlarged again.

    python benchmarks/upsampling.py ../shared/data/flowers

Photos are shown small to the upsampling as a perfect network would see them: their own ab, shrunk
to a square. What comes back is compared with the truth, everywhere and near strong edges: the
tenth of the pixels where the true chroma changes most, and two pixels around.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from colorjax import color
from colorjax.colorize.painting import Look, create_field
from colorjax.colorize.pictures import Photo
from colorjax.colorize.upsampling import ColorField

# JPEG keeps chroma at half the size: halved photos are as sharp in it as in lightness.
CASES = ((1, 64), (2, 32), (2, 16))  # by how much photos are shrunk first, and the network's side


def main() -> None:
    """Print a line of figures for each case and way of enlarging."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=40, help="of photos, evenly chosen")
    arguments = parser.parse_args()
    paths = sorted(arguments.photos.rglob("*.jpg"))
    paths = paths[:: max(1, len(paths) // arguments.count)][: arguments.count]
    for shrink, side in CASES:
        photos = [_read(path, shrink) for path in paths]
        for upsample in ("bicubic", "guided"):
            near, everywhere = np.mean([_measure(p, side, upsample) for p in photos], axis=0)
            print(
                f"photos / {shrink}, side {side}, {upsample}: error near edges {near:.2f}, "
                f"everywhere {everywhere:.2f}",
                flush=True,
            )


def _read(path: Path, shrink: int) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    size = image.width // shrink, image.height // shrink
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def _measure(image: np.ndarray, side: int, upsample: str) -> tuple[float, float]:
    """Return the mean error of ab near edges and everywhere, in CIE units."""
    lab = np.asarray(color.rgb_to_lab(color.to_rgb(image)))
    square = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    small = np.asarray(color.rgb_to_lab(color.to_rgb(np.asarray(square))))[..., 1:]
    result = _evaluate(create_field(Photo(image), small, Look(upsample=upsample)), lab[..., :1])
    error = np.linalg.norm(result - lab[..., 1:], axis=-1)
    return float(error[_find_edges(lab[..., 1:])].mean()), float(error.mean())


def _evaluate(field: ColorField, lightness: np.ndarray) -> np.ndarray:
    """Return the field's ab at the size of the lightness (H, W, 1)."""
    offset = _resize(field.offset, lightness.shape)
    if field.slope is None:
        return offset
    return _resize(field.slope, lightness.shape) * lightness + offset


def _resize(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    size = (shape[1], shape[0])
    planes = [Image.fromarray(np.ascontiguousarray(values[..., i])) for i in (0, 1)]
    return np.dstack([np.asarray(p.resize(size, Image.Resampling.BICUBIC)) for p in planes])


def _find_edges(ab: np.ndarray) -> np.ndarray:
    change = np.hypot(*(ndimage.gaussian_gradient_magnitude(ab[..., i], 1.0) for i in (0, 1)))
    return ndimage.binary_dilation(change > np.percentile(change, 90), iterations=2)


if __name__ == "__main__":
    main()
