"""Reading pictures of every kind that Pillow knows, and writing them whole."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageFile

from colorjax.colorize.pictures import Photo, read_photo, read_picture, save_picture
from colorjax.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (6, 9, 4), dtype=np.uint16)


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


def write_png(
    path: Path, pixels: np.ndarray, color_type: int, *chunks: tuple[bytes, bytes]
) -> None:
    """Write uint16 (H, W, C) as a PNG whose rows take turns in the filters none, sub and up."""
    height, width, channels = pixels.shape
    data = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    left = np.pad(data, ((0, 0), (2 * channels, 0)))[:, : data.shape[1]]
    above = np.pad(data, ((1, 0), (0, 0)))[:-1]
    rows = [
        bytes([row % 3]) + (data[row] - (0 * data, left, above)[row % 3][row]).tobytes()
        for row in range(height)
    ]
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    body = zlib.compress(b"".join(rows))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, part in ((b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")):
        content += struct.pack(">I", len(part)) + kind + part
        content += struct.pack(">I", zlib.crc32(kind + part))
    path.write_bytes(content)


def test_sixteen_bits_of_a_png_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    write_png(path, DEEP, 6)
    photo = read_photo(path)
    np.testing.assert_array_equal(np.dstack([photo.pixels, photo.alpha]), DEEP)
    write_png(path, DEEP[..., :3], 2)
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, DEEP[..., :3])
    assert photo.alpha is None
    write_png(path, DEEP[..., :2], 4)
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, DEEP[..., [0, 0, 0]])
    np.testing.assert_array_equal(photo.alpha, DEEP[..., 1])
    write_png(path, DEEP[..., :1], 0)
    np.testing.assert_array_equal(read_photo(path).pixels, DEEP[..., [0, 0, 0]])


def test_the_key_color_of_a_deep_png_is_transparent(tmp_path: Path) -> None:
    path = tmp_path / "key.png"
    key = DEEP[2, 3, :3]
    write_png(path, DEEP[..., :3], 2, (b"tRNS", key.astype(">u2").tobytes()))
    alpha = read_photo(path).alpha
    assert alpha is not None
    assert alpha[2, 3] == 0
    assert (alpha == 65535).sum() == alpha.size - 1


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bits_of_a_tiff_are_kept(tmp_path: Path, byteorder: str, compression: str) -> None:
    path = tmp_path / "deep.tif"
    options = {"byteorder": byteorder, "compression": compression}
    tifffile.imwrite(path, DEEP[..., :3], photometric="rgb", **options)
    np.testing.assert_array_equal(read_photo(path).pixels, DEEP[..., :3])
    tifffile.imwrite(path, DEEP, photometric="rgb", extrasamples=["unassalpha"], **options)
    photo = read_photo(path)
    np.testing.assert_array_equal(np.dstack([photo.pixels, photo.alpha]), DEEP)
    tifffile.imwrite(path, DEEP[..., 0], photometric="minisblack", **options)
    np.testing.assert_array_equal(read_photo(path).pixels, DEEP[..., [0, 0, 0]])


def test_separate_deep_planes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "planes.tif"
    planes = np.moveaxis(DEEP[..., :3], -1, 0)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(UserError, match="separate planes"):
        read_photo(path)


def test_deep_pictures_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write_png(tmp_path / "turned.png", DEEP, 6, (b"eXIf", exif.tobytes()[6:]))
    photo = read_photo(tmp_path / "turned.png")
    np.testing.assert_array_equal(photo.pixels, np.rot90(DEEP, -1)[..., :3])
    np.testing.assert_array_equal(photo.alpha, np.rot90(DEEP, -1)[..., 3])


def gamma_profile() -> bytes:
    """Return a profile of sRGB's primaries, the first two swapped, with a gamma of 1.8."""
    profile = swapped_profile()
    (count,) = struct.unpack_from(">I", profile, 128)
    curve = b"curv" + struct.pack(">IIH", 0, 1, int(1.8 * 256)) + b"\0\0"
    tags = bytearray(profile)
    for i in range(count):
        name, _, _ = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        if name[1:] == b"TRC":
            struct.pack_into(">4sII", tags, 132 + 12 * i, name, len(profile), 14)
    whole = bytes(tags) + curve
    return struct.pack(">I", len(whole)) + whole[4:]


@pytest.mark.parametrize("make", [swapped_profile, gamma_profile])
def test_deep_colors_are_converted_by_their_profile(tmp_path: Path, make) -> None:
    pixels = (DEEP[..., :3] >> 8) * 257  # exact in 8 bits, so that lcms can tell what is right
    deflated = b"icc\0\0" + zlib.compress(make())
    write_png(tmp_path / "deep.png", pixels, 2, (b"iCCP", deflated))
    expected = ImageCms.profileToProfile(
        Image.fromarray((pixels >> 8).astype(np.uint8)),
        ImageCms.ImageCmsProfile(io.BytesIO(make())),
        ImageCms.createProfile("sRGB"),
    )
    result = read_photo(tmp_path / "deep.png").pixels
    assert result.dtype == np.uint16
    assert np.abs(result / 257.0 - np.asarray(expected)).max() <= 1.0


