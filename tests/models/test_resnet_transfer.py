import chex
import jax
import jax.numpy as jnp
from test_resnet import fill, variable_shapes

from colorjax import models


def test_without_biases_the_encoder_has_704_parameters_less():
    totals = [
        models.count_parameters(variable_shapes(models.ResNetTransfer(conv_bias=bias), channels=1))
        for bias in (True, False)
    ]
    # The convolutions have 64, 64, 64, 256 and, of the shortcut, 256 channels.
    assert totals[0] - totals[1] == 3 * 64 + 2 * 256


def test_gray_is_repeated_for_the_encoder_and_the_decoder():
    network = models.ResNetTransfer()
    variables = fill(variable_shapes(network, channels=1))
    gray = jax.random.uniform(jax.random.key(0), (1, 16, 16, 1))
    predict = jax.jit(network.apply, static_argnums=2)
    prediction = predict(variables, gray, False)
    chex.assert_shape(prediction, (1, 16, 16, 2))
    repeated = predict(variables, jnp.repeat(gray, 3, axis=-1), False)
    chex.assert_trees_all_close(prediction, repeated, atol=1e-6)
