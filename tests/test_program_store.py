"""What is kept is what was made; nothing kept outlives what it was made from."""

import dataclasses
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from colorjax import color, parallel, program_store
from colorjax.errors import UserError
from colorjax.models import GENERATORS, create_networks
from conftest import ROOT, save_picture

pytestmark = pytest.mark.skipif(
    not parallel.is_one_cpu(), reason="programs are kept for one CPU, as one device"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of programs of a process that keeps them."""
    monkeypatch.delenv(program_store.SWITCH, raising=False)
    monkeypatch.setattr(program_store, "_text", "")  # as it was, afterwards
    program_store.enable()
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / program_store.FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


class Traced:
    """A function whose tracings are counted, as each process would make it anew."""

    def __init__(self) -> None:
        self.count = 0

    def make(self, identity: str = "f") -> Callable[..., tuple[jax.Array, jax.Array]]:
        def function(tree: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
            self.count += 1
            return jnp.sin(tree["a"]) @ x, x.sum()

        return program_store.keep_program(jax.jit(function), identity)


def arguments(size: int = 3) -> tuple[dict[str, np.ndarray], np.ndarray]:
    values = np.random.default_rng(0).normal(size=(2, size, size)).astype(np.float32)
    return {"a": values[0]}, values[1]


def check(function: Callable, size: int = 3) -> None:
    tree, x = arguments(size)
    product, total = function(tree, x)
    np.testing.assert_allclose(product, np.sin(tree["a"]) @ x, rtol=1e-5)
    np.testing.assert_allclose(total, x.sum(), rtol=1e-5)


def test_a_program_is_traced_once_for_all_processes(folder: Path) -> None:
    traced = Traced()
    for _ in range(3):
        check(traced.make())
    assert traced.count == 1
    function = traced.make()
    check(function, size=4)
    check(function)
    check(function, size=4)
    assert traced.count == 2
    check(traced.make("g"))
    assert traced.count == 3
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("is_called_itself", [False, True])
def test_what_jax_had_from_its_own_cache_is_kept_whole(
    folder: Path, is_called_itself: bool
) -> None:
    def function(tree: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sin(tree["a"]) @ x, x.sum()

    for _ in range(3):
        jax.clear_caches()  # as in another process
        jitted = jax.jit(function)
        if is_called_itself:
            check(jitted)
        check(program_store.keep_program(jitted, "f"))
        [file] = folder.iterdir()
        file.unlink()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_made_anew(folder: Path, damage: str) -> None:
    traced = Traced()
    check(traced.make())
    [file] = folder.iterdir()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    file.write_bytes({"cut": whole[:-9], "flipped": bytes(flipped), "empty": b""}[damage])
    check(traced.make())
    check(traced.make())
    assert traced.count == 2


def refuse(*arguments: object, **options: object) -> None:
    raise RuntimeError("of another build")


def refuse_when_called(*kept: object) -> Callable[..., None]:
    return refuse


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("deserialize_and_load", refuse),
        ("deserialize_and_load", refuse_when_called),
        ("serialize", refuse),
    ],
)
def test_what_cannot_be_kept_is_compiled_as_any_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, replacement: Callable
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(program_store.serialize_executable, name, replacement)
        check(Traced().make())
    assert list(folder.iterdir()) == []
    traced = Traced()
    check(traced.make())
    check(traced.make())
    assert traced.count == 1


def test_a_file_that_fails_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(Traced().make())
    [file] = folder.iterdir()
    os.utime(file, ns=(0, 0))
    load = program_store.serialize_executable.deserialize_and_load
    loads = [refuse_when_called, load]
    monkeypatch.setattr(
        program_store.serialize_executable,
        "deserialize_and_load",
        lambda *kept: loads.pop(0)(*kept),
    )
    check(Traced().make())
    assert loads == []
    [file] = folder.iterdir()
    assert file.stat().st_mtime_ns > 0


def test_errors_of_what_is_made_come_through(folder: Path) -> None:
    def fail() -> None:
        raise UserError("no such network")

    with pytest.raises(UserError, match="no such network"):
        program_store.read_or_make("x", fail)


def test_another_setting_or_version_is_another_program(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = Traced()
    check(traced.make())
    monkeypatch.setenv("COLORJAX_FOLDED_CONVOLUTIONS", "0")
    check(traced.make())
    assert traced.count == 2
    with jax.default_matmul_precision("highest"):
        check(traced.make())
    assert traced.count == 3
    monkeypatch.setattr(program_store, "_describe_machine", lambda: ("another processor",))
    check(traced.make())
    assert traced.count == 4


def test_a_change_of_colorjax_makes_another_program(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "colorjax/models/unet.py"
    text.parent.mkdir(parents=True)
    monkeypatch.setattr(program_store, "__file__", str(tmp_path / "colorjax/program_store.py"))
    program_store.enable()  # without a text nothing is kept
    check(Traced().make())
    assert not folder.exists()
    traced = Traced()
    for count in (1, 2, 3):
        text.write_text(f"a = {count}")
        program_store.enable()
        check(traced.make())
        check(traced.make())
        assert traced.count == count
    text.write_text("a = 1")  # while this process has another
    check(traced.make("g"))
    assert len(list(folder.iterdir())) == 3


def test_without_a_description_of_the_processor_the_machine_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(path: Path) -> str:
        raise OSError(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", fail)
        described = program_store._describe_machine.__wrapped__()
    assert described[-1] == platform.node()


@pytest.mark.parametrize("owner", [0, 12345])
def test_nothing_is_read_that_somebody_else_wrote(folder: Path, owner: int) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    assert program_store.read_or_make("x", lambda: 1) == 1
    [file] = folder.iterdir()
    os.chown(file, owner, -1)
    assert program_store.read_or_make("x", lambda: 2) == (1 if owner == 0 else 2)


def test_a_disk_that_tells_no_times_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program_store.read_or_make("x", lambda: 1) == 1

    def fail(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", fail)
    assert program_store.read_or_make("x", lambda: 2) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_enable_compilation_cache", False),
        ("jax_compilation_cache_dir", None),
        ("jax_compilation_cache_dir", "gs://bucket/programs"),
    ],
)
def test_nothing_is_kept_where_jax_keeps_nothing_on_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.chdir(folder.parent)
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        assert program_store.read_or_make("number", lambda: 7) == 7
    finally:
        jax.config.update(name, before)
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("reason", ["switched off", "several devices", "not asked for"])
def test_nothing_is_kept_where_it_should_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "several devices":
        monkeypatch.setattr(program_store.parallel, "is_one_cpu", lambda: False)
    else:
        monkeypatch.setattr(program_store, "_text", "")
    if reason == "switched off":
        monkeypatch.setenv(program_store.SWITCH, "0")
        program_store.enable()
    traced = Traced()
    check(traced.make())
    check(traced.make())
    assert traced.count == 2
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_costs_only_time(folder: Path) -> None:
    folder.write_text("a file in its place")
    traced = Traced()
    check(traced.make())
    check(traced.make())
    assert traced.count == 2


def test_the_newest_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_store, "MAX_BYTES", 2500)  # two of them
    made = []

    def make(name: str) -> bytes:
        made.append(name)
        return bytes(1000)

    def ask(name: str) -> None:
        program_store.read_or_make(name, lambda: make(name))
        for file in folder.iterdir():  # as if a minute had passed
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 60 * 10**9))

    for name in ("a", "b", "a", "c", "a", "b"):  # c takes the place of b, not that of a
        ask(name)
    assert made == ["a", "b", "c", "b"]
    assert len(list(folder.iterdir())) == 2


def test_threads_share_a_program_and_jax_own_cache_stays_on(folder: Path) -> None:
    traced = Traced()
    function = traced.make()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check(function), range(16)))
    assert traced.count == 1
    assert jax.config.values["jax_enable_compilation_cache"]


class Foreign(nn.Module):
    """A network that isn't colorjax's."""

    output_channels: int = 2
    dtype: object = jnp.float32
    stride = 1


class ForeignCodec(color.LabCodec):
    """A codec that isn't colorjax's."""


def test_networks_of_somebody_else_are_never_kept(
    tiny_config: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = create_networks(tiny_config)
    assert networks.identity is not None
    tiny_config.generator.widths = (8, 8)
    assert create_networks(tiny_config).identity not in (networks.identity, None)
    scaled = color.LabCodec(50.0, 1.0, 20.0)
    assert dataclasses.replace(networks, codec=scaled).identity not in (networks.identity, None)
    foreign = ForeignCodec(50.0, 1.0, 110.0)
    assert dataclasses.replace(networks, codec=foreign).identity is None
    monkeypatch.setitem(GENERATORS, "foreign", Foreign)
    tiny_config.generator = {"name": "foreign"}
    assert create_networks(tiny_config).identity is None


def test_pictures_come_out_alike_however_often_and_without_what_is_kept(
    work: Path, model_folder: Path
) -> None:
    for name, seed in (("a.png", 0), ("b.png", 1)):
        save_picture(f"photos/{name}", seed=seed)
    command = [sys.executable, "-m", "colorjax", "colorize", "--model", str(model_folder)]
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("JAX_")}
    inherited.pop(program_store.SWITCH, None)
    results = []
    for output, enabled in (("first", "true"), ("second", "true"), ("plain", "false")):
        settings = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": enabled}
        settings |= {"XDG_CACHE_HOME": str(work / "cache"), "PYTHONPATH": str(ROOT)}
        for inputs in ("photos/a.png", "photos"):
            arguments = [*command, inputs, "--output", f"{output}/{Path(inputs).stem}"]
            subprocess.run(arguments, env=inherited | settings, check=True, capture_output=True)
        files = sorted(Path(output).rglob("*.png"))
        results.append({str(file.relative_to(output)): file.read_bytes() for file in files})
    assert len(results[0]) == 3
    assert results[0] == results[1] == results[2]
    assert list((work / "cache/colorjax/compiled" / program_store.FOLDER).iterdir())
