"""Generators against the same networks written out in JAX's own functions."""

import functools
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from colorjax import models
from colorjax.errors import UserError

# Small networks by the fields that a config has, with the channels of their input.
SMALL = {
    "unet": ({"widths": (4, 8)}, 1),
    "pix2pix": ({"widths": (4, 8, 8, 8)}, 1),
    "block_unet": ({"widths": (4, 6, 8)}, 1),
    "residual_autoencoder": ({"widths": (4, 6, 8, 10)}, 3),
    "demo_autoencoder": ({"widths": (4, 6, 8)}, 3),
    "plain_autoencoder": ({"layers": 7, "width": 4, "skips": True}, 3),
    "celeba_autoencoder": ({}, 1),
    "residual_unet": ({"widths": (4, 8), "blocks": (1, 2)}, 1),
}


def create(name, **fields):
    small, channels = SMALL[name]
    network = models.create_generator(
        {"name": name, **small, **fields}, channels % 3 + 1, "float32"
    )
    rows = 2 * network.stride
    shape = (2, rows, 2 * rows, channels)
    return network, np.random.default_rng(1).random(shape, np.float32)


# Networks of equal fields are equal, so that each is compiled once for all tests.
@functools.partial(jax.jit, static_argnums=0)
def init(network, network_input):
    return network.init(jax.random.key(0), network_input, False)


@functools.partial(jax.jit, static_argnums=0)
def predict(network, variables, network_input):
    return network.apply(variables, network_input, False)


def random_variables(network, network_input):
    """Return variables under which every layer matters, norms and biases included."""

    def draw(path, leaf):
        generator = np.random.default_rng((3, zlib.crc32(jax.tree_util.keystr(path).encode())))
        if leaf.ndim > 1:
            drawn = generator.normal(0.0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape)
        else:
            drawn = (path[-1].key in ("scale", "var")) + generator.uniform(0.0, 0.5, leaf.shape)
        return drawn.astype(leaf.dtype)

    shapes = jax.eval_shape(functools.partial(init, network), network_input)
    return jax.tree_util.tree_map_with_path(draw, shapes)


class Layers:
    """Hands out a network's layers by kind, in the order in which they were made."""

    def __init__(self, variables):
        self.params = variables["params"]
        self.batch_stats = variables.get("batch_stats", {})
        self.used = {}

    def next(self, kind):
        number = self.used[kind] = self.used.get(kind, -1) + 1
        return f"{kind}_{number}"

    def conv(self, x, stride=1):
        layer = self.params[self.next("Conv")]
        axes = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, layer["kernel"], (stride, stride), [(1, 1), (1, 1)], dimension_numbers=axes
        )
        return y + layer.get("bias", 0.0)

    def up_conv(self, x):
        name = "UpConv4x4" if "UpConv4x4_0" in self.params else "UpConv3x3"
        layer = self.params[self.next(name)]
        kernel = layer["kernel"][::-1, ::-1]
        padding = (2, 2) if name == "UpConv4x4" else (1, 2)
        return jax.lax.conv_transpose(x, kernel, (2, 2), [padding] * 2) + layer.get("bias", 0.0)

    def norm(self, x):
        name = self.next("BatchNorm")
        running = self.batch_stats[name]
        x = (x - running["mean"]) / jnp.sqrt(running["var"] + 1e-5)
        return x * self.params[name]["scale"] + self.params[name]["bias"]

    def block(self, kind):
        name = self.next(kind)
        return Layers({"params": self.params[name], "batch_stats": self.batch_stats[name]})


def leaky(x):
    return jnp.where(x > 0, x, 0.2 * x)


def pool(x):
    return nn.max_pool(x, (2, 2), (2, 2))


def join(skip, x):
    return jnp.concatenate([skip, x], -1)


def pix2pix(layers, x):
    first = layers.conv(x, 2)
    second = layers.norm(layers.conv(leaky(first), 2))
    third = layers.norm(layers.conv(leaky(second), 2))
    x = layers.conv(leaky(third), 2)
    for skip in (third, second, first):
        x = join(skip, layers.norm(layers.up_conv(nn.relu(x))))
    return jnp.tanh(layers.up_conv(nn.relu(x)))


def block_unet(layers, x):
    def down(x):
        block = layers.block("ConvBlock")
        return pool(leaky(block.norm(block.conv(x))))

    def up(x):
        block = layers.block("ConvTBlock")
        return jnp.kron(nn.relu(block.norm(block.conv(x))), jnp.ones((1, 2, 2, 1)))

    first = down(x)
    second = down(first)
    x = up(down(second))
    x = up(join(second, x))
    x = up(join(first, x))
    return jnp.tanh(layers.conv(x))


