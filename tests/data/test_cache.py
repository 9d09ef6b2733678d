"""Decoded pictures are kept, and made again only when their file has changed."""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorjax.data import cache
from colorjax.data.cache import open_cache
from colorjax.data.folder import FolderSource
from colorjax.errors import UserError

COLORS = {"1.png": (255, 0, 0), "2.png": (0, 255, 0), "3.png": (0, 0, 255)}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, color in COLORS.items():
        Image.new("RGB", (9, 5), color).save(folder / name)
    return folder


def _open(photos, shape=(4, 4)):
    return open_cache(FolderSource(str(photos)), shape, str(photos.parent / "cache"), threads=2)


def _colors(cached):
    """Return each picture's color by name, having checked that it is all over the picture."""
    assert (cached.images == cached.images[:, :1, :1]).all()
    rows = zip(cached.items, cached.images[:, 0, 0].tolist(), strict=True)
    return {item.name: tuple(color) for item, color in rows}


def _cache_file(photos, pattern):
    (path,) = (photos.parent / "cache").glob(f"*/{pattern}")
    return path


def test_pictures_are_decoded_once(photos):
    first = _open(photos)
    assert (first.decoded, _colors(first)) == (3, COLORS)
    second = _open(photos)
    assert (second.decoded, _colors(second)) == (0, COLORS)


def test_images_are_a_read_only_map(photos):
    images = _open(photos).images
    assert isinstance(images, np.memmap)
    assert images.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_each_size_has_its_own_cache(photos):
    _open(photos)
    for shape in [(6, 6), (6, 4), (4, 6)]:
        other = _open(photos, shape)
        assert other.decoded == 3
        assert other.images.shape == (3, *shape, 3)
        assert _colors(other) == COLORS
    assert _open(photos).decoded == 0


def test_the_cache_of_squares_is_named_by_their_side(photos):
    # As it always was, so that a cache of gigabytes is not made again by a newer version.
    key = FolderSource(str(photos)).key
    digest = hashlib.sha256(f"{key}\n4".encode()).hexdigest()[:12]
    folder = Path(_open(photos).images.filename).parent
    assert folder.name.endswith(f"-photos-4-{digest}")


def test_rectangles_are_copied_too_when_another_picture_changes(photos):
    _open(photos, (6, 4))
    Image.new("RGB", (7, 7), (9, 9, 9)).save(photos / "2.png")
    cached = _open(photos, (6, 4))
    assert (cached.decoded, _colors(cached)) == (1, {**COLORS, "2.png": (9, 9, 9)})


def test_only_what_changed_is_decoded_again(photos):
    _open(photos)
    Image.new("RGB", (7, 7), (9, 9, 9)).save(photos / "2.png")
    Image.new("RGB", (7, 7), (8, 8, 8)).save(photos / "0.png")
    cached = _open(photos)
    assert cached.decoded == 2
    assert _colors(cached) == {"0.png": (8, 8, 8), **COLORS, "2.png": (9, 9, 9)}


def test_same_size_with_another_time_is_decoded_again(photos):
    _open(photos)
    path = photos / "2.png"
    Image.new("RGB", (9, 5), (0, 254, 0)).save(path)
    os.utime(path, ns=(0, 1))
    assert _open(photos).decoded == 1


def test_removed_pictures_leave(photos):
    _open(photos)
    (photos / "2.png").unlink()
    cached = _open(photos)
    assert cached.decoded == 0
    assert _colors(cached) == {name: COLORS[name] for name in ("1.png", "3.png")}


def test_a_map_in_use_survives_a_change(photos):
    old = _open(photos)
    Image.new("RGB", (7, 7), (9, 9, 9)).save(photos / "2.png")
    _open(photos)
    assert _colors(old) == COLORS


