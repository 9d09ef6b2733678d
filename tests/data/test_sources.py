"""Each kind of source lists and reads its pictures, and says what is wrong in one sentence."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from colorjax.data.sources import open_source
from colorjax.errors import UserError


def _data(source, garden_images=5):
    fields = {"source": source, "garden_images": garden_images, "tfds_dir": "", "manual_dir": ""}
    return ConfigDict(fields)


def _save(path, color="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), color).save(path)


@pytest.mark.parametrize("source", ["foldr:photos", "gardn", "garden:", "folder:", "tfds:", ""])
def test_misspelt_source_names_the_three_forms(source):
    with pytest.raises(UserError, match="folder:PATH, tfds:NAME or garden"):
        open_source(_data(source))


def test_folder_lists_pictures_of_a_tree_sorted_by_relative_path(tmp_path):
    for name in ["b/2.PNG", "b/1.jpg", "a/deep/x.webp", "c.tiff", "d.jpeg", "e.bmp", "f.gif"]:
        _save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    _save(tmp_path / ".hidden.png")
    _save(tmp_path / ".trash/old.png")
    names = [item.name for item in open_source(_data(f"folder:{tmp_path}")).items]
    assert names == ["a/deep/x.webp", "b/1.jpg", "b/2.PNG", "c.tiff", "d.jpeg", "e.bmp", "f.gif"]


def test_the_first_folder_of_a_picture_is_its_label(tmp_path):
    for name in ["rose/1.png", "rose/old/2.png", "3.png"]:
        _save(tmp_path / "all" / name)
        _save(tmp_path / "divided/train" / name)
        _save(tmp_path / "divided/test" / name)
    labels = [
        [item.label for item in open_source(_data(f"folder:{tmp_path / name}")).items]
        for name in ("all", "divided")
    ]
    assert labels == [[None, "rose", "rose"], [None, "rose", "rose"] * 2]


def test_folder_follows_links_but_no_loop(tmp_path):
    _save(tmp_path / "elsewhere/1.png")
    _save(tmp_path / "photos/2.png")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "elsewhere")
    # Two loops: followed blindly they would branch at every level.
    for loop in ("loop1", "loop2"):
        (tmp_path / "photos" / loop).symlink_to(tmp_path / "photos")
    names = [item.name for item in open_source(_data(f"folder:{tmp_path / 'photos'}")).items]
    assert names == ["2.png", "linked/1.png"]


def test_version_of_a_file_changes_with_size_or_time(tmp_path):
    path = tmp_path / "1.png"
    _save(path)
    versions = [open_source(_data(f"folder:{tmp_path}")).items[0].version]
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    versions.append(open_source(_data(f"folder:{tmp_path}")).items[0].version)
    path.write_bytes(path.read_bytes() + b" ")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    versions.append(open_source(_data(f"folder:{tmp_path}")).items[0].version)
    assert len(set(versions)) == 3


def test_split_folders_set_the_split_only_beside_train(tmp_path):
    for name in ["train/1.png", "val/2.png", "test/3.png", "other/4.png"]:
        _save(tmp_path / "divided" / name)
    for name in ["test/1.png", "rose/2.png"]:
        _save(tmp_path / "plain" / name)
    divided = open_source(_data(f"folder:{tmp_path / 'divided'}")).items
    assert {item.name: item.split for item in divided} == {
        "train/1.png": "train",
        "val/2.png": "validation",
        "test/3.png": "test",
        "other/4.png": None,
    }
    plain = open_source(_data(f"folder:{tmp_path / 'plain'}")).items
    assert [item.split for item in plain] == [None, None]


def test_folder_mistakes_get_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("a")
    for name, message in [
        ("absent", "no folder"),
        ("empty", "no image files"),
        ("texts", "no image files"),
        ("texts/a.txt", "is a file"),
    ]:
        with pytest.raises(UserError, match=message):
            open_source(_data(f"folder:{tmp_path / name}"))


def test_garden_draws_as_many_pictures_as_asked():
    source = open_source(_data("garden", garden_images=3))
    pictures = np.stack([source.read(index, (16, 16)) for index in range(3)])
    assert [item.name for item in source.items] == [f"garden-00000{index}" for index in range(3)]
    assert pictures.shape == (3, 16, 16, 3)
    assert pictures.dtype == np.uint8
    assert len(np.unique(pictures.reshape(3, -1), axis=0)) == 3
    np.testing.assert_array_equal(pictures[1], source.read(1, (16, 16)))


def test_garden_is_squashed_to_other_shapes():
    source = open_source(_data("garden", garden_images=1))
    square = Image.fromarray(source.read(0, (20, 20)))
    squashed = square.resize((12, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(source.read(0, (20, 12)), np.asarray(squashed))


def test_garden_needs_a_picture():
    with pytest.raises(UserError, match="garden_images"):
        open_source(_data("garden", garden_images=0))


def test_import_leaves_slow_libraries_alone():
    code = "import sys, colorjax.data; print({'grain', 'tensorflow_datasets'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
