import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from colorjax import models
from colorjax.errors import UserError


def abstract_variables(network: nn.Module, shape: tuple[int, ...]) -> dict:
    return jax.eval_shape(lambda key: network.init(key, jnp.zeros(shape), False), jax.random.key(0))


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


@pytest.mark.parametrize(
    ("critic", "smallest"),
    [
        (models.WGANCritic(), 128),
        (models.WGANCritic(widths=(4, 8)), 16),
        (models.PatchGAN(), 24),
        (models.PatchGAN(widths=(4, 8)), 6),
        (models.PatchGAN(widths=(4,)), 3),
    ],
)
def test_critic_says_which_pictures_are_too_small(critic, smallest):
    def score(side):
        shape = (1, side, side + 8, 3)
        return jax.eval_shape(
            lambda key: critic.init_with_output(key, jnp.zeros(shape), False)[0], jax.random.key(0)
        )

    assert score(smallest).shape[1] == 1  # the map has one row of scores
    with pytest.raises(UserError, match=f"at least {smallest} pixels, these have {smallest - 1}"):
        score(smallest - 1)


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


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_keeps_something(dropout):
    with pytest.raises(UserError, match=r"config\.critic\.dropout=.*from 0\.0 to 1\.0, but not 1"):
        models.create_critic({"name": "cnn", "dropout": dropout}, "float32")


@pytest.mark.parametrize(
    ("generator", "critic", "message"),
    [
        ({"name": "plain_autoencoder", "width": 0}, {}, r"config\.generator\.width=0: give a"),
        ({"name": "plain_autoencoder", "width": -4}, {}, r"config\.generator\.width=-4: give a"),
        ({"name": "resnet_transfer", "encoder_end": "layer2"}, {}, "'layer2': .* ends in layer1"),
        ({"name": "residual_autoencoder", "widths": (4, 8)}, {}, r"\(4, 8\): .* takes four"),
        ({"name": "unet", "widths": (4.5, 8.5)}, {}, "network can't be built"),
        ({"name": "unet", "widths": (4, 8)}, {"name": "patchgan"}, "at least 24 pixels"),
        ({"name": "unet", "widths": (4, 8)}, {"name": "cnn", "norm": "layer"}, "norm is 'layer'"),
    ],
)
def test_networks_that_cannot_be_are_one_sentence(tiny_config, generator, critic, message):
    tiny_config.generator = ConfigDict(generator)
    tiny_config.critic = ConfigDict({"name": "", **critic})

    def build() -> None:
        networks = models.create_networks(tiny_config)
        models.generator_shapes(networks)
        models.critic_shapes(networks)

    with pytest.raises(UserError, match=message):
        build()


def test_unknown_dtype_is_an_error():
    with pytest.raises(UserError, match=r"config\.dtype is 'float16'"):
        models.create_critic({"name": "wgan"}, "float16")
