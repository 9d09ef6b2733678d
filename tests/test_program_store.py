"""What is kept is what was made; nothing kept outlives what it was made from."""

import os
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

from colorjax import program_store
from colorjax.models import GENERATORS, create_networks
from conftest import ROOT, save_picture


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of JAX's cache, of this test alone."""
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


def test_what_was_read_from_jax_own_cache_is_kept_whole(folder: Path) -> None:
    traced = Traced()
    tree, x = arguments()
    jax.jit(lambda tree, x: (jnp.sin(tree["a"]) @ x, x.sum()))(tree, x)
    jax.clear_caches()
    for _ in range(2):
        check(traced.make())
        jax.clear_caches()
    assert traced.count == 1


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


def test_what_xla_cannot_load_is_compiled_as_any_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*kept: object) -> None:
        raise RuntimeError("of another build")

    monkeypatch.setattr(program_store.serialize_executable, "deserialize_and_load", refuse)
    check(Traced().make())


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
    texts = tmp_path / "colorjax"
    (texts / "models").mkdir(parents=True)
    (texts / "models/unet.py").write_text("a = 1")
    monkeypatch.setattr(program_store, "__file__", str(texts / "program_store.py"))
    traced = Traced()
    for count, text in enumerate(("a = 1", "a = 2", "a = 3"), start=1):
        (texts / "models/unet.py").write_text(text)
        program_store._hash_sources.cache_clear()
        check(traced.make())
        check(traced.make())
        assert traced.count == count
    program_store._hash_sources.cache_clear()


@pytest.mark.parametrize("setting", ["no cache", "no folder", "bucket"])
def test_nothing_is_kept_where_jax_keeps_nothing_on_disk(folder: Path, setting: str) -> None:
    name, value = {
        "no cache": ("jax_enable_compilation_cache", False),
        "no folder": ("jax_compilation_cache_dir", None),
        "bucket": ("jax_compilation_cache_dir", "gs://bucket/programs"),
    }[setting]
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        assert program_store.read_or_make("number", lambda: 7) == 7
    finally:
        jax.config.update(name, before)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_costs_only_time(folder: Path) -> None:
    folder.write_text("a file in its place")
    traced = Traced()
    check(traced.make())
    check(traced.make())
    assert traced.count == 2


def test_the_newest_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_store, "FILES", 2)
    made = []

    def ask(name: str) -> None:
        program_store.read_or_make(name, lambda: made.append(name))
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


def test_networks_of_somebody_else_are_never_kept(
    tiny_config: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = create_networks(tiny_config).identity
    assert identity is not None
    tiny_config.critic.widths = (8, 8)
    assert create_networks(tiny_config).identity not in (identity, None)
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
