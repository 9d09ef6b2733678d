"""Models from anybody: what leads outside, asks for absurd sizes or is no data is refused."""

import io
import json
import os
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorstore
from PIL import Image

from colorjax import Colorizer, checkpoint, configuration
from colorjax.cli.sources import load_split
from colorjax.errors import UserError
from colorjax.models.weight_files import open_weights
from colorjax.training.resuming import HostState


@pytest.fixture
def model(model_folder, tmp_path) -> Path:
    """A copy of a run, whose best step is 2."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def outside(model_folder, tmp_path) -> Path:
    """A step of another run, which a model has no business with."""
    return Path(shutil.copytree(model_folder / "steps/1", tmp_path / "outside"))


def assert_refused(model: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Colorizer.load(model)
    assert len(str(caught.value).splitlines()) == 1


def replace_by_link(path: Path, target: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)


def test_the_model_itself_is_taken(model):
    Colorizer.load(model)


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("best/2", "."),
        ("best", ".."),
        ("best/2/generator", "generator"),
        ("best/2/generator/d", "generator/d"),
        ("best/2/generator/manifest.ocdbt", "generator/manifest.ocdbt"),
        ("best/2/checksums.json", "checksums.json"),
        ("config.json", "config.json"),
    ],
)
def test_links_out_of_the_model_are_refused(model, outside, place, target):
    if place == "best":
        (outside.parent / "2").symlink_to(outside)
    if target == "config.json":
        shutil.copy(model / "config.json", outside)
    replace_by_link(model / place, outside / target)
    assert_refused(model, "is a link")


def test_a_pipe_does_not_make_the_reader_wait(model):
    os.mkfifo(model / "best/2/generator/d/pipe")
    assert_refused(model, "is no plain file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"generator/../../../../outside/checksums.json": "0"}', "lies outside of"),
        ("[" * 100_000, "is damaged"),
        ('["generator/d"]', "is damaged"),
    ],
)
def test_checksums_that_name_other_files_are_refused(model, outside, text, message):
    (model / "best/2/checksums.json").write_text(text)
    assert_refused(model, message)


def change_metadata(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def write(item: Path) -> None:
        metadata = json.loads((item / "_METADATA").read_text())
        change(metadata)
        (item / "_METADATA").write_text(json.dumps(metadata))

    return write


def rename_first(name: str) -> Callable[[dict], object]:
    def change(metadata: dict) -> None:
        tree = metadata["tree_metadata"]
        value = tree.pop(next(iter(tree)))
        value["key_metadata"] = [{"key": "params", "key_type": 2}, {"key": name, "key_type": 2}]
        tree[str(("params", name))] = value

    return change


def set_types(kind: str) -> Callable[[dict], object]:
    def change(metadata: dict) -> None:
        for value in metadata["tree_metadata"].values():
            value["value_metadata"]["value_type"] = kind

    return change


@pytest.mark.parametrize(
    "change",
    [
        change_metadata(rename_first("../../../outside/generator")),
        change_metadata(rename_first("/etc/passwd")),
        change_metadata(set_types("string")),
        change_metadata(set_types("os.system")),
        change_metadata(lambda metadata: metadata.update(use_ocdbt=False)),
        lambda item: (item / "_METADATA").write_text("[" * 100_000),
    ],
)
def test_metadata_that_names_other_things_is_refused(model, change):
    (model / "best/2/checksums.json").unlink()  # which an attacker would write anew
    change(model / "best/2/generator")
    assert_refused(model, "can't be read|doesn't fit")


def declare(folder: Path, shape: list[int], chunks: list[int]) -> None:
    """Let an item's array `w` claim another shape, without any data."""
    base = {"driver": "ocdbt", "base": f"file://{folder / 'generator'}/"}
    store = tensorstore.KvStore.open(base).result()
    claims = json.loads(bytes(store["w/.zarray"])) | {"shape": shape, "chunks": chunks}
    store["w/.zarray"] = json.dumps(claims | {"fill_value": 0.0}).encode()


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ([10**6, 10**6], [10, 10], r"declares 3,725\.3 GiB of numbers"),
        ([3, 4], [10**6, 10**6], "larger than itself"),
        ([10**6, 4], [3, 4], "is shaped"),
    ],
)
def test_arrays_that_their_files_cannot_hold_take_no_memory(tmp_path, shape, chunks, message):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "generator", {"w": np.ones((3, 4), np.float32)})
    declare(tmp_path, shape, chunks)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    expected = (3, 4) if shape == [10**6, 4] else tuple(shape)
    abstract = {"w": jax.ShapeDtypeStruct(expected, np.float32, sharding=sharding)}
    with pytest.raises(UserError, match=message):
        checkpoint.restore_item(tmp_path, "generator", abstract)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "null", '{"data": 3}', '{"image_size": "1"}', "{}" + " " * 2**20, "\xff\xfe"],
)
def test_configs_that_are_none_are_refused(model, text):
    (model / "config.json").write_bytes(text.encode("latin-1"))
    assert_refused(model, r"is damaged|is not that of a colorjax model")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 2**40}, "config.image_size"),
        ({"image_size": -16}, "config.image_size"),
        ({"image_size": float("inf")}, "config.image_size"),
        ({"batch_size": 10**12}, "config.batch_size"),
        ({"generator.widths": [10**9, 10**9]}, "config.generator.widths is too large"),
        ({"generator.widths": [65536, 65536]}, "doesn't fit the network"),
        ({"generator.widths": [4] * 10**5}, "config.generator.widths is too large"),
        ({"generator.widths": [4] * 64}, "halves pictures too often"),
        ({"generator.widths": [4.5, 8.5]}, "can't be built"),
        ({"generator.widths": "../../outside"}, "is not that of a colorjax model"),
        ({"generator.parent": "outside"}, "does not apply"),
        ({"generator.dtype": "outside"}, "does not apply"),
        ({"generator.name": "os.system"}, "choose one of"),
        ({"generator.name": ["unet"]}, "choose one of"),
        ({"generator": {"name": "plain_autoencoder", "layers": 10**12 + 1}}, "too large"),
        (
            {"generator": {"name": "residual_unet", "stem_stride": 0}},
            "stem_stride=0: give a number",
        ),
        (
            {"generator": {"name": "residual_unet", "stem_stride": -4}},
            "stem_stride=-4: give a number",
        ),
        (
            {"generator": {"name": "residual_unet", "stem_stride": [2]}},
            "not that of a colorjax model",
        ),
        (
            {"generator": {"name": "residual_unet", "stem_stride": "2"}},
            "not that of a colorjax model",
        ),
        ({"codec": "__class__"}, "'__class__'"),
    ],
)
def test_configs_that_ask_for_the_absurd_are_refused(model, fields, message):
    values = json.loads((model / "config.json").read_text())
    for name, value in fields.items():
        *parents, last = name.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        place[last] = value
    (model / "config.json").write_text(json.dumps(values))
    assert_refused(model, message)


