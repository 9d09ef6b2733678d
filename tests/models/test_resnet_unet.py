"""The ResNet U-Net beside fastai's DynamicUnet.

resnet_pins.json holds what fastai 2.8.12 on torch 2.13.0 gives for weights by formula;
resnet_pins.py tells when and how to change it.
"""

import json
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resnet_pins import PINS, create_image
from test_resnet import check, fill, variable_shapes

from colorjax import models
from colorjax.models.resnet_unet import ShuffleUp, icnr_kernel


def test_it_agrees_with_fastai():
    network = models.ResNetUNet()
    variables = fill(variable_shapes(network, channels=1))
    prediction = jax.jit(network.apply, static_argnums=2)(variables, create_image()[..., :1], False)
    check(np.asarray(prediction), json.loads(PINS.read_text())["dynamic_unet"], "prediction")


def test_parameter_count_of_a_shorter_encoder_is_fastais():
    network = models.ResNetUNet(encoder_end="layer3")
    params = variable_shapes(network, channels=1)["params"]
    assert models.count_parameters(params) == 7_636_280
    assert (network.stride, models.ResNetUNet().stride) == (16, 32)


@pytest.mark.parametrize("encoder_end", ["layer1.0", "layer2"])
def test_it_gives_back_the_size_of_its_input(encoder_end):
    network = models.ResNetUNet(encoder_end=encoder_end, output_channels=3)
    picture = jnp.zeros((2, network.stride, 3 * network.stride, 1))
    prediction, _ = jax.eval_shape(
        lambda key: network.init_with_output(key, picture, True), jax.random.key(0)
    )
    chex.assert_shape(prediction, (*picture.shape[:3], 3))


def test_shuffle_starts_without_a_checkerboard():
    x = jax.random.normal(jax.random.key(0), (1, 3, 5, 8))
    output, _ = ShuffleUp(4).init_with_output(jax.random.key(1), x)
    chex.assert_shape(output, (1, 6, 10, 4))
    np.testing.assert_array_equal(output, output[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))
    assert len(np.unique(output[0, 0, 0])) > 1


def test_icnr_kernel_has_the_deviation_of_he():
    kernel = icnr_kernel(jax.random.key(0), (1, 1, 128, 512))
    assert abs(float(kernel.std()) - np.sqrt(2 / 128)) < 0.003


def test_prediction_is_linear_and_float32_in_bfloat16():
    network = models.create_generator(
        {"name": "resnet_unet", "encoder_end": "layer1.0"}, 2, "bfloat16"
    )
    shapes = variable_shapes(network, channels=1)
    variables = fill(shapes)
    variables["params"]["Conv_6"]["bias"] += 100.0
    prediction = jax.jit(network.apply, static_argnums=2)(variables, jnp.ones((1, 8, 8, 1)), False)
    assert float(jnp.min(prediction)) > 50.0
    assert {leaf.dtype for leaf in jax.tree.leaves((prediction, shapes))} == {jnp.float32.dtype}


def test_gain_scales_what_the_encoder_sees_alone():
    picture = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
    plain, gained = (
        models.ResNetUNet(encoder_end="layer1.0", encoder_gain=gain) for gain in (1.0, 2.0)
    )
    variables = fill(variable_shapes(plain, channels=1))

    def features(network: nn.Module, picture: jax.Array) -> jax.Array:
        apply = partial(network.apply, capture_intermediates=True, mutable=["intermediates"])
        _, kept = jax.jit(apply, static_argnums=2)(variables, picture, False)
        return kept["intermediates"]["encoder"]["__call__"][0][0]

    chex.assert_trees_all_close(features(gained, picture), features(plain, 2.0 * picture))


def test_running_norms_are_those_of_the_encoder_alone():
    network = models.ResNetUNet(encoder_end="layer1.0", running_norms=True)
    picture = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = fill(variable_shapes(network, channels=1))
    apply = jax.jit(partial(network.apply, mutable=["batch_stats"]), static_argnums=2)
    _, updated = apply(variables, picture, True)
    before, after = variables["batch_stats"], updated["batch_stats"]
    chex.assert_trees_all_equal(before["encoder"], after["encoder"])
    assert jnp.any(before["BatchNorm_0"]["mean"] != after["BatchNorm_0"]["mean"])
