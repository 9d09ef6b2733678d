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
from colorjax.models import convolution, winograd
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
    "strips of padding": ((3, 3), (1, 1), ((5, 6), (0, 1)), (3, 4)),
    "folded, odd tiles": ((4, 4), (2, 2), ((1, 1), (1, 1)), (10, 6)),
    "few pixels": ((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 2)),
}


def take_strips(monkeypatch, rows):
    monkeypatch.setattr(convolution, "_rows_of_strip", lambda y, kernel_size: rows)


def take_all_cores(monkeypatch):
    monkeypatch.setattr(convolution, "_leaves_cores_idle", lambda x, kernel_shape: True)


WAYS = {
    "all cores": take_all_cores,
    "copies": lambda monkeypatch: monkeypatch.setattr(convolution, "_FEW_PRODUCTS", 1000),
    "strips": partial(take_strips, rows=2),
    "whole": partial(take_strips, rows=20),
    "tiles": lambda monkeypatch: monkeypatch.setattr(winograd, "_CHANNELS", 1),
    "windows": lambda monkeypatch: monkeypatch.setattr(
        convolution, "_has_few_pixels", lambda image, kernel_shape: True
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_xlas(case, way, monkeypatch):
    size, strides, padding, shape = CASES[case]
    WAYS[way](monkeypatch)
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


@pytest.mark.parametrize("shape", [(4, 128, 128, 64), (32, 256, 256, 64), (2, 7, 5, 3)])
@pytest.mark.parametrize("kernel_size", [9, 9 * 512 * 512])
def test_strips_are_whole_rows_that_fit_a_cache(shape, kernel_size):
    rows = convolution._rows_of_strip(jax.ShapeDtypeStruct(shape, jnp.float32), kernel_size)
    assert 1 <= rows <= shape[1]
    fits = rows * 4 * np.prod(shape) / shape[1] <= max(2**20, kernel_size)
    assert fits or np.ceil(shape[1] / rows) == 32


@pytest.mark.parametrize("way", ["all cores", "copies", "strips", "tiles", "windows"])
def test_one_gradient_for_each_picture(way, monkeypatch):
    WAYS[way](monkeypatch)
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(4, 2, 6, 5, 3)), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=(3, 3, 3, 5)), jnp.float32)

    def gradients(convolve):
        def loss(kernel, x):
            y = convolve(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=LAYOUT)
            return jnp.sum(jnp.tanh(y))

        return jax.vmap(jax.grad(loss, (0, 1)), (None, 0))(kernel, x)

    ours, xlas = gradients(convolve), gradients(jax.lax.conv_general_dilated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, xlas)


@pytest.mark.parametrize("way", ["copies", "strips", "tiles", "windows"])
def test_bfloat16_is_rounded_once(way, monkeypatch):
    WAYS[way](monkeypatch)
    shape = (2, 40, 5, 3)
    generator = np.random.default_rng(0)
    x, y = (
        jnp.asarray(generator.normal(size=(*shape[:3], channels)), jnp.bfloat16)
        for channels in (3, 5)
    )
    kernel = jnp.asarray(generator.normal(size=(3, 3, 3, 5)), jnp.bfloat16)

    def derivatives(convolve, dtype):
        def forward(x, kernel):
            padding = ((1, 1), (1, 1))
            return convolve(x, kernel, (1, 1), padding, dimension_numbers=LAYOUT)

        result, transpose = jax.vjp(forward, x.astype(dtype), kernel.astype(dtype))
        return result, *transpose(y.astype(dtype))

    expected = derivatives(jax.lax.conv_general_dilated, jnp.float32)
    for ours, exact in zip(derivatives(convolve, jnp.bfloat16), expected, strict=True):
        np.testing.assert_allclose(np.asarray(ours, np.float32), exact, rtol=2**-8, atol=1e-4)


def critics_penalty(real, fake):
    critic = models.create_critic({"name": "wgan", "widths": (4, 8)}, "float32")
    variables = critic.init(jax.random.key(0), real, False)

    def penalty(params):
        def score(image):
            return critic.apply({"params": params}, image, False)

        return losses.gradient_penalty(score, real, fake, jax.random.key(1))

    return penalty, variables["params"]


def generators_error(fields, real, fake):
    generator = models.create_generator({"widths": (4, 8), **fields}, 2, "float32")
    variables = generator.init(jax.random.key(0), real[..., :1], False)

    def error(params):
        prediction, _ = generator.apply(
            variables | {"params": params}, real[..., :1], True, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(prediction - fake[..., :2]))

    return error, variables["params"]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere XLA's own is taken")
