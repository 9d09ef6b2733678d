"""How programs are compiled: once, kept on disk, and on a CPU in little memory."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from colorjax.memory import give_back_freed_memory

MAX_BYTES = 2**30  # of the folder; what was used longest ago goes first
FUSION = "xla_cpu_use_fusion_emitters"
OPTIMIZATION = "xla_backend_optimization_level"


def keep_compiled_programs() -> None:
    """Let JAX keep what it compiles under `$XDG_CACHE_HOME/colorjax/compiled`.

    JAX's own settings win: `JAX_COMPILATION_CACHE_DIR` names another folder, and
    `JAX_ENABLE_COMPILATION_CACHE=false` switches it off. A folder that can't be written costs
    nothing but the time to compile. What colours pictures is kept whole beside it, see
    `program_store`.
    """
    import jax

    from colorjax import program_store

    program_store.enable()
    # Else a program that uses `parallel.sum_over_devices` or `map_over_devices` is another one in
    # each process.
    jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "colorjax" / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    # Colouring one photo takes many small programs: they count as well.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compile_for_one_call(function: Callable[..., Any]) -> Any:
    """Return `jax.jit(function)`; on a CPU it isn't optimised, which takes longer than one call.

    Of random numbers LLVM optimises each shape for seconds: drawing the weights of `wgan.py` took a
    minute, and takes a third of that.

    Args:
      function: pure, of arrays.
    """
    import jax

    if jax.default_backend() != "cpu":
        return jax.jit(function)
    options = (thrifty_options() or {}) | {OPTIMIZATION: 0}
    return jax.jit(function, compiler_options=options)


def forget_compiled_programs() -> None:
    """Free what this process compiled so far; what is used again is compiled (or read) again."""
    import jax

    jax.clear_caches()
    give_back_freed_memory()


@cache
def thrifty_options() -> dict[str, bool | int] | None:
    """Return options for `jax.jit` with which XLA compiles for a CPU in less memory and time.

    XLA's newer way to compile fused loops holds all of them until it is done: 1.6 GB for the step
    of `wgan.py` in place of 0.5 GB. Of LLVM's three levels of optimisation the first takes a tenth
    to a third less time than the last, XLA's own choice. The step itself is as fast either way.

    Returns:
      The options; None where this version of XLA doesn't know them, or `XLA_FLAGS` chooses.
    """
    import jax

    flags = os.environ.get("XLA_FLAGS", "")
    if FUSION in flags or OPTIMIZATION in flags:
        return None
    options = {FUSION: False, OPTIMIZATION: 1}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options
