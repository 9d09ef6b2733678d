import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from colorjax import models
from colorjax.models.celeba import CelebABlock


@pytest.fixture(scope="module")
def trained():
    """A network whose norms differ from the identity, with its input."""
    network = models.CelebAAutoencoder()
    network_input = jax.random.uniform(jax.random.key(1), (2, 16, 24, 1))
    variables = network.init(jax.random.key(0), network_input, False)
    for _ in range(2):
        _, updated = network.apply(variables, network_input, True, mutable=["batch_stats"])
        variables = variables | updated
    return network, variables, network_input


def test_prediction_agrees_with_the_network_written_out(trained):
    network, variables, network_input = trained
    np.testing.assert_allclose(
        network.apply(variables, network_input, False),
        written_out(variables, network_input),
        atol=1e-5,
    )


def written_out(variables, network_input):
    """The published order, spelled out in JAX's functions, with the constants of Keras."""
    params, stats = variables["params"], variables["batch_stats"]
    decoder = "CelebADecoder_0"

    def conv(layer, x):
        axes = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=axes)
        return y + layer["bias"]

    def block(params, stats, number, x):
        name = f"CelebABlock_{number}"
        x = conv(params[name]["Conv_0"], x)
        x = jnp.where(x > 0, x, 0.3 * x)
        norm, running = params[name]["BatchNorm_0"], stats[name]["BatchNorm_0"]
        x = (x - running["mean"]) / jnp.sqrt(running["var"] + 1e-3)
        return x * norm["scale"] + norm["bias"]

    def pool(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def up(x):
        return jnp.kron(x, jnp.ones((1, 2, 2, 1)))

    x = conv(params["Conv_0"], network_input)
    x = jnp.where(x > 0, x, 0.3 * x)
    x = pool(block(params, stats, 0, x))
    x = pool(block(params, stats, 1, x))
    x = block(params, stats, 3, block(params, stats, 2, x))
    params, stats = params[decoder], stats[decoder]
    x = block(params, stats, 0, up(x))
    x = block(params, stats, 1, up(x))
    x = jnp.concatenate([x, network_input], -1)
    x = block(params, stats, 3, block(params, stats, 2, x))
    return jnp.tanh(conv(params["Conv_0"], x))


def test_batch_norm_keeps_99_hundredths_of_its_running_variance():
    block = CelebABlock(6)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = block.init(jax.random.key(0), x, False)
    normalized, updated = block.apply(variables, x, True, mutable=["batch_stats"])
    features = nn.Conv(6, (3, 3)).apply({"params": variables["params"]["Conv_0"]}, x)
    features = jnp.where(features > 0, features, 0.3 * features)
    mean, variance = features.mean((0, 1, 2)), features.var((0, 1, 2))
    running = updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(running["mean"], 0.01 * mean, atol=1e-6)
    np.testing.assert_allclose(running["var"], 0.99 + 0.01 * variance, atol=1e-6)
    expected = (features - mean) / jnp.sqrt(variance + 1e-3)
    np.testing.assert_allclose(normalized, expected, atol=1e-4)