@pytest.mark.parametrize(
    ("side", "channels", "is_xlas"), [(32, 128, True), (32, 256, False), (4, 1024, False)]
)
def test_many_channels_take_no_convolution_of_xlas(side, channels, is_xlas):
    x = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)
    one = partial(convolve, strides=(1, 1), padding=((1, 1), (1, 1)), dimension_numbers=LAYOUT)
    program = jax.jit(one).lower(x, kernel).compile().as_text()
    assert (" convolution(" in program) == is_xlas


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere XLA's own is taken")
@pytest.mark.parametrize(("channels", "is_xlas"), [(1, False), (2, False), (3, True)])
def test_a_picture_of_a_channel_or_two_takes_no_convolution_of_xlas(channels, is_xlas):
    x = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, channels, 32), jnp.float32)
    one = partial(convolve, strides=(1, 1), padding=((1, 1), (1, 1)), dimension_numbers=LAYOUT)
    program = jax.jit(one).lower(x, kernel).compile().as_text()
    assert (" convolution(" in program) == is_xlas


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere XLA's own is taken")
@pytest.mark.parametrize(("side", "channels"), [(96, 32), (48, 64)])
@pytest.mark.parametrize("is_alone", [True, False])
def test_few_channels_take_all_cores_unless_each_has_its_own_pictures(
    side, channels, is_alone, monkeypatch
):
    monkeypatch.setattr(convolution, "is_one_device_of_many_cores", lambda: is_alone)
    x = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)
    one = partial(convolve, strides=(1, 1), padding=((1, 1), (1, 1)), dimension_numbers=LAYOUT)
    program = jax.jit(one).lower(x, kernel).compile().as_text()
    # What YNNPACK takes is fused under its name, and so would use one core.
    assert ("__ynn_fusion" in program) == (not is_alone)


@pytest.mark.parametrize("side", [2, 3])
def test_tiles_round_little_more_than_xla(side):
    generator = np.random.default_rng(0)
    padding = ((1, 1), (1, 1))
    shapes = (2, 9, 8, 256), (side, side, 256, 256), (2, 12 - side, 11 - side, 256)
    x, kernel, y = (generator.normal(size=shape) for shape in shapes)

    def xlas(x, kernel, y):
        def forward(x, kernel):
            return jax.lax.conv_general_dilated(
                x, kernel, (1, 1), padding, dimension_numbers=LAYOUT
            )

        result, gradients = jax.vjp(forward, x, kernel)
        return result, *gradients(y)

    def tiles(x, kernel, y):
        return (
            winograd.convolve(x, kernel, padding),
            winograd.input_gradient(y, kernel, padding),
            winograd.kernel_gradient(x, y, padding, side),
        )

    with jax.enable_x64(True):
        exact = [np.asarray(each) for each in xlas(*map(jnp.asarray, (x, kernel, y)))]
    single = [jnp.asarray(each, jnp.float32) for each in (x, kernel, y)]
    for expected, ours, others in zip(exact, tiles(*single), xlas(*single), strict=True):
        error, usual = (
            np.sqrt(np.mean((np.asarray(each) - expected) ** 2)) / expected.std()
            for each in (ours, others)
        )
        assert error < 4 * max(usual, 2**-24)


def test_a_nan_stays_in_its_picture(monkeypatch):
    WAYS["tiles"](monkeypatch)
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    kernel = jnp.ones((3, 3, 3, 4))
    x[0, 0, 0, 0] = np.nan
    y = convolve(jnp.asarray(x), kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=LAYOUT)
    assert np.isnan(y[0]).any()
    assert np.isfinite(y[1]).all()


@pytest.mark.parametrize("way", ["all cores", "tiles"])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 2, 5, 3), "float32"), ((0, 5, 5, 3), "float32"), ((1, 5, 5, 3), "int32")],
)
def test_nothing_and_whole_numbers_are_convolved_as_by_xla(way, shape, dtype, monkeypatch):
    WAYS[way](monkeypatch)
    x, kernel = jnp.ones(shape, dtype), jnp.ones((3, 3, 3, 4), dtype)
    ours, xlas = (
        each(x, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT)
        for each in (convolve, jax.lax.conv_general_dilated)
    )
    assert ours.shape == xlas.shape
    assert ours.dtype == xlas.dtype
    np.testing.assert_array_equal(ours, xlas)