def test_a_model_does_not_say_where_to_write(model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "photos/one.png")
    config = configuration.read_config(model)
    config.data.cache_dir = str(tmp_path / "elsewhere")
    load_split(config, f"folder:{tmp_path / 'photos'}", "all", 16)
    assert (tmp_path / "own").is_dir()
    assert not (tmp_path / "elsewhere").exists()


def test_progress_of_another_program_is_refused(tmp_path):
    with pytest.raises(UserError, match="not of this version"):
        HostState.read({"training_set": "", "batch_size": 4, "command": "rm"}, tmp_path)


@pytest.mark.parametrize("file", ["checksums.json", "generator/_METADATA", "generator/_sharding"])
def test_texts_that_are_absurdly_large_are_not_read(model, file):
    os.truncate(model / "best/2" / file, 2**40)  # a hole, which takes no space
    (model / "best/2/checksums.json").touch()
    assert_refused(model, "larger than 64 MiB")


def test_arrays_whose_files_are_absurdly_large_are_not_read(model):
    (model / "best/2/checksums.json").unlink()
    data = max((model / "best/2/generator/d").iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(data, 2**40)
    assert_refused(model, r"has files of 1,048,576\.. MiB for 0\.. MiB of numbers")


def write_safetensors(path: Path, tensors: dict[str, object], header_bytes: int | None = None):
    """Write a header as given, and 24 bytes of numbers."""
    header = json.dumps(tensors).encode()
    length = len(header) if header_bytes is None else header_bytes
    path.write_bytes(struct.pack("<Q", length) + header + bytes(24))


def tensor(begin: int, end: int, shape: tuple[int, ...] = (3,)) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": (begin, end)}


@pytest.mark.parametrize(
    ("tensors", "header_bytes"),
    [
        ({"w": tensor(0, 12)}, None),  # leaves half of the numbers to nobody
        ({"w": tensor(0, 12), "v": tensor(12, 24)}, 2**63),
        ({"w": tensor(0, 12), "v": tensor(12, 24)}, 10**9),
        ({"w": tensor(0, 12), "v": tensor(12, 24)}, 3),
        ({"w": tensor(0, 12), "v": tensor(6, 18)}, None),
        ({"w": tensor(0, 12), "v": tensor(0, 12)}, None),
        ({"w": tensor(12, 24), "v": tensor(24, 36)}, None),
        ({"w": tensor(-12, 0), "v": tensor(0, 24, (6,))}, None),
        ({"w": tensor(0, 2**62, (2**60,))}, None),
        ({"w": tensor(0, 24, (2**32, 2**32, 2**32))}, None),
        ({"w": tensor(24, 0)}, None),
        ({"w": {"dtype": "O", "shape": (6,), "data_offsets": (0, 24)}}, None),
        ({"w": "../../outside"}, None),
        (["w"], None),
    ],
)
def test_safetensors_whose_header_lies_are_refused(tmp_path, tensors, header_bytes):
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, tensors, header_bytes)
    with (
        pytest.raises(UserError, match="can't be read as weights"),
        open_weights(str(path)) as file,
    ):
        file.read("w", (3,))


