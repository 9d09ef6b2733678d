import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from colorjax.compilation import compile_for_one_call

PROGRAM = """
from colorjax.compilation import keep_compiled_programs
keep_compiled_programs()
import jax, jax.numpy as jnp
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))[0, 0])
"""


def run(settings: dict[str, str], arguments: Sequence[str] = ("-c", PROGRAM)) -> str:
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("JAX_")}
    environment = inherited | {"JAX_PLATFORMS": "cpu"} | settings
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def entries(folder: Path) -> dict[str, int]:
    programs = folder.rglob("*-cache") if folder.exists() else []
    return {path.name: path.stat().st_mtime_ns for path in programs}


def test_programs_are_compiled_once(tmp_path):
    first = run({"XDG_CACHE_HOME": str(tmp_path)})
    kept = entries(tmp_path / "colorjax" / "compiled")
    assert kept
    assert run({"XDG_CACHE_HOME": str(tmp_path)}) == first
    assert entries(tmp_path / "colorjax" / "compiled") == kept


SHARED = """
import sys
from functools import partial
from colorjax import parallel
from colorjax.compilation import keep_compiled_programs
keep_compiled_programs()
import jax, jax.numpy as jnp
from colorjax.models import winograd
from colorjax.models.convolution import convolve
if sys.argv[1:] == ["tiles"]:
    winograd._CHANNELS = 1
mesh = parallel.create_mesh()
x = parallel.create_global_batch(jnp.ones((2, 5, 6, 3)), mesh)
kernel = parallel.replicate(jnp.ones((3, 3, 3, 3)), mesh)
layout = ("NHWC", "HWIO", "NHWC")
for padding in (((1, 1), (1, 1)), ((2, 0), (2, 0))):
    def total(convolve, kernel, x):
        return convolve(x, kernel, (1, 1), padding, dimension_numbers=layout).sum()
    ours, xlas = (
        jax.jit(jax.value_and_grad(partial(total, each)))(kernel, x)
        for each in (convolve, jax.lax.conv_general_dilated)
    )
    print(len(jax.devices()), *map(jnp.allclose, ours, xlas))
"""


@pytest.mark.parametrize("way", ["strips", "tiles"])
@pytest.mark.parametrize("folder", ["XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"])
def test_a_program_for_several_devices_is_compiled_once(tmp_path, way, folder):
    settings = {folder: str(tmp_path), "JAX_NUM_CPU_DEVICES": "2"}
    settings |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    first = run(settings, ("-c", SHARED, way))
    assert first == "2 True True\n" * 2
    kept = entries(tmp_path)
    assert kept
    assert run(settings, ("-c", SHARED, way)) == first
    assert entries(tmp_path) == kept


def test_weights_are_the_same_where_they_are_not_optimised():
    def draw(key):
        return jax.random.truncated_normal(key, -2.0, 2.0, (3, 3, 4, 8))

    key = jax.random.key(0)
    np.testing.assert_allclose(compile_for_one_call(draw)(key), draw(key), rtol=1e-6)


OPTIONS = """
import sys
from colorjax import compilation, parallel
if sys.argv[1:]:
    compilation.FUSION = sys.argv[1]
import jax, jax.numpy as jnp
def step(state, batch):
    return state + batch.sum(), 2 * batch
step = parallel.map_step(step, parallel.create_mesh())
print(compilation.thrifty_options(), *step(jnp.ones(()), jnp.ones((2,))))
assert compilation.compile_for_one_call(jnp.square)(3.0) == 9.0
"""


@pytest.mark.parametrize(
    ("flags", "arguments", "options"),
    [
        ("", (), "{'xla_cpu_use_fusion_emitters': False, 'xla_backend_optimization_level': 1}"),
        ("", ("xla_cpu_no_such_option",), "None"),
        ("--xla_cpu_use_fusion_emitters=true", (), "None"),
        ("--xla_backend_optimization_level=2", (), "None"),
    ],
)
def test_a_step_is_compiled_in_little_memory_where_xla_can(flags, arguments, options):
    assert run({"XLA_FLAGS": flags}, ("-c", OPTIONS, *arguments)) == f"{options} 3.0 [2. 2.]\n"


def test_a_folder_of_the_users_own_wins(tmp_path):
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own"), "XDG_CACHE_HOME": str(tmp_path)}
    own |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    own |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    run(own)
    assert entries(tmp_path / "own")
    assert not (tmp_path / "colorjax").exists()


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=inherited | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) > 0


FORGETTING = """
import jax
from colorjax.compilation import forget_compiled_programs
traced = []
@jax.jit
def double(x):
    traced.append(x)
    return 2 * x
double(1.0), double(1.0)
forget_compiled_programs()
print(double(3.0), len(traced))
"""


def test_forgotten_programs_are_compiled_again():
    assert run({}, ("-c", FORGETTING)) == "6.0 2\n"
