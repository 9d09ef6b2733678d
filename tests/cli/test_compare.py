"""`colorjax compare`: what stands where on the sheet, which photos, and what goes wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorjax import Colorizer, configuration
from colorjax.cli import main
from conftest import save_picture as save

SIDE, MARGIN = 192, 8  # pixels


def compare(*arguments: object, output: str = "sheet.png") -> int:
    return main(["compare", *map(str, arguments), "--output", output])


def columns_of(path: str) -> list[np.ndarray]:
    """Return the columns of a sheet; what lies between them is white."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    count = (sheet.shape[1] - MARGIN) // (SIDE + MARGIN)
    assert sheet.shape[1] == count * (SIDE + MARGIN) + MARGIN
    starts = [MARGIN + column * (SIDE + MARGIN) for column in range(count)]
    assert all((sheet[:, start - MARGIN : start] == 255).all() for start in starts)
    return [sheet[:, start : start + SIDE] for start in starts]


def find_rows(column: np.ndarray, picture: np.ndarray) -> list[int]:
    """Return at which heights a picture as wide as the column stands in it."""
    height = len(picture)
    tops = range(len(column) - height + 1)
    return [top for top in tops if np.array_equal(column[top : top + height], picture)]


def test_each_photo_stands_grey_coloured_by_each_model_and_as_it_is(
    work: Path, model_folder: Path
) -> None:
    # As large as the cells are, so that nothing is resampled.
    save("photos/a.png", 96, SIDE)
    save("photos/b.png", 60, SIDE, seed=1)
    models = [f"{model_folder}@1", str(model_folder)]
    assert compare("--models", *models, "--images", "photos") == 0
    gray, first, second, original = columns_of("sheet.png")
    photos = [np.asarray(Image.open(f"photos/{name}.png")) for name in "ab"]
    tops = [find_rows(original, photo) for photo in photos]
    assert [len(top) for top in tops] == [1, 1]
    assert tops[0] < tops[1]
    for model, column in zip(models, (first, second), strict=True):
        colorizer = Colorizer.load(model)
        assert [find_rows(column, colorizer.colorize(photo)) for photo in photos] == tops
    for (top,), photo in zip(tops, photos, strict=True):
        pixels = gray[top : top + len(photo)]
        assert (pixels == pixels[..., :1]).all()
        assert find_rows(gray, pixels) == [top]


def test_heat_maps_make_the_sheet_higher_and_no_wider(work: Path, model_folder: Path) -> None:
    save("a.png")
    arguments = ("--models", model_folder, "--images", "a.png")
    assert compare(*arguments, output="plain.png") == 0
    assert compare(*arguments, "--heat-maps", output="maps.JPG") == 0
    plain, maps = Image.open("plain.png"), Image.open("maps.JPG")
    assert (plain.format, maps.format) == ("PNG", "JPEG")
    assert plain.width == maps.width
    assert maps.height > plain.height + 12 / 20 * SIDE / 2


def test_every_kth_picture_of_a_folder_at_its_own_size(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(7):
        save(f"photos/{seed}.png", 48 + seed, SIDE, seed)
    arguments = ("--models", model_folder, "--data", "folder:photos", "--split", "all")
    assert compare(*arguments, "--every", 3) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2.png: drawn",
        "5.png: drawn",
        "2 pictures -> sheet.png",
    ]
    original = columns_of("sheet.png")[-1]
    assert len(find_rows(original, np.asarray(Image.open("photos/5.png")))) == 1
    assert compare(*arguments, "--count", 3, "--overwrite") == 0
    assert "1.png: drawn\n3.png: drawn\n5.png: drawn\n3 pictures" in capsys.readouterr().out


def test_another_source_gives_squares(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model_folder, "copy")
    config = configuration.read_config(Path("copy"))
    config.data.garden_images, config.data.cache_dir = 8, "cache"
    configuration.save_config(config, Path("copy"))
    arguments = ("--models", "copy", "--data", "garden", "--split", "all", "--count", 2)
    assert compare(*arguments, "--size", 24) == 0
    assert capsys.readouterr().out.startswith("garden-000003: drawn\ngarden-000007: drawn\n")


