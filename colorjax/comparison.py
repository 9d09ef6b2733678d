"""A photo as several models colour it: measured, and drawn as rows of a sheet."""

from collections.abc import Sequence

import jax
import numpy as np

from colorjax import color, evaluation, metrics, sheets
from colorjax.colorize.colorizer import Colorizer
from colorjax.sheets import Cell


def compare_photo(
    image: np.ndarray, colorizers: Sequence[Colorizer], side: int, *, heat_maps: bool = False
) -> list[list[Cell]]:
    """Return a row of a sheet: grey, as each model colours the photo, original.

    Under each stands its PSNR to the photo and its colourfulness, both at the photo's own size.

    Args:
      image: the photo, uint8 (H, W, 3); the models see its lightness alone.
      colorizers: of the models.
      side: of the square that each picture is fitted in, in pixels.
      heat_maps: whether to add a second row, of heat maps of a and b: those that each model
        predicts, and the photo's own.
    """
    gray = evaluation.gray_images(image)
    colored = [colorizer.colorize(image) for colorizer in colorizers]
    pictures = [_measured_cell(each, image, side) for each in (gray, *colored)]
    colorfulness = float(_measure(image, image)[1])
    original = Cell(sheets.fit(image, side), ("", _describe_colorfulness(colorfulness)))
    rows = [[*pictures, original]]
    if heat_maps:
        predictions = [colorizer.predict_ab(image) for colorizer in colorizers]
        rows.append(_heat_map_row(predictions, image, side))
    return rows


def make_titles(models: Sequence[str]) -> list[str]:
    """Return the titles of the columns of `compare_photo`."""
    return ["grey", *models, "original"]


def _measured_cell(image: np.ndarray, original: np.ndarray, side: int) -> Cell:
    psnr, colorfulness = (float(value) for value in _measure(image, original))
    quality = f"PSNR {psnr:.2f} dB" if np.isfinite(psnr) else "PSNR ∞"
    return Cell(sheets.fit(image, side), (quality, _describe_colorfulness(colorfulness)))


def _describe_colorfulness(value: float) -> str:
    return f"colourfulness {value:.1f}"


def _heat_map_row(predictions: Sequence[np.ndarray], image: np.ndarray, side: int) -> list[Cell]:
    small = sheets.fit(image, side // 2 - 2)
    height, width, _ = small.shape
    legend = Cell(
        sheets.draw_heat_legend(height, side), ("left a: green to red", "right b: blue to yellow")
    )
    predicted = [
        Cell(sheets.draw_heat_maps(ab, height, width), ("predicted a, b",)) for ab in predictions
    ]
    true = sheets.draw_heat_maps(np.asarray(_true_ab(small)), height, width)
    return [legend, *predicted, Cell(true, ("true a, b",))]


@jax.jit
def _measure(image: jax.Array, original: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return PSNR in dB and colourfulness; compiled once for each size of photo."""
    rgb = color.to_rgb(image)
    return metrics.psnr(rgb, color.to_rgb(original)), metrics.colorfulness(rgb)


@jax.jit
def _true_ab(image: jax.Array) -> jax.Array:
    return color.rgb_to_lab(color.to_rgb(image))[..., 1:]
