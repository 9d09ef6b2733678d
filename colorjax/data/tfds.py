"""Image datasets of TensorFlow Datasets, prepared once and read without TensorFlow."""

import contextlib
import io
import logging
import os
import shutil
import tarfile
import textwrap
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered
from tensorflow_datasets.core.download import downloader

from colorjax.data.decode import decode, explain
from colorjax.data.sources import Item
from colorjax.errors import UserError


class TfdsSource:
    """The pictures of a TFDS dataset, its splits joined so that they can be divided anew."""

    split_by = "permutation"

    def __init__(self, name: str, data_dir: str = "", manual_dir: str = "", split: str = ""):
        """Open the dataset, after preparing it if that wasn't done before.

        Args:
          name: as TFDS has it, with a configuration where it needs one (`NAME/CONFIG`).
          data_dir: where TFDS keeps its data; empty for its own default.
          manual_dir: where archives placed by hand lie; empty for nowhere.
          split: the one of its splits to take; empty for all.

        Raises:
          UserError: if there is no such dataset or split, if it has no pictures, or if it can be
            neither downloaded nor prepared.
        """
        builder = _make_builder(name, data_dir, manual_dir)
        self._feature = _image_feature(name, builder)
        _prepare(name, builder, manual_dir)
        self._splits = _open_splits(name, builder, self._feature, split)
        self._places = [(split, row) for split in self._splits for row in self._rows(split)]
        if not self._places:
            raise UserError(f"The TFDS dataset {name!r} is prepared but empty.")
        folder = Path(builder.data_dir).resolve()
        self.key = f"tfds:{folder}:{split}" if split else f"tfds:{folder}"
        # Preparing a dataset again writes this file again.
        version = f"{builder.version}-{(folder / 'dataset_info.json').stat().st_mtime_ns}"
        self.items: Sequence[Item] = [
            Item(f"{split}/{row:06d}", version) for split, row in self._places
        ]

    def read(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """Return picture `index` as uint8 (height, width, 3)."""
        split, row = self._places[index]
        return decode(io.BytesIO(self._splits[split][row][self._feature]), shape)

    def _rows(self, split: str) -> range:
        return range(len(self._splits[split]))


def _make_builder(name: str, data_dir: str, manual_dir: str) -> Any:
    # With a folder given, TFDS needs to be told the one format that it reads without TensorFlow.
    options = {"data_dir": Path(data_dir).expanduser() if data_dir else None}
    try:
        if name in ADAPTATIONS:
            builder = ADAPTATIONS[name](manual_dir)(**options, file_format="array_record")
        else:
            builder = tfds.builder(name, **options, file_format="array_record")
    except registered.DatasetNotFoundError:
        raise UserError(
            f"TFDS has no dataset {name!r}: tensorflow.org/datasets/catalog lists them."
        ) from None
    except Exception as error:  # a dataset's own code runs here
        raise UserError(f"The TFDS dataset {name!r} can't be opened ({_brief(error)}).") from error
    return builder


def _image_feature(name: str, builder: Any) -> str:
    """Return the feature `image`, or else the first that holds pictures."""
    features = builder.info.features
    pictures = [
        key
        for key in (features if isinstance(features, tfds.features.FeaturesDict) else ())
        if isinstance(features[key], tfds.features.Image)
    ]
    if not pictures:
        raise UserError(f"The TFDS dataset {name!r} holds no pictures: name an image dataset.")
    return "image" if "image" in pictures else pictures[0]


def _prepare(name: str, builder: Any, manual_dir: str) -> None:
    """Download and prepare the dataset, unless that was done before."""
    downloads = Path(builder.data_dir_root) / "downloads"
    manual = Path(manual_dir).expanduser() if manual_dir else None
    config = tfds.download.DownloadConfig(manual_dir=manual)
    try:
        with _few_retries():
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    except Exception as error:  # TFDS's own, its downloader's, and those of a dataset's code
        raise UserError(
            f"The TFDS dataset {name!r} can't be downloaded and prepared ({_brief(error)}): place "
            "its archives in data.manual_dir, or set data.source to folder:PATH or garden."
        ) from error
    finally:
        for unfinished in downloads.glob("*/*.tmp.*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        for folder in (downloads, Path(builder.data_dir_root) / builder.name):
            _remove_empty_folders(folder)


def _remove_empty_folders(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # it holds something
            os.rmdir(path)


def _open_splits(name: str, builder: Any, feature: str, split: str) -> dict[str, Any]:
    """Return the records of one split, or of each, their pictures left encoded."""
    known = sorted(builder.info.splits)
    if split and split not in known:
        raise UserError(
            f"The TFDS dataset {name!r} has no split {split!r}: set data.tfds_split to one of "
            f"{', '.join(known)}, or leave it empty for all."
        )
    decoders = {feature: tfds.decode.SkipDecoding()}
    try:
        return {
            each: builder.as_data_source(each, decoders=decoders)
            for each in ([split] if split else known)
        }
    except Exception as error:
        raise UserError(
            f"The TFDS dataset {name!r} can't be read without TensorFlow ({_brief(error)}): "
            "prepare it in another data.tfds_dir."
        ) from error


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """Let a download that can't be had fail in seconds: TFDS tries for minutes, and loudly."""
    # The level is left so: a download that fails leaves others behind, which go on for a second.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    retries, downloader.MAX_RETRIES = downloader.MAX_RETRIES, 2
    try:
        yield
    finally:
        downloader.MAX_RETRIES = retries


def _brief(error: BaseException) -> str:
    """Return the reason on one line; networks and archives explain themselves at length."""
    if isinstance(error, ModuleNotFoundError):
        return f"it needs the package {error.name}"
    if isinstance(error, (ConnectionError, requests.exceptions.ConnectionError)):
        return "there is no connection to its server"
    lines = explain(error).strip().splitlines() if isinstance(error, Exception) else []
    return (
        textwrap.shorten(lines[0].rstrip("."), 200, placeholder=" ...")
        if lines
        else type(error).__name__
    )


class _PlainFiles:
    """What a builder asks of TFDS's download manager, done without TensorFlow.

    An archive placed by hand is taken as it is; what is missing is downloaded by TFDS, which
    checks its checksum.
    """

    def __init__(self, manager: Any, manual_dir: str, url_infos: Mapping[str, Any]):
        self._manager = manager
        self._manual_dir = Path(manual_dir).expanduser() if manual_dir else None
        self._url_infos = url_infos

    def download(self, urls: Mapping[str, str]) -> dict[str, Path]:
        """Return a local path for each address."""
        by_hand = {key: path for key, url in urls.items() if (path := self._by_hand(url))}
        missing = {key: url for key, url in urls.items() if key not in by_hand}
        return by_hand | (self._manager.download(missing) if missing else {})

    def _by_hand(self, url: str) -> Path | None:
        if self._manual_dir is None:
            return None
        path = self._manual_dir / self._url_infos[url].filename
        return path if path.is_file() else None

    def iter_archive(self, path: Path) -> Iterator[tuple[str, BinaryIO]]:
        """Yield the names and the open files of a zip archive."""
        archive = zipfile.ZipFile(path)
        for name in archive.namelist():
            if not name.endswith("/"):
                yield name, archive.open(name)  # type: ignore[misc]


def _adapt(name: str, methods: dict[str, Any]) -> type:
    """Return TFDS's builder with some methods replaced; it keeps its name, module and data."""
    base = tfds.builder_cls(name)
    with registered.skip_registration():
        return type(base.__name__, (base,), {"__module__": base.__module__, "name": name} | methods)


def _flowers_builder(manual_dir: str) -> type:
    """Return `oxford_flowers102` reading its archive in place: its own code needs TensorFlow."""

    def split_generators(self: Any, manager: Any) -> dict[str, Any]:
        root = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
        files = {"images": "102flowers.tgz", "labels": "imagelabels.mat", "setid": "setid.mat"}
        urls = {key: root + file for key, file in files.items()}
        paths = _PlainFiles(manager, manual_dir, self.url_infos).download(urls)
        parts = {"train": "trnid", "validation": "valid", "test": "tstid"}
        return {split: self._generate_examples(paths, part) for split, part in parts.items()}

    return _adapt(
        "oxford_flowers102",
        {
            "_split_generators": split_generators,
            "_generate_examples": lambda _, paths, part: _read_flowers(paths, part),
        },
    )


def _read_flowers(
    paths: Mapping[str, Path], part: str
) -> Iterator[tuple[str, dict[str, bytes | int | str]]]:
    """Yield the examples of `trnid`, `valid` or `tstid` as TFDS's own builder does."""
    from scipy.io import loadmat

    labels = loadmat(paths["labels"])["labels"][0]
    wanted = {f"image_{number:05d}.jpg": number for number in loadmat(paths["setid"])[part][0]}
    with tarfile.open(paths["images"]) as archive:
        for member in archive:
            name = Path(member.name).name
            file = archive.extractfile(member) if name in wanted else None
            if file is not None:
                label = int(labels[wanted[name] - 1]) - 1
                yield name, {"image": file.read(), "label": label, "file_name": name}


def _faces_builder(manual_dir: str) -> type:
    """Return `celeb_a` whose archive is opened without TensorFlow."""
    base = tfds.builder_cls("celeb_a")

    def split_generators(self: Any, manager: Any) -> Any:
        return base._split_generators(self, _PlainFiles(manager, manual_dir, self.url_infos))

    return _adapt("celeb_a", {"_split_generators": split_generators})


# Datasets whose own code needs TensorFlow for preparation: name -> builder for a manual_dir.
ADAPTATIONS = {"oxford_flowers102": _flowers_builder, "celeb_a": _faces_builder}