def test_alpha_is_kept(tmp_path: Path) -> None:
    alpha = np.arange(54, dtype=np.uint8).reshape(6, 9)
    palette = Image.fromarray(RGB // 86 * 80).quantize(32)
    palette.info["transparency"] = 0
    for name, image, expected in (
        ("rgba.png", Image.fromarray(np.dstack([RGB, alpha])), alpha),
        ("rgba.webp", Image.fromarray(np.dstack([RGB, alpha])), alpha),
        ("la.png", Image.fromarray(np.dstack([GRAY, alpha])), alpha),
        ("palette.png", palette, np.where(np.asarray(palette) == 0, 0, 255)),
    ):
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        np.testing.assert_array_equal(read_photo(tmp_path / name).alpha, expected)
    assert read_photo(tmp_path / "palette.png").pixels.shape == (6, 9, 3)


def test_only_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY)]
    for name in ("moving.gif", "moving.tif", "moving.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(read_picture(tmp_path / name), as_rgb(GRAY))


def test_lab_files_become_srgb(tmp_path: Path) -> None:
    lab = ImageCms.profileToProfile(
        Image.fromarray(RGB),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    lab.save(tmp_path / "lab.tif")
    difference = read_picture(tmp_path / "lab.tif").astype(int) - RGB
    assert np.abs(difference).mean() < 3  # 8 bits of a and b are coarse


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


@pytest.mark.parametrize("alpha", [None, DEEP[..., 3]])
def test_sixteen_bits_are_written(tmp_path: Path, alpha: np.ndarray | None) -> None:
    path = tmp_path / "deep.png"
    save_picture(DEEP[..., :3], path, alpha)
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, DEEP[..., :3])
    np.testing.assert_array_equal(photo.alpha, alpha)
    with Image.open(path) as image:  # Pillow checks checksums and filters
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), DEEP[..., :3] >> 8)


def test_a_jpeg_is_laid_on_white_in_8_bits(tmp_path: Path) -> None:
    pixels = np.full((16, 16, 3), 20_000, np.uint16)
    alpha = np.where(np.arange(16) < 8, 65535, 0)[None].repeat(16, 0).astype(np.uint16)
    save_picture(pixels, tmp_path / "a.jpg", alpha)
    result = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert np.abs(result[:, :8].astype(int) - 78).max() <= 2
    assert result[:, 8:].min() >= 253


def with_metadata(path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Gardener"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2001:02:03 04:05:06",
        ExifTags.Base.ColorSpace: 65535,
        ExifTags.Base.ExifImageWidth: 9,
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSAltitude: 12.0}
    xmp = b'<x tiff:Orientation="6">rose</x>'
    if path.suffix == ".tif":
        exif[ExifTags.Base.XMLPacket] = xmp
    options = {"xmp": xmp} if path.suffix in (".jpg", ".webp") else {}
    Image.fromarray(RGB).save(path, exif=exif.tobytes(), icc_profile=swapped_profile(), **options)


@pytest.mark.parametrize("source", ["in.jpg", "in.png", "in.tif", "in.webp"])
@pytest.mark.parametrize(("target", "depth"), [("out.png", 8), ("out.png", 16), ("out.jpg", 8)])
def test_metadata_is_kept_where_it_is_still_true(
    tmp_path: Path, source: str, target: str, depth: int
) -> None:
    with_metadata(tmp_path / source)
    photo = read_photo(tmp_path / source)
    pixels = photo.pixels if depth == 8 else photo.pixels.astype(np.uint16) * 257
    save_picture(pixels, tmp_path / target, metadata=photo.metadata)
    with Image.open(tmp_path / target) as image:
        assert isinstance(image, ImageFile.ImageFile)
        assert image.size == (6, 9)
        assert "icc_profile" not in image.info
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert exif[ExifTags.Base.Artist] == "A. Gardener"
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert details[ExifTags.Base.DateTimeOriginal] == "2001:02:03 04:05:06"
        assert details[ExifTags.Base.ColorSpace] == 1
        assert details[ExifTags.Base.ExifImageWidth] == 6
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAltitude] == 12.0
        if source != "in.png":
            xmp = image.info["xmp"]
            assert b"rose" in xmp
            assert b"Orientation" not in xmp


def test_metadata_is_left_out_unless_it_is_given(tmp_path: Path) -> None:
    with_metadata(tmp_path / "in.jpg")
    for name in ("out.png", "out.jpg"):
        save_picture(read_photo(tmp_path / "in.jpg").pixels, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert not image.getexif()
            assert "xmp" not in image.info


def test_photos_lie_on_white() -> None:
    half = np.full((6, 9), 51, np.uint8)  # a fifth
    expected = 255 - (255 - RGB.astype(float)) / 5
    assert np.abs(Photo(RGB, half).on_white() - expected).max() <= 0.51
