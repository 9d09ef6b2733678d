"""Reading pictures of every kind that Pillow knows, and writing them whole."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from colorjax.colorize.pictures import read_picture, save_picture
from colorjax.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = RGB[..., 0]


def as_rgb(gray: np.ndarray) -> np.ndarray:
    return np.stack([gray] * 3, axis=-1)


def swapped_profile() -> bytes:
    """Return the profile of an sRGB whose first channel is green and whose second is red."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"....", 1).replace(b"gXYZ", b"rXYZ", 1)
    profile = profile.replace(b"....", b"gXYZ", 1)
    return profile.replace("sRGB".encode("utf-16-be"), "gRBG".encode("utf-16-be"))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GRAY), as_rgb(GRAY)),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(RGB // 86 * 80).quantize(32), RGB // 86 * 80),
        (Image.fromarray(GRAY.astype(np.uint16) * 257), as_rgb(GRAY)),
        (Image.fromarray(255 - np.dstack([RGB, 0 * GRAY + 255]), mode="CMYK"), RGB),
        (Image.fromarray(np.dstack([RGB, 0 * GRAY + 255])), RGB),
        (Image.fromarray(np.dstack([RGB, 0 * GRAY])), 0 * RGB + 255),
        (Image.fromarray(np.dstack([GRAY, 0 * GRAY + 255])), as_rgb(GRAY)),
        (Image.fromarray(GRAY > 99), as_rgb(np.where(GRAY > 99, 255, 0))),
    ],
    ids=["gray", "rgb", "palette", "16-bit", "cmyk", "opaque", "clear", "gray-alpha", "1-bit"],
)
def test_modes(image: Image.Image, expected: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    image.save(path)
    for picture in (path, image):
        result = read_picture(picture)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, expected)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated clockwise by 90 degrees
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "turned.png"), np.rot90(RGB, -1))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_icc_profile_is_respected(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB[:2, :2]).convert(mode)
    image.save(tmp_path / "profiled.png", icc_profile=swapped_profile())
    result = read_picture(tmp_path / "profiled.png").astype(int)
    expected = np.asarray(image.convert("RGB")).astype(int)[..., [1, 0, 2]]
    assert np.abs(result - expected).max() <= 2


def test_srgb_profile_changes_nothing_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile at all"):
        Image.fromarray(RGB).save(tmp_path / "profiled.png", icc_profile=profile)
        np.testing.assert_array_equal(read_picture(tmp_path / "profiled.png"), RGB)


@pytest.mark.parametrize(
    "array", [RGB / 255.0, RGB[None], RGB[..., :2], np.zeros((0, 4, 3), np.uint8)]
)
def test_arrays_of_another_kind(array: np.ndarray) -> None:
    with pytest.raises(UserError, match="uint8 or uint16 array"):
        read_picture(array)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "empty.png").touch()
    Image.fromarray(RGB).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:100])
    for name in ("text.jpg", "empty.png", "cut.png", "missing.png", "."):
        with pytest.raises(UserError, match="can't be read: "):
            read_picture(tmp_path / name)


def test_saving_leaves_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "new" / "picture.png"
    save_picture(RGB, target)
    np.testing.assert_array_equal(np.asarray(Image.open(target)), RGB)
    assert [path.name for path in target.parent.iterdir()] == ["picture.png"]
    with pytest.raises((OSError, ValueError)):  # JPEG ends at 65,500 pixels
        save_picture(np.zeros((1, 70_000, 3), np.uint8), target.with_suffix(".jpg"))
    assert [path.name for path in target.parent.iterdir()] == ["picture.png"]
