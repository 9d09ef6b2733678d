"""Pictures side by side on one sheet: with titles, words beneath, and heat maps of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from colorjax.errors import UserError
from colorjax.files import check_file, write_whole

HEAT_MAP_LIMIT = 100.0  # a and b beyond it look like it, in CIE units
SUFFIXES = (".png", ".jpg", ".jpeg")  # of the files that sheets are written to
_GAP = 4  # pixels of white between pictures
_MARGIN = 8  # pixels of white between the columns and rows of a titled sheet
_INK = (40, 40, 40)
_FRAME = (200, 200, 200)  # around heat maps, whose zero is nearly white
_ELLIPSIS = "…"


@dataclass(frozen=True)
class Cell:
    """A picture of a titled sheet, and the lines beneath it.

    Attributes:
      image: uint8 (h, w, 3).
      lines: of text; an empty one keeps its place.
    """

    image: np.ndarray
    lines: tuple[str, ...] = ()


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


def draw_sheet(titles: Sequence[str], rows: Sequence[Sequence[Cell]], side: int) -> Image.Image:
    """Return a sheet with a title over each column and lines under each picture.

    A title that is too long is broken, and shortened in its middle if two lines don't hold it.

    Args:
      titles: of the columns.
      rows: each with a cell for every column.
      side: no picture is higher or wider, in pixels.
    """
    font = _load_font(side)
    line_height = sum(font.getmetrics())
    texts = [line for row in rows for cell in row for line in cell.lines]
    width = max(side, *(int(np.ceil(font.getlength(text))) for text in ["", *texts]))
    headings = [_break_title(title, font, width) for title in titles]
    header = Cell(np.empty((0, 0, 3), np.uint8), ("",) * max(len(lines) for lines in headings))
    heights = [_cell_height(header, line_height)]
    heights += [max(_cell_height(cell, line_height) for cell in row) for row in rows]
    columns = [_MARGIN + column * (width + _MARGIN) for column in range(len(titles) + 1)]
    sheet = Image.new("RGB", (columns[-1], sum(heights) + (len(heights) + 1) * _MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    top = _MARGIN
    for left, lines in zip(columns, headings, strict=False):
        _write(pen, lines, (left + width / 2, top), font)
    for height, row in zip(heights, rows, strict=False):
        top += height + _MARGIN
        for left, cell in zip(columns, row, strict=False):
            picture = Image.fromarray(cell.image)
            sheet.paste(picture, (left + (width - picture.width) // 2, top))
            _write(pen, cell.lines, (left + width / 2, top + picture.height + _GAP), font)
    return sheet


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """Return a picture as large as a square of `side` pixels can hold, its aspect kept.

    Args:
      image: uint8 (H, W, 3).
      side: in pixels.
    """
    height, width, _ = image.shape
    scale = side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def draw_heat_maps(ab: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return heat maps of a and b beside one another: blue below 0, white at 0, red above.

    Args:
      ab: float (h, w, 2) in CIE units; resampled bicubically.
      height: of each, in pixels.
      width: likewise.

    Returns:
      uint8 (height, about twice the width, 3).
    """
    maps = []
    for plane in np.moveaxis(ab, -1, 0):
        values = Image.fromarray(np.ascontiguousarray(plane, np.float32))
        resized = values.resize((width, height), Image.Resampling.BICUBIC)
        maps.append(_frame(_color_heat(np.asarray(resized))))
    return np.concatenate([maps[0], np.full((height, _GAP, 3), 255, np.uint8), maps[1]], axis=1)


def draw_heat_legend(height: int, width: int) -> np.ndarray:
    """Return a bar of the heat maps' colours with its ends and middle labelled.

    Args:
      height: in pixels, at least; so much as the labels need.
      width: likewise.

    Returns:
      uint8 (height, width, 3).
    """
    font = _load_font(width)
    line_height = bar_height = sum(font.getmetrics())
    height = max(height, bar_height + _GAP + line_height)
    legend = Image.new("RGB", (width, height), "white")
    ramp = np.linspace(-HEAT_MAP_LIMIT, HEAT_MAP_LIMIT, width)
    bar = _frame(_color_heat(np.repeat(ramp[None], bar_height, axis=0)))
    top = (height - bar_height - _GAP - line_height) // 2
    legend.paste(Image.fromarray(bar), (0, top))
    pen = ImageDraw.Draw(legend)
    limit = f"{HEAT_MAP_LIMIT:g}"
    for share, anchor, text in ((0.0, "la", f"-{limit}"), (0.5, "ma", "0"), (1.0, "ra", limit)):
        pen.text((share * width, top + bar_height + _GAP), text, _INK, font, anchor=anchor)
    return np.asarray(legend)


def check_sheet_path(path: Path, option: str) -> None:
    """Check that a sheet may be written there; nothing is written.

    Args:
      path: of its file.
      option: of the command that names it, such as `--output`.

    Raises:
      UserError: if not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} is no PNG or JPEG: let {option} end in {', '.join(SUFFIXES)}.")
    check_file(path, option)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as its suffix says, whole or not at all.

    Raises:
      OSError: if it can't be written.
    """
    options: dict[str, Any] = {} if path.suffix.lower() == ".png" else {"quality": 92}
    write_whole(path, lambda draft: sheet.save(draft, **options))


def _color_heat(values: np.ndarray) -> np.ndarray:
    """Return uint8 (h, w, 3) for numbers (h, w)."""
    import matplotlib

    share = (values / HEAT_MAP_LIMIT + 1.0) / 2.0
    return matplotlib.colormaps["RdBu_r"](share, bytes=True)[..., :3].copy()


def _frame(image: np.ndarray) -> np.ndarray:
    image[[0, -1]] = image[:, [0, -1]] = _FRAME
    return image


@cache
def _load_font(side: int) -> ImageFont.FreeTypeFont:
    """Return a font that suits pictures of that side; Matplotlib's own knows more than Latin."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), min(max(side // 15, 9), 20))


def _cell_height(cell: Cell, line_height: int) -> int:
    gap = _GAP if cell.lines and len(cell.image) else 0
    return len(cell.image) + gap + len(cell.lines) * line_height


def _write(
    pen: ImageDraw.ImageDraw,
    lines: Sequence[str],
    top_middle: tuple[float, float],
    font: ImageFont.FreeTypeFont,
) -> None:
    middle, top = top_middle
    for line in lines:
        pen.text((middle, top), line, _INK, font, anchor="ma")
        top += sum(font.getmetrics())


def _break_title(title: str, font: ImageFont.FreeTypeFont, width: int) -> tuple[str, ...]:
    """Return the title in one or two lines that fit; its end, which may be a step, is kept."""
    shortened, dropped = title, 0
    while True:
        count = _count_fitting(shortened, font, width)
        first, rest = shortened[:count], shortened[count:]
        if font.getlength(rest) <= width:
            return (first, rest) if rest else (first,)
        dropped += 1
        kept = len(title) - dropped
        shortened = title[: kept // 3] + _ELLIPSIS + title[len(title) - (kept - kept // 3) :]


def _count_fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> int:
    """Return how many of the first characters fit; at least one does."""
    counts = range(len(text), 1, -1)
    return next((count for count in counts if font.getlength(text[:count]) <= width), 1)
