"""What colorize is asked for: depth, alpha, metadata, hints, reference, upsampling."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from skimage.color import rgb2lab

from colorjax.cli import main
from colorjax.colorize.pictures import read_photo, save_picture
from conftest import save_picture as save

RED_AB = rgb2lab(np.array([0xC0, 0x30, 0x28]) / 255.0)[1:]


@pytest.fixture(scope="module")
def constant_model(model_folder: Path) -> str:
    """A model that predicts ab = (20, -15) everywhere."""
    return f"{model_folder}@1"


def colorize(*arguments: object) -> int:
    return main(["colorize", *map(str, arguments)])


def read_lab(path: str) -> np.ndarray:
    return rgb2lab(np.asarray(Image.open(path).convert("RGB")))


def test_depth_alpha_and_metadata_go_with_the_picture(
    work: Path, constant_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Gardener"
    pixels = np.full((8, 20, 3), 30_000, np.uint16)
    alpha = np.linspace(0, 65535, 20).astype(np.uint16)[None].repeat(8, 0)
    save_picture(pixels, Path("deep.png"), alpha)
    Image.new("RGBA", (20, 8), (130, 130, 130, 99)).save("flat.png", exif=exif)
    assert colorize("deep.png", "flat.png", "--model", constant_model, "--keep-metadata") == 0
    deep, flat = read_photo("colorized/deep.png"), read_photo("colorized/flat.png")
    assert (deep.pixels.dtype, flat.pixels.dtype) == (np.uint16, np.uint8)
    np.testing.assert_array_equal(deep.alpha, alpha)
    assert flat.alpha is not None
    assert (flat.alpha == 99).all()
    assert Image.open("colorized/flat.png").getexif()[ExifTags.Base.Artist] == "A. Gardener"
    arguments = ("--model", constant_model, "--format", "jpg", "--output", "jpegs")
    assert colorize("flat.png", *arguments) == 0
    assert "laid on white" in capsys.readouterr().err
    assert not Image.open("jpegs/flat.jpg").getexif()


def test_hints_place_colors_in_the_upright_picture(work: Path, constant_model: str) -> None:
    pixels = np.full((60, 90), 120, np.uint8)
    pixels[30:] = 200
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # shown 60 wide and 90 high, the dark half on the right
    Image.fromarray(pixels).save("turned.png", exif=exif)
    hints = ["--hint", "55,80,#c03028", "--hint", "50,10,#c03028"]
    assert colorize("turned.png", *hints, "--model", constant_model) == 0
    lab = read_lab("colorized/turned.png")
    assert lab.shape == (90, 60, 3)
    np.testing.assert_allclose(lab[80, 55, 1:], RED_AB, atol=2.0)
    np.testing.assert_allclose(lab[:, :25, 1:].mean(axis=(0, 1)), (20, -15), atol=1.0)


def test_a_reference_gives_its_palette(work: Path, constant_model: str) -> None:
    save("a.png")
    Image.new("RGB", (5, 5), "#c03028").save("red.png")
    assert colorize("a.png", "--reference", "red.png", "--model", constant_model) == 0
    ab = read_lab("colorized/a.png")[..., 1:].mean(axis=(0, 1))
    np.testing.assert_allclose(ab, RED_AB, atol=2.0)


def test_ways_of_enlarging_differ_where_there_are_edges(work: Path, model_folder: Path) -> None:
    save("a.png", 40, 60)
    for name in ("guided", "bicubic"):
        options = ("--upsample", name, "--output", name, "--saturation", 5)
        assert colorize("a.png", "--model", model_folder, *options) == 0
    difference = np.abs(read_lab("guided/a.png") - read_lab("bicubic/a.png"))
    assert difference[..., 1:].max() > 1
    assert difference[..., 0].max() < 1


def test_what_is_done_is_counted_in_one_line(
    work: Path, constant_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(3):
        save(f"in/{index}.png", seed=index)
    assert colorize("in", "--model", constant_model) == 0
    save("in/3.png", seed=3)
    capsys.readouterr()
    assert colorize("in", "--model", constant_model) == 0
    output = capsys.readouterr()
    assert output.out == "in/3.png -> colorized/3.png\n"
    assert output.err.startswith("3 pictures skipped")
    assert len(output.err.splitlines()) == 1


def test_damaged_pictures_are_named_one_line_each(
    work: Path, constant_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    save("in/good.png", 64, 64)
    save("in/long.png", 1, 5000)
    Image.open("in/good.png").save("whole.jpg")
    Path("in/cut.jpg").write_bytes(Path("whole.jpg").read_bytes()[:-400])
    Path("in/text.jpg").write_text("text")
    Path("in/empty.bmp").touch()
    huge = bytearray(Path("in/good.png").read_bytes())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    Path("in/huge.png").write_bytes(huge)
    assert colorize("in", "--model", constant_model) == 1
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == [
        "in/cut.jpg",
        "in/empty.bmp",
        "in/huge.png",
        "in/text.jpg",
    ]
    assert sorted(path.name for path in Path("colorized").iterdir()) == ["good.png", "long.png"]


def test_a_result_that_can_not_be_written_is_named(
    work: Path, constant_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save("wide.png", 1, 70_000)  # more than a JPEG holds
    save("good.png")
    arguments = ("wide.png", "good.png", "--model", constant_model, "--format", "jpg")
    assert colorize(*arguments) == 1
    assert "colorized/wide.jpg can't be written" in capsys.readouterr().err
    assert [path.name for path in Path("colorized").iterdir()] == ["good.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--hint", "20,0,#ff0000"], "outside the picture"),
        (["a.png", "--hint", "2,2,red"], "write x,y,#rrggbb"),
        (["a.png", "--hint", "2,2,#ff00"], "as #rrggbb"),
        (["a.png", "b.png", "--hint", "2,2,#ff0000"], "one picture"),
        (["a.png", "--reference", "nowhere.jpg"], "nowhere.jpg can't be read"),
        (["a.png", "--upsample", "nearest"], "invalid choice"),
    ],
)
def test_misuse(
    work: Path,
    constant_model: str,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save("a.png")
    save("b.png")
    assert colorize(*arguments, "--model", constant_model) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert sorted(path.name for path in work.iterdir()) == ["a.png", "b.png"]
