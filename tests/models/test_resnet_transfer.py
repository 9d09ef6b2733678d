import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from test_resnet import fill, variable_shapes

from colorjax import models
from colorjax.models.frozen import frozen_prefixes, trainable_labels


@pytest.mark.parametrize(("conv_bias", "total"), [(True, 514_338), (False, 513_634)])
def test_the_total_is_the_published_one(conv_bias, total):
    variables = variable_shapes(models.ResNetTransfer(conv_bias=conv_bias), channels=1)
    assert models.count_parameters(variables) == total


def test_gray_is_repeated_for_the_encoder_and_the_decoder():
    network = models.ResNetTransfer()
    variables = fill(variable_shapes(network, channels=1))
    gray = jax.random.uniform(jax.random.key(0), (1, 16, 16, 1))
    predict = jax.jit(network.apply, static_argnums=2)
    prediction = predict(variables, gray, False)
    chex.assert_shape(prediction, (1, 16, 16, 2))
    repeated = predict(variables, jnp.repeat(gray, 3, axis=-1), False)
    chex.assert_trees_all_close(prediction, repeated, atol=1e-6)


def test_frozen_layers_stay_bit_identical_in_training():
    network = models.ResNetTransfer(
        depth=18, frozen=("conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1")
    )
    gray = jax.random.uniform(jax.random.key(0), (2, 16, 16, 1))
    variables = fill(variable_shapes(network, channels=1))
    params, batch_stats = variables["params"], variables["batch_stats"]
    optimizer = optax.multi_transform(
        {"trainable": optax.adam(1e-2), "frozen": optax.set_to_zero()},
        trainable_labels(params, frozen_prefixes(network)),
    )

    @jax.jit
    def step(params, batch_stats, state):
        def loss(params):
            prediction, updated = network.apply(
                {"params": params, "batch_stats": batch_stats}, gray, True, mutable=["batch_stats"]
            )
            return jnp.mean((prediction - 0.5) ** 2), updated["batch_stats"]

        gradients, batch_stats = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), batch_stats, state

    state = optimizer.init(params)
    trained = step(*step(params, batch_stats, state))
    for before, after in ((params, trained[0]), (batch_stats, trained[1])):
        for path, old in jax.tree.leaves_with_path(before):
            new = after
            for entry in path:
                new = new[entry.key]
            names = [entry.key for entry in path]
            frozen = names[0] == "encoder" and (
                names[1] in ("conv1", "bn1") or names[2] in ("conv1", "bn1")
            )
            assert bool(jnp.all(old == new)) == frozen, names