def _break(photos):
    """Add a text, an empty file, half a JPEG and a dangling link, named as pictures."""
    (photos / "0-text.jpg").write_text("not a picture")
    (photos / "1-empty.png").touch()
    Image.effect_noise((200, 200), 50).save(photos / "2-half.jpg")
    content = (photos / "2-half.jpg").read_bytes()
    (photos / "2-half.jpg").write_bytes(content[: len(content) // 2])
    (photos / "4-link.png").symlink_to(photos / "nowhere.png")


def test_broken_files_are_skipped_with_a_reason_and_remembered(photos, capsys):
    _break(photos)
    first = _open(photos)
    assert first.decoded == 7
    assert _colors(first) == COLORS
    reasons = {skipped.name: skipped.reason for skipped in first.skipped}
    assert list(reasons) == ["0-text.jpg", "1-empty.png", "2-half.jpg", "4-link.png"]
    assert reasons["0-text.jpg"] == "not a picture that Pillow can read"
    assert reasons["1-empty.png"] == "the file is empty"
    assert "truncated" in reasons["2-half.jpg"]
    assert reasons["4-link.png"] == "no such file or directory"
    capsys.readouterr()
    second = _open(photos)
    assert second.decoded == 0
    assert second.skipped == first.skipped
    notices = capsys.readouterr().err
    assert [notices.count(name) for name in reasons] == [1, 1, 1, 1]


class _CountingFolder(FolderSource):
    """A folder that notes which pictures were read."""

    def __init__(self, path):
        super().__init__(path)
        self.read_names = []

    def read(self, index, shape):
        self.read_names.append(self.items[index].name)
        return super().read(index, shape)


class _WaitingFolder(FolderSource):
    """A folder whose pictures come once the disk was asked twice to take what there is."""

    def __init__(self, path, written):
        super().__init__(path)
        self.written = written

    def read(self, index, shape):
        assert self.written.wait(timeout=60)
        return super().read(index, shape)


def test_what_the_disk_refuses_while_pictures_are_decoded_is_told(photos, monkeypatch):
    calls, written = [], threading.Event()

    def write(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            written.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # which a system says but once

    monkeypatch.setattr(cache, "_SECONDS_BETWEEN_WRITES", 0.01)
    monkeypatch.setattr(os, "fdatasync", write)
    source = _WaitingFolder(str(photos), written)
    with pytest.raises(UserError, match=r"can't be written .*input/output error"):
        open_cache(source, (4, 4), str(photos.parent / "cache"))
    assert not any(thread.name.startswith("write") for thread in threading.enumerate())
    assert _open(photos).decoded == 3


@pytest.mark.parametrize("function", ["fdatasync", "posix_fallocate", "pwrite"])
def test_a_disk_that_takes_no_pixels_is_blamed_and_no_picture(photos, function, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, function, refuse)
        with pytest.raises(UserError, match=r"can't be written .*no space left.*data\.cache_dir"):
            _open(photos)
    assert not [path for path in (photos.parent / "cache").rglob("*") if path.suffix != ".lock"]
    assert _colors(_open(photos)) == COLORS


def test_rows_are_whole_although_the_disk_takes_them_bit_by_bit(photos, monkeypatch):
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, rest, place: write(file, rest[:7], place))
    assert _colors(_open(photos)) == COLORS


def test_what_is_read_in_another_shape_is_skipped(photos):
    class Other(FolderSource):
        def read(self, index, shape):
            return super().read(index, (5, 4) if index == 1 else shape)

    cached = open_cache(Other(str(photos)), (4, 4), str(photos.parent / "cache"))
    assert _colors(cached) == {name: COLORS[name] for name in ("1.png", "3.png")}
    assert [skipped.name for skipped in cached.skipped] == ["2.png"]


def test_a_change_elsewhere_reads_neither_good_nor_broken_pictures_again(photos):
    _break(photos)
    _open(photos)
    Image.new("RGB", (7, 7), (9, 9, 9)).save(photos / "2.png")
    source = _CountingFolder(str(photos))
    cached = open_cache(source, (4, 4), str(photos.parent / "cache"))
    assert source.read_names == ["2.png"]
    assert len(cached.skipped) == 4


def test_a_mended_file_is_read_again(photos):
    (photos / "0.png").write_text("not a picture")
    _open(photos)
    Image.new("RGB", (7, 7), (8, 8, 8)).save(photos / "0.png")
    cached = _open(photos)
    assert (cached.decoded, cached.skipped) == (1, ())
    assert _colors(cached) == {"0.png": (8, 8, 8), **COLORS}


def test_a_suspiciously_large_picture_is_skipped(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (20, 20)).save(photos / "huge.png")
    (skipped,) = _open(photos).skipped
    assert skipped.name == "huge.png"
    assert skipped.reason == "it claims to have more than 200 pixels"


def test_nothing_readable_is_an_error_that_leaves_nothing(photos):
    for path in photos.iterdir():
        path.write_text("not a picture")
    with pytest.raises(UserError, match=r"None of the 3 pictures .* can be read"):
        _open(photos)
    assert not [path for path in (photos.parent / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    "damage",
    ["", "[]", "{}", '{"decoder": 1, "images": 3, "rows": {}, "broken": {}}', '{"decoder": 0}'],
)
def test_a_damaged_index_is_made_again(photos, damage):
    _open(photos)
    _cache_file(photos, "index.json").write_text(damage)
    cached = _open(photos)
    assert (cached.decoded, _colors(cached)) == (3, COLORS)


def test_missing_or_short_pixels_are_made_again(photos):
    _open(photos)
    _cache_file(photos, "images-*.bin").unlink()
    assert _open(photos).decoded == 3
    with _cache_file(photos, "images-*.bin").open("r+b") as file:
        file.truncate(10)
    assert _open(photos).decoded == 3


def test_only_the_index_and_its_pixels_stay(photos):
    _open(photos)
    (photos / "2.png").unlink()
    _open(photos)
    index = _cache_file(photos, "index.json")
    names = {path.name for path in index.parent.iterdir()}
    assert names == {"index.json", json.loads(index.read_text())["images"]}


def test_too_little_space_is_said_before_anything_is_written(photos, monkeypatch):
    usage = shutil.disk_usage(photos)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"MB .* are free"):
        _open(photos)
    assert not [path for path in (photos.parent / "cache").iterdir() if path.is_dir()]


def test_a_folder_that_cannot_be_written_is_named(photos):
    (photos.parent / "cache").write_text("a file where the cache should be")
    with pytest.raises(UserError, match=r"set data\.cache_dir"):
        _open(photos)


def _open_in_process(photos, barrier, results):
    barrier.wait()
    cached = _open(photos)
    results.put((cached.decoded, _colors(cached)))


def test_two_processes_share_one_decoding(photos):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_open_in_process, args=(photos, barrier, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    both = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(decoded for decoded, _ in both) == [0, 3]
    assert all(colors == COLORS for _, colors in both)


def test_default_place_follows_xdg(photos, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos.parent / "xdg"))
    cached = open_cache(FolderSource(str(photos)), (4, 4))
    assert Path(cached.images.filename).is_relative_to(photos.parent / "xdg" / "colorjax")
