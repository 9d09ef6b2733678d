"""Programs for one CPU kept on disk whole, so that a picture need not wait until one is traced.

JAX's own cache (`compilation.keep_compiled_programs`) keeps what XLA compiles, and finds it by the
traced program: tracing and lowering a network take longer than reading and running it. Here a
program is found by all that tracing depends on instead: colorjax's own text, the versions of the
libraries, their settings, the processor, and what the caller names, such as the network.

Nothing is kept, nor looked for, until a program asks for it (`enable`), so that whoever changes
colorjax within a process has what was changed. What is kept is machine code in pickles, in the
folder of JAX's own cache, which holds machine code as well: whoever may write there is trusted.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import flax
import jax
import jaxlib
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from colorjax import parallel
from colorjax.files import write_whole

SWITCH = "COLORJAX_KEEP_PROGRAMS"  # 0: nothing is kept
FOLDER = "programs"  # within the folder of JAX's own cache
MAX_BYTES = 2**28  # of the folder; what was used longest ago goes first
_SETTINGS = ("COLORJAX_", "JAX_", "NPROC", "XLA_")  # what their variables' names begin with
_LIBRARIES = (flax, jax, jaxlib, np)
_PLACE = "jax_compilation_cache_dir"

Kept = TypeVar("Kept")
Program = Callable[..., Any]

_lock = threading.Lock()  # held while one is compiled, which changes a setting of JAX's
_text = ""  # digest of what this process was started from; empty as long as nothing is kept


def enable() -> None:
    """Let this process keep programs; to be called as it starts, while its text is that on disk."""
    global _text
    if os.environ.get(SWITCH) != "0":
        _text = _digest_text()


def read_or_make(identity: str, make: Callable[[], Kept]) -> Kept:
    """Return what `make` gives, from disk where an earlier process kept it.

    Args:
      identity: names all that the result depends on but for colorjax, the libraries and their
        settings, and the machine.
      make: makes it; whatever it returns can be pickled.
    """
    path = _find_file(identity)
    if path is None:
        return make()
    with contextlib.suppress(Exception):  # unpickling raises many kinds
        kept: Kept = _read(path)
        return kept
    made = make()
    _write(path, made)
    return made


def keep_program(function: Any, identity: str) -> Program:
    """Return a function that calls `function`, whose programs are kept on disk.

    Args:
      function: of `jax.jit`, of trees of arrays; those of NumPy are arrays, numbers are not.
      identity: see `read_or_make`; shapes and dtypes of the arguments need no name.

    Returns:
      The function to call in its place, though not within another one that is traced.
    """
    programs: dict[Any, Program] = {}

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if not _text:
            return function(*arguments)
        leaves, tree = jax.tree.flatten(arguments)
        kind = (tree, *((leaf.shape, leaf.dtype) for leaf in leaves))
        if kind not in programs:
            with _lock:
                if kind not in programs:
                    path = _find_file(f"{identity}, {kind}")
                    programs[kind], result = _begin(path, function, arguments)
                    return result
        return programs[kind](*arguments)

    return call


def _begin(path: Path | None, function: Program, arguments: Sequence[Any]) -> tuple[Program, Any]:
    """Return a program and what it makes of the arguments.

    The program is the function itself where none can be kept.
    """
    if path is None:
        return function, function(*arguments)
    with contextlib.suppress(Exception):  # XLA has several for what it can't load or call
        return _try_out(_read(path), arguments)
    if _can_write(path.parent):
        with contextlib.suppress(OSError):  # of no use, whatever it is
            path.unlink()
        with contextlib.suppress(Exception):  # JAX has several for what it can't write
            kept = _compile(function, arguments)
            begun = _try_out(kept, arguments)
            _write(path, kept)
            return begun
    return function, function(*arguments)


def _try_out(kept: tuple[Any, ...], arguments: Sequence[Any]) -> tuple[Program, Any]:
    """Return a program that was kept, and its result: XLA tells only then what it lacks."""
    program = serialize_executable.deserialize_and_load(*kept)
    return program, jax.block_until_ready(program(*arguments))


def _compile(function: Any, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Return a program as it can be kept, compiled for this.

    XLA can't write one whole that it has read, and JAX would take it from its cache on disk, or
    from memory, where it knows the very function.
    """
    lowered = jax.jit(lambda *own: function(*own)).lower(*arguments)
    enabled = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # which lets JAX look at the setting again
        return tuple(serialize_executable.serialize(lowered.compile()))
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def _find_file(identity: str) -> Path | None:
    """Return where something is kept, None if nothing is, or can be."""
    base = jax.config.values[_PLACE]
    enabled = _text and base and "://" not in base
    if not (enabled and jax.config.values["jax_enable_compilation_cache"]):
        return None
    if not parallel.is_one_cpu():
        return None
    name = hashlib.sha256(repr((_text, _describe_settings(), identity)).encode()).hexdigest()
    return Path(base) / FOLDER / name


def _can_write(folder: Path) -> bool:
    """Return whether files can be kept in a folder, which is made."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    return False


def _describe_settings() -> tuple[Any, ...]:
    """Return what the machine and the settings are that programs depend on."""
    environment = sorted(item for item in os.environ.items() if item[0].startswith(_SETTINGS))
    # An attribute, where there is one, tells of the thread's own (`with jax.enable_x64():`).
    settings = [
        (name, getattr(jax.config, name, value))
        for name, value in jax.config.values.items()
        if name != _PLACE
    ]
    return (_describe_machine(), parallel.count_cores(), environment, settings)


@functools.cache
def _describe_machine() -> tuple[str, ...]:
    """Return what machine code depends on; folders may be shared by several machines."""
    lines: list[str] = []
    with contextlib.suppress(OSError):  # there on Linux alone
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    kinds = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    system = (platform.system(), platform.machine(), *platform.libc_ver())
    return (*system, *(sorted(kinds) or [platform.node()]))


def _digest_text() -> str:
    """Return a digest of colorjax's text and of the libraries' versions; empty without a text."""
    root = Path(__file__).parent
    paths = sorted(root.rglob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    versions = (platform.python_version(), *(library.__version__ for library in _LIBRARIES))
    digest.update(repr(versions).encode())
    return digest.hexdigest() if paths else ""


def _read(path: Path) -> Any:
    """Return what is kept in a file; see `_write`.

    Raises:
      OSError: if it is not there, or somebody else's.
      ValueError: if it is not as it was written.
      Exception: of many other kinds, from unpickling.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_uid not in (0, os.getuid()):
            raise PermissionError(path)
        content = file.read()
    digest, payload = content[:32], content[32:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError(path)
    with contextlib.suppress(OSError):  # on a disk that tells no times
        os.utime(path)
    return pickle.loads(payload)  # noqa: S301 (the user's own, and as this program wrote it)


def _write(path: Path, kept: Any) -> None:
    """Keep something; where that can't be, all that is lost is time."""
    if _digest_text() != _text:  # the text was changed since this process read it
        return
    payload = pickle.dumps(kept)
    content = hashlib.sha256(payload).digest() + payload
    with contextlib.suppress(OSError):
        write_whole(path, lambda draft: draft.write_bytes(content))
        _make_room(path.parent)


def _make_room(folder: Path) -> None:
    """Delete what was used longest ago until the rest is no more than MAX_BYTES."""
    kept = 0
    for file in sorted(folder.iterdir(), key=lambda file: -file.stat().st_mtime_ns):
        kept += file.stat().st_size
        if kept > MAX_BYTES:
            file.unlink(missing_ok=True)