def residual_autoencoder(layers, x):
    first = nn.relu(layers.conv(x, 2))
    half = nn.relu(layers.norm(layers.conv(first)))
    x = nn.relu(layers.norm(layers.conv(half, 2)))
    quarter = nn.relu(layers.norm(layers.conv(x)))
    embedding = nn.relu(layers.norm(layers.conv(quarter, 2)))
    x = nn.relu(layers.norm(layers.up_conv(embedding)) + quarter)
    x = nn.relu(layers.norm(layers.up_conv(x)) + half)
    x = nn.relu(layers.norm(layers.up_conv(x)))
    return nn.sigmoid(layers.conv(x))


def demo_autoencoder(layers, x):
    first = leaky(pool(layers.conv(x)))
    second = leaky(pool(layers.conv(first)))
    x = leaky(pool(layers.conv(second)))
    x = join(second, leaky(layers.up_conv(x)))
    x = join(first, leaky(layers.up_conv(x)))
    return nn.sigmoid(layers.up_conv(x))


def plain_autoencoder(layers, x):
    first = nn.relu(layers.conv(x, 2))
    second = nn.relu(layers.conv(first, 2))
    x = nn.relu(layers.conv(second, 2))
    x = nn.relu(layers.up_conv(x)) + second
    x = nn.relu(layers.up_conv(x)) + first
    x = nn.relu(layers.up_conv(x))
    return nn.sigmoid(layers.conv(x))


@pytest.mark.parametrize(
    ("name", "options"), [("residual_unet", {"attention": False}), ("unet", {"context": True})]
)
def test_context_sees_the_whole_picture(name, options):
    network, network_input = create(name, **options)
    network_input = jnp.tile(network_input, (1, 1, 16, 1))
    variables = random_variables(network, network_input)
    plain = network.clone(context=False)
    corners = []
    for each in (network, plain):
        changed = network_input.at[:, -2:, -2:].add(1.0)
        before, after = (each.apply(variables, x, False) for x in (network_input, changed))
        corners.append(float(jnp.max(jnp.abs(before - after)[:, :2, :2])))
    assert corners[0] > 1e-4
    assert corners[1] == 0


@pytest.mark.parametrize("stem_stride", [2, 4])
def test_residual_unet_works_at_the_resolution_of_its_stem(stem_stride):
    network, network_input = create("residual_unet", stem_stride=stem_stride)
    assert network.stride == 2 * stem_stride
    widest = []

    def watch(call, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm):
            widest.append(args[0].shape[1])
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        variables = network.init(jax.random.key(0), network_input, False)
    assert max(widest) == network_input.shape[1] // stem_stride
    assert predict(network, variables, network_input).shape == (*network_input.shape[:3], 2)


def double_twice(image):
    for _ in range(2):
        batch, rows, columns, channels = image.shape
        image = jax.image.resize(image, (batch, 2 * rows, 2 * columns, channels), "linear")
    return image