def test_failed_inputs_are_named_and_the_others_drawn(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/good.png")
    Path("in/text.jpg").write_text("text")
    assert compare("--models", model_folder, "--images", "in", "missing.jpg") == 1
    errors = capsys.readouterr().err.splitlines()
    for name in ("in/text.jpg", "missing.jpg"):
        assert sum(line.startswith(f"{name}: failed, ") for line in errors) == 1
    assert len(columns_of("sheet.png")) == 3


def test_only_failures_leave_no_sheet(work: Path, model_folder: Path) -> None:
    Path("text.jpg").write_text("text")
    assert compare("--models", model_folder, "--images", "text.jpg", output="new/a.png") == 1
    assert not Path("new").exists()


def test_a_sheet_among_the_photos_is_none_of_them(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/a.png")
    arguments = ("--models", model_folder, "--images", "in")
    for _ in range(2):
        assert compare(*arguments, "--overwrite", output="in/sheet.png") == 0
        assert capsys.readouterr().out == "in/a.png: drawn\n1 pictures -> in/sheet.png\n"


@pytest.mark.parametrize(
    ("arguments", "output", "message"),
    [
        (["--models", "nowhere", "--images", "a.png"], "s.png", "There is no model 'nowhere'"),
        (["--models", "MODEL", "nowhere", "--images", "a.png"], "s.png", "There is no model"),
        (["--models", "MODEL@9", "--images", "a.png"], "s.png", "no checkpoint of step 9"),
        (["--models", "MODEL", "--images", "nowhere"], "s.png", "There is no file or folder"),
        (["--models", "MODEL"], "s.png", "--images --data is required"),
        (["--models", "MODEL", "--images", "a.png", "--data", "garden"], "s.png", "not allowed"),
        (["--models", "MODEL", "--images", "a.png"], "there.png", "--overwrite"),
        (["--models", "MODEL", "--images", "a.png"], "a.png/s.png", "can't be written"),
        (["--models", "MODEL", "--images", "a.png"], "/proc/s.png", "can't be written"),
        (["--models", "MODEL", "--images", "a.png"], "folder.png", "is a folder"),
        (["--models", "MODEL", "--images", "a.png"], "s.gif", "no PNG or JPEG"),
        (["--models", "MODEL", "--images", "a.png", "--overwrite"], "a.png", "itself an input"),
        (["--models", "MODEL", "--images", "a.png", "--side", "3"], "s.png", "give 48 to 2048"),
        (
            ["--models", "MODEL", "--images", "a.png", "--every", "2"],
            "s.png",
            "--every applies only with --data",
        ),
        (
            ["--models", "MODEL", "--images", "a.png", "--count", "1"],
            "s.png",
            "--count applies only with --data",
        ),
        (
            ["--models", "MODEL", "--images", "a.png", "--split", "test"],
            "s.png",
            "--split applies only with --data",
        ),
        (
            ["--models", "MODEL", "--images", "a.png", "--size", "64"],
            "s.png",
            "--size applies only with --data",
        ),
        (
            ["--models", "MODEL", "--data", "folder:one", "--split", "all", "--size", "64"],
            "s.png",
            "--size applies only with --data tfds:NAME or garden",
        ),
        (["--models", "MODEL", "--data", "gardn"], "s.png", "--data is 'gardn'"),
        (
            ["--models", "MODEL", "--data", "folder:one", "--split", "all", "--every", "2"],
            "s.png",
            "takes none of 1",
        ),
    ],
)
def test_misuse_is_one_sentence_and_writes_nothing(
    work: Path,
    model_folder: Path,
    arguments: list[str],
    output: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a.png", "there.png", "one/b.png"):
        save(name)
    Path("folder.png").mkdir()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    arguments = [text.replace("MODEL", str(model_folder)) for text in arguments]
    assert compare(*arguments, output=output) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
