"""Programs for one CPU kept on disk whole, so that a picture need not wait until one is traced.

JAX's own cache (`compilation.keep_compiled_programs`) keeps what XLA compiles, and finds it by the
traced program: tracing and lowering a network take longer than reading and running it. Here a
program is found by all that tracing depends on instead: colorjax's own text, the versions of the
libraries, their settings, the processor, and what the caller names, such as the model's config.
"""

import contextlib
import hashlib
import os
import pickle
import platform
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from colorjax import parallel
from colorjax.files import write_whole

FOLDER = "programs"  # within the folder of JAX's own cache
FILES = 50  # at most; what was used longest ago goes first
_SETTINGS = ("COLORJAX_", "JAX_", "NPROC", "XLA_")  # what their variables' names begin with
_LOCK = (
    threading.RLock()
)  # held while a program is looked for: compiling changes a setting of JAX's
_LIBRARIES = ("flax", "jax", "jaxlib", "numpy")

Kept = TypeVar("Kept")


def read_or_make(identity: str, make: Callable[[], Kept]) -> Kept:
    """Return what `make` gives, from disk where an earlier process kept it.

    Nothing is kept, nor looked for, on accelerators, for several devices, and where JAX keeps
    nothing on this machine's disk. What was kept is unpickled: the folder is the user's own,
    and holds machine code anyway.

    Args:
      identity: names all that the result depends on but for colorjax, the libraries and their
        settings, and the machine.
      make: makes it; whatever it returns can be pickled.
    """
    path = _find_file(identity)
    if path is None:
        return make()
    payload = _read(path)
    if payload is not None:
        kept: Kept = pickle.loads(payload)  # noqa: S301
        return kept
    made = make()
    _write(path, pickle.dumps(made))
    return made


def keep_program(function: Any, identity: str) -> Callable[..., Any]:
    """Return a function that calls `function`, whose programs are kept on disk.

    Args:
      function: of `jax.jit`, of trees of arrays.
      identity: see `read_or_make`; shapes and dtypes of the arguments need no name.
    """
    programs: dict[str, Any] = {}

    def call(*arguments: Any) -> Any:
        shapes = str(jax.tree.map(lambda array: (array.shape, str(array.dtype)), arguments))
        with _LOCK:
            if shapes not in programs:
                programs[shapes] = _read_or_compile(f"{identity}, {shapes}", function, arguments)
        return programs[shapes](*arguments)

    return call


def _read_or_compile(identity: str, function: Any, arguments: Sequence[Any]) -> Callable[..., Any]:
    """Return a program for arguments like these; that of JAX's own kind where none is kept."""
    if _find_file(identity) is None:
        program: Callable[..., Any] = function
        return program
    kept = read_or_make(
        identity, lambda: serialize_executable.serialize(_compile(function.lower(*arguments)))
    )
    try:
        program = serialize_executable.deserialize_and_load(*kept)
    except Exception:  # XLA has several for what it can't load: it is compiled as any other
        program = function
    return program


def _compile(lowered: Any) -> Any:
    """Compile a program anew: XLA can't write one whole that was read from JAX's cache."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # which lets JAX look at the setting again
        return lowered.compile()
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def _find_file(identity: str) -> Path | None:
    """Return where something is kept, None if nothing is."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    enabled = folder and "://" not in folder and jax.config.values["jax_enable_compilation_cache"]
    # For several devices a program may hold functions of Python's (`parallel.map_over_devices`).
    if not enabled or not parallel.is_one_cpu():
        return None
    name = hashlib.sha256(repr((_describe_program(), identity)).encode()).hexdigest()
    return Path(folder) / FOLDER / name


def _describe_program() -> str:
    """Return all that a program depends on beside what it computes with."""
    environment = sorted(item for item in os.environ.items() if item[0].startswith(_SETTINGS))
    # An attribute, where there is one, tells of the thread's own (`with jax.enable_x64():`).
    settings = [
        (name, getattr(jax.config, name, value)) for name, value in jax.config.values.items()
    ]
    cores = parallel.count_cores()
    return repr((_hash_sources(), _describe_machine(), environment, settings, cores))


@cache
def _hash_sources() -> str:
    """Return a digest of colorjax's text and of the libraries' versions."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    digest.update(repr([metadata.version(library) for library in _LIBRARIES]).encode())
    return digest.hexdigest()


@cache
def _describe_machine() -> tuple[str, ...]:
    """Return what machine code depends on; folders may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # on another system than Linux
        lines = [platform.node()]
    kinds = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return (platform.platform(), platform.python_version(), *sorted(kinds))


def _read(path: Path) -> bytes | None:
    """Return what is kept in a file, None if it is not there or not as it was written."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, payload = content[:32], content[32:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def _write(path: Path, payload: bytes) -> None:
    """Keep something; where that can't be, all that is lost is time."""
    content = hashlib.sha256(payload).digest() + payload
    with contextlib.suppress(OSError):
        write_whole(path, lambda draft: draft.write_bytes(content))
        files = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[:-FILES]:
            file.unlink(missing_ok=True)
