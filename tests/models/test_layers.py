import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from colorjax.models.layers import (
    UpConv2x2,
    UpConv3x3,
    UpConv4x4,
    avg_pool_2x2,
    max_pool_2x2,
    space_to_depth,
    transposed_convolution,
    upsample_2x2,
    upsample_bilinear,
)


def scattered(x, kernel):
    """The definition of a transposed convolution, with PyTorch's paddings that double the size."""
    size, padding = kernel.shape[0], (kernel.shape[0] - 1) // 2
    batch, height, width, _ = x.shape
    canvas = np.zeros((batch, 2 * height + 2, 2 * width + 2, kernel.shape[-1]))
    for row, column in np.ndindex(height, width):
        window = np.einsum("bc,ijcf->bijf", x[:, row, column], kernel)
        canvas[:, 2 * row : 2 * row + size, 2 * column : 2 * column + size] += window
    return canvas[:, padding : padding + 2 * height, padding : padding + 2 * width]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 1, 1, 3)])
def test_transposed_convolution_scatters_the_kernel(size, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (size, size, shape[-1], 6))
    expected = scattered(np.asarray(x, float), np.asarray(kernel, float))
    np.testing.assert_allclose(transposed_convolution(x, kernel), expected, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_gradients_of_the_transposed_convolution_agree_with_jax(size):
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 4, 6))
    weights = jax.random.normal(jax.random.key(2), (2, 6, 10, 6))

    def reference(x, kernel):
        # What JAX calls a transposed convolution doesn't turn the kernel; the definition does.
        padding = {2: (1, 1), 3: (1, 2), 4: (2, 2)}[size]
        return jax.lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), [padding, padding])

    ours, theirs = (
        jax.value_and_grad(lambda pair, up=up: jnp.sum(weights * up(*pair) ** 2))((x, kernel))
        for up in (transposed_convolution, reference)
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("layer", [UpConv2x2, UpConv3x3, UpConv4x4])
def test_up_convolution_adds_its_bias_and_keeps_float32_parameters(layer):
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    variables = layer(6, jnp.bfloat16).init(jax.random.key(1), x)
    params = variables["params"] | {"bias": jnp.arange(6.0)}
    chex.assert_tree_shape_prefix(params["kernel"], (layer.size, layer.size, 4, 6))
    chex.assert_type(jax.tree.leaves(params), jnp.float32)
    expected = transposed_convolution(x, params["kernel"]) + params["bias"]
    np.testing.assert_allclose(layer(6).apply({"params": params}, x), expected, atol=1e-5)
    rounded = layer(6, jnp.bfloat16).apply({"params": params}, x)
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), expected, atol=0.1)
    assert layer(6, use_bias=False).init(jax.random.key(1), x)["params"].keys() == {"kernel"}


@pytest.mark.parametrize("layer", [UpConv2x2, UpConv3x3, UpConv4x4])
def test_up_convolution_keeps_the_variance_at_the_start(layer):
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 128))
    up, _ = layer(64).init_with_output(jax.random.key(1), x)
    assert abs(float(jnp.var(up)) - 1) < 0.15


def test_max_pool_and_its_gradient_agree_with_flax():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    weights = jax.random.normal(jax.random.key(1), (2, 2, 3, 3))
    pools = (max_pool_2x2, lambda y: nn.max_pool(y, (2, 2), (2, 2)))
    ours, theirs = (
        jax.value_and_grad(lambda y, pool=pool: jnp.sum(pool(y) * weights))(x) for pool in pools
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


def test_average_pool_agrees_with_flax():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    np.testing.assert_allclose(avg_pool_2x2(x), nn.avg_pool(x, (2, 2), (2, 2)), atol=1e-6)


def test_upsampling_repeats_pixels():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    np.testing.assert_array_equal(upsample_2x2(x), jax.image.resize(x, (2, 6, 10, 4), "nearest"))


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 1, 2), (1, 2, 1, 1)])
def test_bilinear_upsampling_is_jaxs(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    batch, height, width, channels = shape
    expected = jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "linear")
    np.testing.assert_allclose(upsample_bilinear(x), expected, atol=1e-6)


def test_each_block_of_pixels_becomes_channels():
    x = np.random.default_rng(0).random((2, 4, 6, 3), dtype=np.float32)
    folded = space_to_depth(x)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(folded[1, 1, 2], x[1, 2:4, 4:6].reshape(12))