def test_safetensors_that_tell_the_truth_are_read(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, {"w": tensor(0, 12), "v": tensor(12, 24)})
    with open_weights(str(path)) as file:
        assert file.read("w", (3,)).tolist() == [0.0, 0.0, 0.0]


def npy(header: str, version: tuple[int, int] = (1, 0), header_bytes: int | None = None) -> bytes:
    """Return the start of an array as `numpy.save` writes it."""
    length = len(header) if header_bytes is None else header_bytes
    packed = struct.pack("<H" if version == (1, 0) else "<I", length)
    return b"\x93NUMPY" + bytes(version) + packed + header.encode("latin-1")


def described(shape: object, dtype: str = "<f4") -> str:
    return repr({"descr": dtype, "fortran_order": False, "shape": shape})


@pytest.fixture
def limited_memory():
    """Let this process take 2 GiB more of memory than it has, and not more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + 2**31
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    ("start", "zeros", "message"),
    [
        # Each compresses to nearly nothing.
        (npy(described((3,)), (2, 0), header_bytes=2**32 - 1), 2**28, "can't be read as weights"),
        (npy(described((2**40,))), 2**20, "has the shape"),
        (npy(described((3,), "V1000000000")), 2**20, "is stored as void"),
        (npy(described((3,), "|O")), 100, "is stored as object"),
        (npy("__import__('os').abort()"), 100, "can't be read as weights"),
        (npy("(" * 5000), 100, "can't be read as weights"),
        (npy(described((-3,))), 100, "has the shape"),
        (b"cos\nabort\n(tR.", 100, "can't be read as weights"),
    ],
)
@pytest.mark.usefixtures("limited_memory")
def test_archives_that_lie_or_inflate_are_refused(tmp_path, start, zeros, message):
    path = tmp_path / "weights.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("w.npy", "w") as member,
    ):
        member.write(start)
        for _ in range(0, zeros, 2**20):
            member.write(bytes(min(zeros, 2**20)))
    with pytest.raises(UserError, match=message), open_weights(str(path)) as file:
        file.read("w", (3,))


def test_an_archive_writes_nothing_wherever_its_names_lead(tmp_path):
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep/weights.npz"
    numbers = io.BytesIO()
    np.save(numbers, np.ones(3, np.float32))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../outside.npy", f"{tmp_path}/absolute.npy", "w.npy"):
            archive.writestr(name, numbers.getvalue())
    with open_weights(str(path)) as file:
        for name in file.names:
            assert file.read(name, (3,)).tolist() == [1.0, 1.0, 1.0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["deep"]
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["weights.npz"]