def test_two_precisions_are_refused_as_by_xla():
    x, kernel = jnp.ones((1, 5, 5, 3)), jnp.ones((3, 3, 3, 4), jnp.bfloat16)
    with pytest.raises(TypeError, match="same dtypes"):
        convolve(x, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT)


TRAINED = {
    "critic": critics_penalty,
    "unet": partial(generators_error, {"name": "unet"}),
    "residual_unet": partial(generators_error, {"name": "residual_unet", "blocks": (1, 2)}),
}


@pytest.mark.parametrize("create", TRAINED.values(), ids=TRAINED)
def test_the_switch_changes_the_program_and_nothing_else(create, monkeypatch):
    real, fake = np.random.default_rng(0).random((2, 2, 16, 16, 3), dtype=np.float32)
    results, programs = [], []
    for switch in ("1", "0"):
        monkeypatch.setenv("COLORJAX_FOLDED_CONVOLUTIONS", switch)
        function, params = create(real, fake)
        gradient = jax.jit(jax.value_and_grad(function))
        programs.append(gradient.lower(params).as_text())
        results.append(gradient(params))
    assert (programs[0] != programs[1]) == (jax.default_backend() == "cpu")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


NETWORKS = {
    "generator": (models.create_generator({"name": "unet", "widths": (4, 8)}, 2, "float32"), 1),
    "critic": (models.create_critic({"name": "wgan", "widths": (4, 8)}, "float32"), 3),
}


@pytest.mark.parametrize(("network", "channels"), NETWORKS.values(), ids=NETWORKS)
def test_a_prediction_is_the_same_where_it_is_portable(network, channels, monkeypatch):
    WAYS["tiles"](monkeypatch)
    picture = np.random.default_rng(0).random((2, 16, 16, channels), dtype=np.float32)
    variables = network.init(jax.random.key(0), picture, False)

    def predict(portable):
        return jax.jit(partial(models.predict, network, portable=portable))

    def trace(portable):
        return predict(portable).lower(variables, picture).as_text()

    programs = [trace(portable) for portable in (False, True)]
    assert (programs[0] != programs[1]) == (jax.default_backend() == "cpu")
    with monkeypatch.context() as switched_off:
        switched_off.setenv(convolution.SWITCH, "0")
        assert trace(False) == programs[1]
    outputs = [predict(portable)(variables, picture) for portable in (False, True)]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["copies", "strips", "tiles", "windows"])
def test_devices_tell_each_other_one_sum_of_a_kernel_gradient(way):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
    program = subprocess.run(
        [sys.executable, __file__, way],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert len(re.findall(r"= f32\[3,3,3,5\]\S* all-reduce\(", program)) == 1
    assert program.count("all-reduce(") == 1
    assert not re.search("collective-permute|all-gather|all-to-all", program)


def compile_for_two_devices() -> str:
    """Return the program of a convolution and its gradients whose pictures lie on two devices."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    shared, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    generator = np.random.default_rng(0)
    x, y = (generator.normal(size=(4, 18, 17, channels)) for channels in (3, 5))
    pictures = [jax.device_put(each.astype(np.float32), shared) for each in (x, y)]
    kernel = jax.device_put(generator.normal(size=(3, 3, 3, 5)).astype(np.float32), whole)

    def compute(convolve, x, y, kernel):
        def forward(x, kernel):
            padding = ((1, 1), (1, 1))
            return convolve(x, kernel, (1, 1), padding, dimension_numbers=LAYOUT)

        result, gradients = jax.vjp(forward, x, kernel)
        return result, *gradients(y)

    compiled = (
        jax.jit(partial(compute, convolve), out_shardings=(shared, shared, whole))
        .lower(*pictures, kernel)
        .compile()
    )
    expected = jax.jit(partial(compute, jax.lax.conv_general_dilated))(*pictures, kernel)
    for ours, xlas in zip(compiled(*pictures, kernel), expected, strict=True):
        np.testing.assert_allclose(ours, xlas, rtol=1e-5, atol=1e-4)
    return compiled.as_text()


if __name__ == "__main__":
    assert len(jax.devices()) == 2
    with pytest.MonkeyPatch.context() as patch:
        take_strips(patch, rows=4) if sys.argv[1] == "strips" else WAYS[sys.argv[1]](patch)
        print(compile_for_two_devices())