def test_guided_colour_has_the_edges_of_the_lightness():
    network, network_input = create("residual_unet", guided=True, stem_stride=4, norm="group")
    variables = random_variables(network, network_input)
    blocks = network_input.reshape(2, -1, 4, network_input.shape[2] // 4, 4, 1)
    coarse = double_twice(blocks.mean((2, 4)))
    taps = []

    def watch(call, args, kwargs, context):
        result = call(*args, **kwargs)
        if isinstance(context.module, nn.Conv) and result.shape[-1] == 4:
            taps.append(result)
        return result

    with nn.intercept_methods(watch):
        prediction = network.apply(variables, network_input, False)
    values = double_twice(taps[-1])
    expected = values[..., :2] + values[..., 2:] * (network_input - coarse)
    np.testing.assert_allclose(prediction, expected, atol=1e-5)
    assert float(jnp.std(prediction - values[..., :2])) > 0.01


def test_residual_unet_knows_two_stems():
    network, network_input = create("residual_unet", stem_stride=3)
    with pytest.raises(UserError, match="stem_stride=3: give 2 or 4"):
        init(network, network_input)


def test_residual_unet_takes_group_norm():
    network, network_input = create("residual_unet", norm="group")
    variables = init(network, network_input)
    assert "batch_stats" not in variables
    assert predict(network, variables, network_input).shape == (*network_input.shape[:3], 2)


@pytest.mark.parametrize("name", ["residual_unet", "unet"])
def test_what_is_predicted_is_saturated_but_learnt_without(name):
    network, network_input = create(name)
    variables = random_variables(network, network_input)
    vivid = network.clone(saturation=1.5)
    plain = predict(network, variables, network_input)
    np.testing.assert_allclose(predict(vivid, variables, network_input), 1.5 * plain, rtol=1e-5)
    trained = [
        each.apply(variables, network_input, True, mutable=["batch_stats"])[0]
        for each in (network, vivid)
    ]
    np.testing.assert_array_equal(*trained)


def test_scores_of_classes_come_from_the_bottleneck_and_change_no_prediction():
    network, network_input = create("unet", classes=5)
    variables = random_variables(network, network_input)
    _, updated = network.apply(
        variables, network_input, False, mutable=["intermediates"], capture_intermediates=True
    )
    seen = updated["intermediates"]
    bottleneck = seen["DoubleConv_1"]["__call__"][0]  # of two stages
    dense = variables["params"]["ClassScores_0"]["Dense_0"]
    expected = bottleneck.mean((1, 2)) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(seen[models.CLASS_SCORES][0], expected, rtol=1e-5, atol=1e-6)
    predictions = [
        predict(each, variables, network_input) for each in (network, network.clone(classes=0))
    ]
    np.testing.assert_array_equal(*predictions)


def test_unet_softens_what_it_is_shown_but_learns_without():
    network, network_input = create("unet")
    soft = network.clone(softening=0.4)
    variables = random_variables(network, network_input)
    smooth = ndimage.convolve1d(network_input, [0.25, 0.5, 0.25], axis=1, mode="nearest")
    smooth = ndimage.convolve1d(smooth, [0.25, 0.5, 0.25], axis=2, mode="nearest")
    expected = predict(network, variables, 0.6 * network_input + 0.4 * smooth)
    np.testing.assert_allclose(predict(soft, variables, network_input), expected, atol=1e-5)
    trained = [
        each.apply(variables, network_input, True, mutable=["batch_stats"])[0]
        for each in (network, soft)
    ]
    np.testing.assert_array_equal(*trained)


WRITTEN_OUT = [pix2pix, block_unet, residual_autoencoder, demo_autoencoder, plain_autoencoder]


@pytest.mark.parametrize("written_out", WRITTEN_OUT, ids=lambda network: network.__name__)
def test_prediction_agrees_with_the_network_written_out(written_out):
    network, network_input = create(written_out.__name__)
    variables = random_variables(network, network_input)
    prediction = predict(network, variables, network_input)
    assert float(jnp.std(prediction)) > 0.003
    expected = jax.jit(lambda variables, x: written_out(Layers(variables), x))(
        variables, network_input
    )
    np.testing.assert_allclose(prediction, expected, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_parameters_and_predictions_are_float32_in_either_compute_dtype(name):
    network, network_input = create(name)
    variables = init(network, network_input)
    exact = predict(network, variables, network_input)
    half = network.clone(dtype=jnp.bfloat16)
    half_variables = init(half, network_input)
    rounded = predict(half, half_variables, network_input)
    leaves = jax.tree.leaves((exact, rounded, variables, half_variables))
    assert {leaf.dtype for leaf in leaves} == {jnp.float32.dtype}
    # As large as the input, with the channels asked for.
    assert exact.shape == rounded.shape == (*network_input.shape[:3], network.output_channels)
    assert 0 < float(jnp.max(jnp.abs(exact - rounded))) < 0.05


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    network, network_input = create(name)
    variables = random_variables(network, network_input)

    def loss(params):
        return jnp.sum(network.apply(variables | {"params": params}, network_input, False) ** 2)

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    assert all(float(jnp.max(jnp.abs(leaf))) > 0 for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("pix2pix", -1, 1),
        ("block_unet", -1, 1),
        ("celeba_autoencoder", -1, 1),
        ("residual_autoencoder", 0, 1),
        ("demo_autoencoder", 0, 1),
        ("plain_autoencoder", 0, 1),
    ],
)
def test_prediction_is_squashed_into_its_range(name, lowest, highest):
    network, network_input = create(name)
    variables = random_variables(network, network_input)
    variables["params"] = jax.tree.map(lambda leaf: 20 * leaf, variables["params"])
    prediction = predict(network, variables, network_input)
    assert lowest <= float(jnp.min(prediction)) < lowest + 0.01
    assert highest - 0.01 < float(jnp.max(prediction)) <= highest


@pytest.mark.parametrize(
    ("widths", "size", "dropped"),
    [
        ((64, 128, 256, 512, 512, 512, 512, 512), 256, [4, 8, 16]),
        ((64, 128, 256, 512, 512, 512, 512, 512, 512), 512, [4, 8, 16]),
        ((64, 128, 256, 512, 512, 512), 64, [4]),
        ((64, 128, 256, 512, 512), 32, []),
    ],
)
def test_pix2pix_drops_out_after_the_innermost_while_the_width_stays(widths, size, dropped):
    seen = []

    def watch(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            assert context.module.rate == 0.5
            assert args[0].shape[-1] == widths[-1]
            seen.append(args[0].shape[1])
        return call(*args, **kwargs)

    network = models.Pix2PixUNet(widths=widths)
    with nn.intercept_methods(watch):
        jax.eval_shape(
            lambda key: network.init(key, jnp.zeros((1, size, size, 1)), False), jax.random.key(0)
        )
    assert seen == dropped


@pytest.mark.parametrize(
    ("name", "options"),
    [("pix2pix", {}), ("residual_unet", {"dropout": 0.5}), ("unet", {"dropout": 0.5})],
)
def test_channels_drop_out_in_training_alone(name, options):
    network, network_input = create(name, **options)
    network_input = jnp.concatenate([network_input] * 2)
    variables = random_variables(network, network_input)

    def train(network, number):
        options = {"rngs": {"dropout": jax.random.key(number)}, "mutable": ["batch_stats"]}
        return jax.jit(lambda x: network.apply(variables, x, True, **options)[0])(network_input)

    assert float(jnp.max(jnp.abs(train(network, 0) - train(network, 1)))) > 0.01
    without = network.clone(dropout=0.0)
    np.testing.assert_array_equal(train(without, 0), train(without, 1))
    predictions = [predict(each, variables, network_input) for each in (network, without)]
    np.testing.assert_array_equal(*predictions)


def test_pix2pix_starts_from_the_published_normals():
    network, network_input = create("pix2pix", widths=(32, 64, 64))
    params = init(network, network_input)["params"]
    for name, leaves in params.items():
        values, mean = (leaves["scale"], 1) if "Norm" in name else (leaves["kernel"], 0)
        assert abs(float(values.mean()) - mean) < 0.01
        assert abs(float(values.std()) - 0.02) < 0.007
        assert np.all(leaves.get("bias", 0.0) == 0)


def test_residual_autoencoder_embeds_in_16x16x512():
    network = models.ResidualAutoencoder()

    def embed(key):
        picture = jnp.zeros((2, 128, 128, 3))
        variables = network.init(key, picture, False)
        assert variables.keys() == {"params", "batch_stats"}
        return network.apply(variables, picture, False, mutable=["intermediates"])

    prediction, sown = jax.eval_shape(embed, jax.random.key(0))
    assert sown["intermediates"]["embedding"][0].shape == (2, 16, 16, 512)
    assert prediction.shape == (2, 128, 128, 3)


@pytest.mark.parametrize("layers", [3, 5, 7, 9])
def test_plain_autoencoder_has_as_many_layers_as_asked_for(layers):
    network, network_input = create("plain_autoencoder", layers=layers)
    assert network_input.shape[1] == 2 * 2 ** (layers // 2)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), network_input, False))
    assert len(variables["params"]) == layers


def test_plain_autoencoder_follows_its_fields():
    networks = [
        create("plain_autoencoder", activation=activation, skips=skips)
        for activation in ("relu", "leaky_relu")
        for skips in (False, True)
    ]
    network, network_input = networks[0]
    variables = random_variables(network, network_input)
    predictions = [predict(network, variables, network_input) for network, _ in networks]
    for number, prediction in enumerate(predictions):
        for other in predictions[:number]:
            assert float(jnp.max(jnp.abs(prediction - other))) > 0.001


@pytest.mark.parametrize("layers", [1, 6])
def test_plain_autoencoder_has_an_odd_number_of_layers(layers):
    with pytest.raises(UserError, match=f"layers is {layers}: give an odd number"):
        create("plain_autoencoder", layers=layers)


def test_plain_autoencoder_knows_two_activations():
    network, network_input = create("plain_autoencoder", activation="tanh")
    with pytest.raises(UserError, match="activation is 'tanh': choose one of leaky_relu, relu"):
        init(network, network_input)
