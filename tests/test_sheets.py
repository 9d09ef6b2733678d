"""Sheets: pictures fitted, titles kept within their columns, numbers as colours."""

import matplotlib
import numpy as np
import pytest

from colorjax import sheets
from colorjax.sheets import Cell

PICTURE = np.full((30, 100, 3), 60, np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(300, 150, (64, 32)), (20, 40, (32, 64)), (1, 500, (1, 64)), (64, 64, (64, 64))],
)
def test_pictures_fill_the_cell_and_keep_their_aspect(height, width, expected):
    fitted = sheets.fit(np.full((height, width, 3), 77, np.uint8), 64)
    assert fitted.shape == (*expected, 3)
    assert (fitted == 77).all()


@pytest.mark.parametrize("title", ["wgan", "w" * 60, "checkpoints/" + "deep/" * 40 + "wgan@2889"])
def test_titles_stay_within_their_columns(title):
    cells = [Cell(PICTURE), Cell(PICTURE)]
    sheet = np.asarray(sheets.draw_sheet([title, title], [cells], side=100))
    assert sheet.shape[1] == 2 * (100 + 8) + 8
    header = sheet[: -30 - 8]
    for margin in (header[:, :8], header[:, 108:116], header[:, 216:]):
        assert (margin == 255).all()
    assert (header[:, 8:108] < 100).any()
    np.testing.assert_array_equal(header[:, 8:108], header[:, 116:216])


def test_titles_that_differ_in_their_step_look_different():
    long = "checkpoints/" + "deep/" * 40 + "wgan@"
    sheet = sheets.draw_sheet([long + "2889", long + "3210"], [[Cell(PICTURE)] * 2], side=100)
    pixels = np.asarray(sheet)
    assert (pixels[:, 8:108] != pixels[:, 116:216]).any()


def test_lines_under_a_picture_make_room_for_themselves():
    rows = [[Cell(PICTURE, ("one", "two"))], [Cell(PICTURE, ("PSNR 23.41 dB, and much more",))]]
    sheet = sheets.draw_sheet(["title"], rows, side=100)
    bare = sheets.draw_sheet(["title"], [[Cell(PICTURE)], [Cell(PICTURE)]], side=100)
    assert sheet.width > bare.width == 100 + 2 * 8
    assert sheet.height > bare.height


def test_heat_maps_show_both_signs_about_white():
    ab = np.zeros((2, 2, 2), np.float32)
    ab[..., 0], ab[..., 1] = 50.0, -250.0
    pair = sheets.draw_heat_maps(ab, height=20, width=30)
    assert pair.shape[0] == 20
    a, b = pair[1:-1, 1:29], pair[1:-1, -29:-1]
    colors = matplotlib.colormaps["RdBu_r"]([0.75, 0.0], bytes=True)[:, :3]
    assert np.abs(a.astype(int) - colors[0]).max() <= 2
    assert np.abs(b.astype(int) - colors[1]).max() <= 2
    assert colors[0, 0] > colors[0, 2]  # red above 0
    assert colors[1, 0] < colors[1, 2]  # blue below
    neutral = sheets.draw_heat_maps(np.zeros((2, 2, 2)), height=20, width=30)[1:-1, 1:29]
    assert neutral.min() > 240


@pytest.mark.parametrize(("height", "width"), [(1, 48), (96, 192)])
def test_the_legend_runs_from_blue_to_red(height, width):
    legend = sheets.draw_heat_legend(height, width).astype(int)
    assert legend.shape[1] == width
    assert legend.shape[0] >= height
    bar = legend[np.ptp(legend, axis=(1, 2)).argmax()]
    assert bar[2, 2] > bar[2, 0]
    assert bar[-3, 0] > bar[-3, 2]
