import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from colorjax import models
from colorjax.errors import UserError

SMALL = {"conv_block": (4, 6, 8, 8), "cnn": (4, 6, 8, 8)}


def create(name, dtype="float32", **fields):
    critic = models.create_critic({"name": name, "widths": SMALL[name], **fields}, dtype)
    image = jax.random.uniform(jax.random.key(1), (2, 16, 32, 3))
    variables = jax.jit(lambda key: critic.init(key, image, False))(jax.random.key(0))
    return critic, variables, image


def train(critic, variables, image, number=0):
    options = {"rngs": {"dropout": jax.random.key(number)}, "mutable": ["batch_stats"]}
    return jax.jit(lambda image: critic.apply(variables, image, True, **options))(image)


@pytest.mark.parametrize("name", SMALL)
def test_scores_are_float32_in_either_compute_dtype(name):
    critic, variables, image = create(name)
    scores = [
        models.predict(each, variables, image) for each in (critic, create(name, "bfloat16")[0])
    ]
    assert {leaf.dtype for leaf in jax.tree.leaves((scores, variables))} == {jnp.float32.dtype}
    assert 0 < float(jnp.max(jnp.abs(scores[0] - scores[1]))) < 0.05


@pytest.mark.parametrize("name", SMALL)
def test_batch_norm_moves_in_training_and_is_a_choice(name):
    critic, variables, image = create(name)
    _, updated = train(critic, variables, image)
    before, after = (jax.tree.leaves(each["batch_stats"]) for each in (variables, updated))
    assert all(np.any(old != new) for old, new in zip(before, after, strict=True))
    for norm in ("instance", "none"):
        assert create(name, norm=norm)[1].keys() == {"params"}


@pytest.mark.parametrize(("name", "dropout"), [("conv_block", None), ("cnn", 0.3), ("cnn", 0.0)])
def test_only_the_cnn_drops_out_and_only_in_training(name, dropout):
    critic, variables, image = create(name, dropout=dropout)
    scores = [train(critic, variables, image, number)[0] for number in (0, 1)]
    assert np.array_equal(*scores) == (not dropout)
    critic.apply(variables, image, False)  # needs no key of dropout


def test_cnn_agrees_with_the_network_written_out():
    critic, variables, image = create("cnn")
    params = variables["params"]

    def conv(number, x, stride):
        axes = ("NHWC", "HWIO", "NHWC")
        layer = params[f"Conv_{number}"]
        y = jax.lax.conv_general_dilated(
            x, layer["kernel"], (stride, stride), [(1, 1), (1, 1)], dimension_numbers=axes
        )
        return y + layer["bias"]

    def block(number, x):
        x = conv(number, x, 1) / jnp.sqrt(1 + 1e-5)  # the norm's statistics are those of the start
        x = x * params[f"BatchNorm_{number - 1}"]["scale"]
        return jnp.where(x > 0, x, 0.2 * x)

    x = conv(0, image, 2)
    x = nn.avg_pool(jnp.where(x > 0, x, 0.2 * x), (2, 2), (2, 2))
    x = nn.avg_pool(block(1, x), (2, 2), (2, 2))
    x = block(3, block(2, x))
    dense = params["Dense_0"]
    assert dense["kernel"].shape == (2 * 4 * 8, 1)
    expected = x.reshape(2, -1) @ dense["kernel"] + dense["bias"]
    scores = models.predict(critic, variables, image)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_each_score_of_conv_block_judges_a_patch():
    critic, variables, _ = create("conv_block")
    image = jax.random.uniform(jax.random.key(2), (1, 128, 128, 3))

    def corner(image):
        return critic.apply(variables, image, False)[0, 0, 0, 0]

    seen = np.abs(jax.jit(jax.grad(corner))(image)).max((0, 1, 3)) > 0
    # A cell covers 16 pixels; the 3x3 windows of five convolutions see 31 more on either side.
    assert seen[:16].any()
    assert not seen[16 + 31 :].any()


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("conv_block", (24, 32), "multiples of 16, these are 24x32"),
        ("conv_block", (8, 8), "multiples of 16, these are 8x8"),
        ("cnn", (12, 16), "multiples of 8, these are 12x16"),
    ],
)
def test_a_size_that_does_not_suit_is_an_error(name, size, message):
    critic = models.create_critic({"name": name}, "float32")
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda: critic.init(jax.random.key(0), jnp.zeros((1, *size, 3)), False))
