"""Convolutions and their first and second derivatives against XLA's own, in double precision."""

import os
import re
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from colorjax import losses, models
from colorjax.models import convolution
from colorjax.models.convolution import convolve
from conftest import ROOT

LAYOUT = ("NHWC", "HWIO", "NHWC")
CASES = {
    "strided": ((4, 4), (2, 2), ((1, 1), (1, 1)), (6, 8)),
    "strided, odd": ((4, 4), (2, 2), ((1, 1), (1, 1)), (7, 8)),  # XLA's
    "same": ((3, 3), (1, 1), ((1, 1), (1, 1)), (5, 6)),
    "smaller": ((4, 4), (1, 1), ((1, 1), (1, 1)), (5, 6)),
    "valid": ((4, 4), (1, 1), "VALID", (4, 5)),
    "uneven": ((3, 2), (1, 1), ((2, 0), (0, 1)), (7, 6)),
    "few pixels": ((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 2)),
}


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_xlas(case, rows, monkeypatch):
    size, strides, padding, shape = CASES[case]
    monkeypatch.setattr(convolution, "_rows_of_strip", lambda y, kernel_size: rows)
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        x = jnp.asarray(generator.normal(size=(2, *shape, 3)))
        kernel = jnp.asarray(generator.normal(size=(*size, 3, 5)))

        def penalty(kernel, convolve):
            """A function of the gradient in x, which is not linear in either."""

            def score(x):
                y = convolve(x, kernel, strides, padding, dimension_numbers=LAYOUT)
                return jnp.sum(jnp.tanh(y))

            return jnp.sum(jax.grad(score)(x) ** 2), score(x)

        def derivatives(convolve):
            value = penalty(kernel, convolve)
            second = jax.grad(lambda k: penalty(k, convolve)[0])(kernel)
            third = jax.grad(
                lambda k: jnp.sum(jax.grad(lambda k: penalty(k, convolve)[0])(k) ** 2)
            )(kernel)
            first = jax.grad(lambda k: penalty(k, convolve)[1])(kernel)
            return value, first, second, third

        for ours, xlas in zip(
            jax.tree.leaves(jax.jit(lambda: derivatives(convolve))()),
            jax.tree.leaves(jax.jit(lambda: derivatives(jax.lax.conv_general_dilated))()),
            strict=True,
        ):
            np.testing.assert_allclose(ours, xlas, rtol=1e-9, atol=1e-9)


def test_the_switch_changes_the_program_and_nothing_else(monkeypatch):
    critic = models.create_critic({"name": "wgan", "widths": (4, 8)}, "float32")
    real, fake = np.random.default_rng(0).random((2, 2, 16, 16, 3), dtype=np.float32)
    results, programs = [], []
    for switch in ("1", "0"):
        monkeypatch.setenv("COLORJAX_FOLDED_CONVOLUTIONS", switch)
        variables = critic.init(jax.random.key(0), real, False)

        def penalty(params):
            def score(image):
                return critic.apply({"params": params}, image, False)

            return losses.gradient_penalty(score, real, fake, jax.random.key(1))

        gradient = jax.jit(jax.value_and_grad(penalty))
        programs.append(gradient.lower(variables["params"]).as_text())
        results.append(gradient(variables["params"]))
    assert (programs[0] != programs[1]) == (jax.default_backend() == "cpu")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


def test_devices_tell_each_other_one_sum_of_a_kernel_gradient():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
    program = subprocess.run(
        [sys.executable, __file__], env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert len(re.findall(r"= f32\[3,3,3,5\]\S* all-reduce\(", program)) == 1
    assert program.count("all-reduce(") == 1
    assert not re.search("collective-permute|all-gather|all-to-all", program)


def compile_for_two_devices() -> str:
    """Return the program of a kernel's gradient whose pictures lie on two devices."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    shared, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    generator = np.random.default_rng(0)
    x, y = (generator.normal(size=(4, 18, 17, channels)) for channels in (3, 5))
    operands = [jax.device_put(each.astype(np.float32), shared) for each in (x, y)]

    def gradient(convolve, x, y):
        def forward(kernel):
            padding = ((1, 1), (1, 1))
            return convolve(x, kernel, (1, 1), padding, dimension_numbers=LAYOUT)

        return jax.vjp(forward, jnp.zeros((3, 3, 3, 5)))[1](y)[0]

    compiled = jax.jit(partial(gradient, convolve), out_shardings=whole).lower(*operands).compile()
    expected = jax.jit(partial(gradient, jax.lax.conv_general_dilated))(*operands)
    np.testing.assert_allclose(compiled(*operands), expected, rtol=1e-5, atol=1e-4)
    return compiled.as_text()


if __name__ == "__main__":
    assert len(jax.devices()) == 2
    convolution._rows_of_strip = lambda y, kernel_size: 4
    print(compile_for_two_devices())
