import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from colorjax import models
from colorjax.errors import UserError


def abstract_variables(network: nn.Module, shape: tuple[int, ...]) -> dict:
    return jax.eval_shape(lambda key: network.init(key, jnp.zeros(shape), False), jax.random.key(0))


@pytest.mark.parametrize(
    ("network", "channels", "parameters"),
    [
        (models.UNet(), 1, 31_036_546),
        (models.Pix2PixUNet(), 1, 54_409_858),
        (models.DemoAutoencoder(), 3, 218_227),
        (models.WGANCritic(), 3, 2_795_008),
        (models.PatchGAN(), 3, 2_765_633),
        (models.CNNCritic(), 3, 454_849),
    ],
)
def test_parameter_count_is_the_published_one(network, channels, parameters):
    size = 256 if isinstance(network, models.Pix2PixUNet) else 128
    variables = abstract_variables(network, (1, size, size, channels))
    assert models.count_parameters(variables["params"]) == parameters


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        (models.WGANCritic(), 128, (2, 1, 1, 1)),
        (models.WGANCritic(), 256, (2, 5, 5, 1)),
        (models.PatchGAN(), 256, (2, 30, 30, 1)),
        (models.ConvBlockCritic(), 256, (2, 16, 16, 1)),
        (models.ConvBlockCritic(), 64, (2, 4, 4, 1)),
        (models.CNNCritic(), 128, (2, 1)),
        (models.CNNCritic(), 64, (2, 1)),
    ],
)
def test_critic_map_has_the_published_shape(network, size, expected):
    images = jnp.zeros((2, size, size, 3))
    scores, _ = jax.eval_shape(
        lambda key: network.init_with_output(key, images, True), jax.random.key(0)
    )
    chex.assert_shape(scores, expected)


def test_critic_has_no_norm_in_its_first_block_and_no_affine_elsewhere():
    variables = abstract_variables(models.WGANCritic(), (1, 128, 128, 3))
    assert variables.keys() == {"params"}
    assert all(leaves.keys() == {"kernel"} for leaves in variables["params"].values())
    patchgan = abstract_variables(models.PatchGAN(), (1, 64, 64, 3))
    assert len(patchgan["batch_stats"]) == 3


def test_critic_weights_start_from_a_normal_of_deviation_002():
    network = models.WGANCritic(widths=(32, 64))
    params = network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), False)["params"]
    kernel = np.asarray(params["Conv_1"]["kernel"])
    assert abs(kernel.mean()) < 0.001
    assert abs(kernel.std() - 0.02) < 0.001


def test_critic_says_which_pictures_are_too_small():
    with pytest.raises(UserError, match="at least 128 pixels, these have 64"):
        abstract_variables(models.WGANCritic(), (1, 64, 64, 3))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_and_predictions_are_float32_in_either_compute_dtype(dtype):
    network = models.create_generator({"name": "unet", "widths": (4, 8)}, 2, dtype)
    network_input = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    prediction, variables = network.init_with_output(jax.random.key(0), network_input, False)
    chex.assert_shape(prediction, (2, 16, 16, 2))
    chex.assert_tree_all_finite(prediction)
    assert {leaf.dtype for leaf in jax.tree.leaves((prediction, variables))} == {jnp.float32.dtype}


def test_bfloat16_computes_otherwise_but_nearly_the_same():
    network_input = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    networks = [
        models.create_generator({"name": "unet", "widths": (4, 8)}, 2, d) for d in models.DTYPES
    ]
    variables = networks[0].init(jax.random.key(0), network_input, False)
    exact, rounded = (network.apply(variables, network_input, False) for network in networks)
    assert 0 < float(jnp.max(jnp.abs(exact - rounded))) < 0.05


def test_generator_has_no_tanh():
    network = models.UNet(widths=(4, 8))
    network_input = jnp.ones((1, 8, 8, 1))
    variables = network.init(jax.random.key(0), network_input, False)
    variables["params"]["Conv_0"]["bias"] += 10.0
    assert float(jnp.min(network.apply(variables, network_input, False))) > 5.0


def test_batch_norm_keeps_nine_tenths_of_its_running_mean():
    network = models.UNet(widths=(4, 8))
    network_input = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    variables = network.init(jax.random.key(0), network_input, False)
    _, updated = network.apply(variables, network_input, True, mutable=["batch_stats"])
    kernel = variables["params"]["DoubleConv_0"]["Conv_0"]["kernel"]
    features = jax.lax.conv_general_dilated(
        network_input, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean = updated["batch_stats"]["DoubleConv_0"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * features.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "unett"}, "config.generator.name is 'unett'"),
        ({"name": "unet", "depth": 3}, "config.generator.depth does not apply to unet"),
    ],
)
def test_unknown_names_and_options_are_errors(fields, message):
    with pytest.raises(UserError, match=message):
        models.create_generator(fields, 2, "float32")


def test_unknown_dtype_is_an_error():
    with pytest.raises(UserError, match=r"config\.dtype is 'float16'"):
        models.create_critic({"name": "wgan"}, "float16")
