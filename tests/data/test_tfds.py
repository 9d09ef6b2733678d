"""TFDS datasets are prepared from archives placed by hand, and read, without TensorFlow."""

import io
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from scipy.io import savemat

from colorjax.data import load_pictures
from colorjax.data.sources import open_source
from colorjax.errors import UserError
from configs import common

PARTS = {"trnid": [1, 4, 7], "valid": [2, 5], "tstid": [3, 6, 8, 9, 10]}


def _data(tmp_path, name, manual_dir=""):
    fields = {"source": f"tfds:{name}", "tfds_dir": str(tmp_path / "tfds")}
    return ConfigDict({**fields, "manual_dir": str(manual_dir), "garden_images": 1})


def _jpeg(number, size=(30, 20)):
    file = io.BytesIO()
    Image.new("RGB", size, (number * 20, 100, 50)).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture
def flowers(tmp_path):
    """Return a folder with the three files of Flowers-102, with ten pictures."""
    folder = tmp_path / "manual"
    folder.mkdir()
    with tarfile.open(folder / "102flowers.tgz", "w:gz") as archive:
        for number in range(1, 11):
            content = _jpeg(number)
            member = tarfile.TarInfo(f"jpg/image_{number:05d}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    savemat(folder / "imagelabels.mat", {"labels": np.arange(1, 11)[None]})
    savemat(folder / "setid.mat", {part: np.array([ids]) for part, ids in PARTS.items()})
    return folder


def _reds(source):
    return [source.read(index, (8, 8))[4, 4, 0] for index in range(len(source.items))]


def test_flowers_are_prepared_from_archives_by_hand(tmp_path, flowers):
    source = open_source(_data(tmp_path, "oxford_flowers102", flowers))
    by_split: dict[str, list[float]] = {}
    for item, red in zip(source.items, _reds(source), strict=True):
        by_split.setdefault(item.name.partition("/")[0], []).append(red / 20)
    assert {split: len(reds) for split, reds in by_split.items()} == {
        "train": 3,
        "validation": 2,
        "test": 5,
    }
    for split, part in [("train", "trnid"), ("validation", "valid"), ("test", "tstid")]:
        np.testing.assert_allclose(sorted(by_split[split]), PARTS[part], atol=0.2)
    assert source.split_by == "permutation"
    assert {item.split for item in source.items} == {None}


def test_prepared_flowers_need_the_archives_no_more(tmp_path, flowers):
    first = open_source(_data(tmp_path, "oxford_flowers102", flowers))
    again = open_source(_data(tmp_path, "oxford_flowers102"))
    assert (again.key, again.items) == (first.key, first.items)
    np.testing.assert_array_equal(_reds(again), _reds(first))


def test_tensorflow_is_not_imported(tmp_path, flowers):
    code = f"""if True:
        import sys
        from colorjax.data.tfds import TfdsSource
        source = TfdsSource("oxford_flowers102", {str(tmp_path / "tfds")!r}, {str(flowers)!r})
        source.read(0, (8, 8))
        assert "tensorflow" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_a_damaged_archive_gets_a_sentence_and_leaves_nothing(tmp_path, flowers):
    (flowers / "102flowers.tgz").write_text("not an archive")
    with pytest.raises(UserError, match=r"data\.manual_dir.*folder:PATH or garden"):
        open_source(_data(tmp_path, "oxford_flowers102", flowers))
    assert not list((tmp_path / "tfds").rglob("*.array_record*"))


@pytest.fixture
def faces(tmp_path):
    """Return a folder with the files of CelebA, with twelve pictures: eight are for training."""
    folder = tmp_path / "manual"
    folder.mkdir()
    names = [f"{number:06d}.jpg" for number in range(1, 13)]
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for number, name in enumerate(names, start=1):
            archive.writestr(f"img_align_celeba/{name}", _jpeg(number, (178, 218)))
    _write_faces_lists(folder, names, [0] * 8 + [1] * 2 + [2] * 2)
    return folder


def test_faces_are_prepared_from_archives_by_hand(tmp_path, faces):
    source = open_source(_data(tmp_path, "celeb_a", faces))
    np.testing.assert_allclose(sorted(_reds(source)), np.arange(1, 13) * 20, atol=4)


def test_faces_recipe_divides_the_train_split_in_its_order(tmp_path, faces):
    data = common.data()
    data.update(_data(tmp_path, "celeb_a", faces))
    data.cache_dir = str(tmp_path / "cache")
    data.tfds_split, data.split_rule = "train", "ordered"
    data.split_fractions, data.load_size = (0.625, 0.25, 0.125), (218, 178)
    pictures = load_pictures(data, 128)
    assert pictures.names == tuple(f"train/{row:06d}" for row in range(8))
    assert pictures.images.shape == (8, 218, 178, 3)
    reds = pictures.images[:, 100, 100, 0]
    np.testing.assert_allclose(sorted(reds), np.arange(1, 9) * 20, atol=4)
    assert {split: rows.tolist() for split, rows in pictures.splits.items()} == {
        "test": [0],
        "validation": [1, 2],
        "train": [3, 4, 5, 6, 7],
    }


def test_one_split_alone_is_taken_and_an_unknown_one_named(tmp_path, flowers):
    data = _data(tmp_path, "oxford_flowers102", flowers)
    whole = open_source(data)
    data.tfds_split = "validation"
    source = open_source(data)
    np.testing.assert_allclose(np.array(sorted(_reds(source))) / 20, PARTS["valid"], atol=0.2)
    assert source.key != whole.key
    data.tfds_split = "valid"
    with pytest.raises(UserError, match=r"no split 'valid'.*test, train, validation"):
        open_source(data)


def _write_faces_lists(folder, names, partition):
    from tensorflow_datasets.datasets.celeb_a import celeb_a_dataset_builder as faces

    lists = {
        "list_attr_celeba.txt": faces.ATTR_HEADINGS,
        "list_landmarks_align_celeba.txt": faces.LANDMARK_HEADINGS,
    }
    for file, headings in lists.items():
        rows = [f"{name} {' '.join('1' for _ in headings)}" for name in names]
        (folder / file).write_text("\n".join([str(len(rows)), " ".join(headings), *rows, ""]))
    parts = [f"{name} {part}" for name, part in zip(names, partition, strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join([*parts, ""]))
    (folder / "identity_CelebA.txt").write_text("\n".join([f"{name} 1" for name in names] + [""]))


def test_unknown_dataset_is_named(tmp_path):
    with pytest.raises(UserError, match="no dataset 'oxford_flowers'"):
        open_source(_data(tmp_path, "oxford_flowers"))


def test_dataset_without_pictures_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no pictures"):
        open_source(_data(tmp_path, "ag_news_subset"))


def test_a_download_that_cannot_be_had_names_the_alternatives(tmp_path, monkeypatch):
    # Nothing listens at the proxy's port, so that there is no network for this test anywhere.
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"no connection.*data\.manual_dir.*folder:PATH or garden"):
        open_source(_data(tmp_path, "oxford_flowers102"))
    assert not [path for path in (tmp_path / "tfds").rglob("*") if path.is_file()]
