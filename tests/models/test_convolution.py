"""Convolutions and their first and second derivatives against XLA's own, in double precision."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from colorjax import losses, models
from colorjax.models.convolution import convolve
from conftest import ROOT

LAYOUT = ("NHWC", "HWIO", "NHWC")
CASES = {
    "strided": ((4, 4), (2, 2), ((1, 1), (1, 1)), (6, 8)),
    "strided, odd": ((4, 4), (2, 2), ((1, 1), (1, 1)), (7, 8)),  # XLA's
    "same": ((3, 3), (1, 1), ((1, 1), (1, 1)), (5, 6)),
    "smaller": ((4, 4), (1, 1), ((1, 1), (1, 1)), (5, 6)),
    "valid": ((4, 4), (1, 1), "VALID", (4, 5)),
    "large": ((3, 3), (1, 1), ((1, 1), (1, 1)), (16, 17)),
    "large, uneven": ((3, 2), (1, 1), ((2, 0), (0, 1)), (17, 16)),
    "large, valid": ((4, 4), (1, 1), "VALID", (20, 19)),
}


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_xlas(case):
    size, strides, padding, shape = CASES[case]
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        x = jnp.asarray(generator.normal(size=(2, *shape, 3)))
        kernel = jnp.asarray(generator.normal(size=(*size, 3, 5)))

        def penalty(kernel, convolution):
            """A function of the gradient in x, which is not linear in either."""

            def score(x):
                y = convolution(x, kernel, strides, padding, dimension_numbers=LAYOUT)
                return jnp.sum(jnp.tanh(y))

            return jnp.sum(jax.grad(score)(x) ** 2), score(x)

        def derivatives(convolution):
            value = penalty(kernel, convolution)
            second = jax.grad(lambda k: penalty(k, convolution)[0])(kernel)
            third = jax.grad(
                lambda k: jnp.sum(jax.grad(lambda k: penalty(k, convolution)[0])(k) ** 2)
            )(kernel)
            first = jax.grad(lambda k: penalty(k, convolution)[1])(kernel)
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


def test_a_kernel_gradient_moves_no_pictures_between_devices():
    """A sum over the devices is all that they have to tell each other."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
    program = subprocess.run(
        [sys.executable, __file__], env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert "all-reduce" in program
    assert not re.search("collective-permute|all-gather|all-to-all", program)


def compile_for_two_devices() -> str:
    """Return the program of a kernel's gradient whose pictures lie on two devices."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    shared, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    kernel = jnp.zeros((3, 3, 3, 3))

    def gradient(x, y):
        return jax.vjp(lambda k: convolve(x, k, (1, 1), ((1, 1), (1, 1))), kernel)[1](y)

    compiled = jax.jit(gradient, in_shardings=(shared, shared), out_shardings=whole)
    pictures = jax.ShapeDtypeStruct((4, 18, 17, 3), jnp.float32)
    return compiled.lower(pictures, pictures).compile().as_text()


if __name__ == "__main__":
    assert len(jax.devices()) == 2
    print(compile_for_two_devices())
