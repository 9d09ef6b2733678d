"""Each objective's update against its loss written out, and what its options change."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_networks import SmallCritic, SmallGenerator

from colorjax import color, models
from colorjax.errors import UserError
from colorjax.training.objectives import GAN, WGANGP, Example, Reconstruction
from colorjax.training.objectives.base import spare_memory
from colorjax.training.state import Parts, TrainState, create_state


def create_small_parts(dropout: float = 0.0, batch_norm: bool = False) -> Parts:
    return Parts(
        color.get_codec("lab_centered"),
        SmallGenerator(dropout),
        optax.adam(2e-4),
        SmallCritic("batch" if batch_norm else "none"),
        optax.adam(2e-4),
        steps_per_epoch=6,
    )


@pytest.fixture
def parts():
    return create_small_parts()


@pytest.fixture
def state(parts):
    return create_state(parts, 8, jax.random.key(0))


@pytest.fixture
def example(parts):
    rgb = jax.random.uniform(jax.random.key(5), (4, 8, 8, 3))
    return Example(*parts.codec.encode(rgb))


@pytest.fixture
def patch_parts():
    return create_small_parts(batch_norm=True)


@pytest.fixture
def patch_state(patch_parts):
    return create_state(patch_parts, 8, jax.random.key(0))


def update(objective, parts, *arguments):
    """Return the state and metrics after one batch, compiled as training compiles it."""
    return jax.jit(lambda *args: objective.update(parts, *args))(*arguments)


def adam_count(network_state) -> int:
    return int(optax.tree.get(network_state.opt_state, "count", filtering=_is_adam))


def _is_adam(path, _) -> bool:
    return "ScaleByAdamState" in str(path)


@pytest.mark.parametrize(("generator_steps", "critic_steps"), [(2, 1), (1, 3)])
def test_each_network_is_updated_as_often_as_the_config_says(
    parts, state, example, generator_steps, critic_steps
):
    objective = WGANGP(generator_steps=generator_steps, critic_steps=critic_steps)
    updated, _ = update(objective, parts, state, example, jax.random.key(1))
    assert adam_count(updated.generator) == generator_steps
    assert adam_count(updated.critic) == critic_steps


def test_reconstruction_moves_the_generator_alone(parts, state, example):
    updated, metrics = update(Reconstruction(), parts, state, example, jax.random.key(1))
    chex.assert_trees_all_equal(updated.critic, state.critic)
    prediction, _ = parts.generator.apply(
        state.generator.variables, example[0], True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(metrics["l1"], np.abs(prediction - example[1]).mean(), rtol=1e-5)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(updated.generator.params, state.generator.params)


def test_an_update_that_learns_classes_is_that_of_its_written_out_loss(parts, example):
    network = models.UNet(widths=(2, 4), classes=3)
    parts = dataclasses.replace(parts, generator=network, generator_optimizer=optax.sgd(0.5))
    state = create_state(parts, 8, jax.random.key(0))
    example = example._replace(labels=jnp.array([0, 2, 2, 1]))
    objective = Reconstruction(class_weight=0.25)
    updated, metrics = update(objective, parts, state, example, jax.random.key(1))

    def loss(params):
        variables = {"params": params, "batch_stats": state.generator.batch_stats}
        prediction, seen = network.apply(
            variables, example.network_input, True, mutable=["batch_stats", "intermediates"]
        )
        (scores,) = seen["intermediates"][models.CLASS_SCORES]
        chances = jnp.exp(scores) / jnp.exp(scores).sum(-1, keepdims=True)
        surprise = -jnp.log(chances[jnp.arange(4), example.labels]).mean()
        return jnp.abs(prediction - example.target).mean() + 0.25 * surprise, surprise

    gradients, surprise = jax.jit(jax.grad(loss, has_aux=True))(state.generator.params)
    expected = jax.tree.map(lambda x, g: x - 0.5 * g, state.generator.params, gradients)
    chex.assert_trees_all_close(updated.generator.params, expected, atol=1e-6)
    np.testing.assert_allclose(metrics["class_loss"], surprise, rtol=1e-5)
    total = metrics["reconstruction"] + 0.25 * metrics["class_loss"]
    np.testing.assert_allclose(metrics["generator_loss"], total, rtol=1e-5)


def test_generator_update_of_wgan_gp_is_that_of_its_written_out_loss(parts, state, example):
    objective = WGANGP(1, 0, reconstruction_weight=3.0, adversarial_weight=0.5)
    updated, _ = update(objective, parts, state, example, jax.random.key(1))

    def loss(params):
        variables = {"params": params, "batch_stats": state.generator.batch_stats}
        fake, _ = parts.generator.apply(variables, example[0], True, mutable=["batch_stats"])
        image = jnp.concatenate([example[0], fake], -1)
        scores = parts.critic.apply({"params": state.critic.params}, image, False)
        return 3.0 * jnp.mean(jnp.abs(fake - example[1])) - 0.5 * jnp.mean(scores)

    gradients = jax.jit(jax.grad(loss))(state.generator.params)
    updates, _ = parts.generator_optimizer.update(gradients, state.generator.opt_state)
    expected = optax.apply_updates(state.generator.params, updates)
    chex.assert_trees_all_close(updated.generator.params, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("switch", "sign"), [("COLORJAX_RECOMPUTE", "remat"), ("COLORJAX_SETTLE_UPDATES", "cond[")]
)
def test_what_spares_memory_gives_the_same_update(parts, state, example, monkeypatch, switch, sign):
    objective = WGANGP(generator_steps=2, critic_steps=2)

    def update_and_show() -> tuple[TrainState, str]:
        arguments = (parts, state, example, jax.random.key(1))
        shown = jax.make_jaxpr(lambda state: objective.update(parts, state, *arguments[2:]))(state)
        return update(objective, *arguments)[0], str(shown)

    spared, steps = update_and_show()
    assert (sign in steps) == (jax.default_backend() == "cpu")
    monkeypatch.setenv(switch, "0")
    kept, steps = update_and_show()
    assert sign not in steps
    chex.assert_trees_all_close(kept, spared, atol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators keep everything")
def test_no_convolution_is_computed_twice(monkeypatch):
    generator = models.create_generator({"name": "unet", "widths": (4, 8)}, 2, "float32")
    gray = jnp.zeros((1, 16, 16, 1))
    variables = generator.init(jax.random.key(0), gray, False)

    def generate(params):
        return generator.apply({**variables, "params": params}, gray, True, mutable=["batch_stats"])

    def count(recompute):
        monkeypatch.setenv("COLORJAX_RECOMPUTE", recompute)
        gradient = jax.grad(lambda params: jnp.sum(spare_memory(generate)(params)[0] ** 2))
        return str(jax.make_jaxpr(gradient)(variables["params"])).count("conv_general_dilated[")

    assert count("1") == count("0") > 0


def test_critic_update_of_wgan_gp_is_that_of_its_written_out_loss(parts, state, example):
    key = jax.random.key(1)
    objective = WGANGP(0, 1, gradient_penalty_weight=10.0)
    updated, metrics = update(objective, parts, state, example, key)

    # A key an update; of it one for dropout and one for the critic, whose second is the penalty's.
    critic_key = jax.random.split(jax.random.split(jax.random.split(key, 1)[0])[1])[0]
    penalty_key = jax.random.split(critic_key)[1]
    fake, _ = parts.generator.apply(
        state.generator.variables, example[0], True, mutable=["batch_stats"]
    )
    real_image = jnp.concatenate(example[:2], -1)
    fake_image = jnp.concatenate([example[0], fake], -1)
    alpha = jax.random.uniform(penalty_key, (4, 1, 1, 1))

    def critic_loss(params):
        def score(image):
            return jnp.mean(parts.critic.apply({"params": params}, image[None], False))

        def penalty(image):
            return (jnp.linalg.norm(jax.grad(score)(image).ravel()) - 1) ** 2

        between = alpha * real_image + (1 - alpha) * fake_image
        wasserstein = jnp.mean(jax.vmap(score)(real_image) - jax.vmap(score)(fake_image))
        return -wasserstein + 10.0 * jnp.mean(jax.vmap(penalty)(between))

    value, gradients = jax.jit(jax.value_and_grad(critic_loss))(state.critic.params)
    updates, _ = parts.critic_optimizer.update(gradients, state.critic.opt_state)
    expected = optax.apply_updates(state.critic.params, updates)
    np.testing.assert_allclose(metrics["critic_loss"], value, rtol=1e-4)
    chex.assert_trees_all_close(updated.critic.params, expected, atol=1e-6)
    chex.assert_trees_all_equal(updated.generator, state.generator)


def test_batch_norm_in_a_wgan_critic_is_an_error(patch_parts, patch_state, example):
    with pytest.raises(UserError, match=r"set config\.critic\.norm to instance or none"):
        WGANGP().update(patch_parts, patch_state, example, jax.random.key(1))


# Of one score: the critic's loss of a real and of a fake picture, the generator's of its own.
WRITTEN_OUT = {
    "bce": (
        lambda s: -jnp.log(jax.nn.sigmoid(s)),
        lambda s: -jnp.log(1 - jax.nn.sigmoid(s)),
        lambda s: -jnp.log(jax.nn.sigmoid(s)),
    ),
    "flipped_bce": (
        lambda s: -jnp.log(1 - jax.nn.sigmoid(s)),
        lambda s: -jnp.log(jax.nn.sigmoid(s)),
        lambda s: -jnp.log(1 - jax.nn.sigmoid(s)),
    ),
    "least_squares": (lambda s: (s - 1) ** 2, lambda s: s**2, lambda s: (s - 1) ** 2),
    "hinge": (
        lambda s: jnp.maximum(0, 1 - s),
        lambda s: jnp.maximum(0, 1 + s),
        lambda s: -s,
    ),
}


def written_out_gan(parts, state, example, loss, weight):
    """Return the critic and the generator after one batch, by two plain gradients."""
    real_loss, fake_loss, generator_loss = WRITTEN_OUT[loss]

    def generate(params):
        variables = {"params": params, "batch_stats": state.generator.batch_stats}
        return parts.generator.apply(variables, example[0], True, mutable=["batch_stats"])[0]

    def score(params, prediction):
        variables = {"params": params, "batch_stats": state.critic.batch_stats}
        image = jnp.concatenate([example[0], prediction], -1)
        return parts.critic.apply(variables, image, True, mutable=["batch_stats"])[0]

    def critic_loss(params):
        fake = generate(state.generator.params)
        real_mean = jnp.mean(real_loss(score(params, example[1])))
        return 0.5 * (real_mean + jnp.mean(fake_loss(score(params, fake))))

    gradients = jax.grad(critic_loss)(state.critic.params)
    updates, _ = parts.critic_optimizer.update(gradients, state.critic.opt_state)
    critic = optax.apply_updates(state.critic.params, updates)

    def total(params):
        fake = generate(params)
        l1 = jnp.mean(jnp.abs(fake - example[1]))
        return weight * l1 + jnp.mean(generator_loss(score(critic, fake)))

    gradients = jax.grad(total)(state.generator.params)
    updates, _ = parts.generator_optimizer.update(gradients, state.generator.opt_state)
    return critic, optax.apply_updates(state.generator.params, updates)


@pytest.mark.parametrize("loss", WRITTEN_OUT)
def test_gan_update_is_that_of_its_written_out_losses(patch_parts, patch_state, example, loss):
    objective = GAN(loss=loss, reconstruction_weight=100.0)
    updated, metrics = update(objective, patch_parts, patch_state, example, jax.random.key(1))
    written_out = jax.jit(
        lambda state, example: written_out_gan(patch_parts, state, example, loss, 100.0)
    )
    critic, generator = written_out(patch_state, example)
    chex.assert_trees_all_close(updated.critic.params, critic, atol=1e-6)
    chex.assert_trees_all_close(updated.generator.params, generator, atol=1e-6)
    assert 0.0 <= float(metrics["critic_accuracy"]) <= 1.0


def test_gan_critic_keeps_the_statistics_of_fakes_then_reals(patch_parts, patch_state, example):
    updated, _ = update(GAN(), patch_parts, patch_state, example, jax.random.key(1))
    fake = patch_parts.generator.apply(
        patch_state.generator.variables, example[0], True, mutable=["batch_stats"]
    )[0]
    variables = patch_state.critic.variables
    for prediction in (fake, example[1]):
        image = jnp.concatenate([example[0], prediction], -1)
        _, statistics = patch_parts.critic.apply(variables, image, True, mutable=["batch_stats"])
        variables = variables | statistics
    chex.assert_trees_all_close(
        updated.critic.batch_stats, variables["batch_stats"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("real", "fake", "loss", "expected"),
    [
        (2.0, -2.0, "bce", 1.0),
        (-2.0, 2.0, "bce", 0.0),
        (2.0, 2.0, "hinge", 0.5),
        (-2.0, 2.0, "flipped_bce", 1.0),
        (0.6, 0.4, "least_squares", 1.0),
        (0.4, 0.3, "least_squares", 0.5),
    ],
)
def test_accuracy_counts_right_verdicts(real, fake, loss, expected):
    values = GAN(loss=loss).critic_metrics(
        lambda image: image, jnp.full((2, 3, 3, 1), real), jnp.full((2, 3, 3, 1), fake), None
    )
    np.testing.assert_array_equal(values["critic_accuracy"], [expected, expected])


@pytest.mark.parametrize("name", ["gan", "wgan_gp"])
def test_a_closed_gate_leaves_the_critic_as_it_is_without_compiling_again(
    name, parts, state, patch_parts, patch_state, example
):
    # Random critics are right in about half of their verdicts: some pass the gate, some don't.
    objective = GAN(critic_gate=0.5) if name == "gan" else WGANGP(critic_gate=0.5)
    parts, state = (patch_parts, patch_state) if name == "gan" else (parts, state)
    step = jax.jit(lambda *args: objective.update(parts, *args))
    closed = 0
    for seed in range(6):
        critic = create_state(parts, 8, jax.random.key(seed)).critic.params
        before = state.replace(critic=state.critic.replace(params=critic))
        updated, metrics = step(before, example, jax.random.key(seed))
        if metrics["critic_accuracy"] > 0.5:
            closed += 1
            assert float(metrics["critic_trained"]) == 0.0
            chex.assert_trees_all_equal(updated.critic, before.critic)
        else:
            assert float(metrics["critic_trained"]) == 1.0
            assert adam_count(updated.critic) == adam_count(before.critic) + 1
        assert adam_count(updated.generator) > adam_count(before.generator)
    assert 0 < closed < 6
    assert step._cache_size() == 1


def test_a_gate_at_one_always_trains_the_critic(parts, state, example):
    updated, metrics = update(WGANGP(critic_gate=1.0), parts, state, example, jax.random.key(1))
    assert adam_count(updated.critic) == 1
    assert "critic_trained" not in metrics


def test_every_nth_epoch_the_critic_sees_noise_for_fakes(patch_parts, patch_state, example):
    # Epochs of 6 steps: with every second noisy, steps 6 to 11 are, and 0 to 5 and 12 are not.
    noisy, plain = GAN(noise_every_epochs=2), GAN()
    steps = {
        each: jax.jit(lambda *args, each=each: each.update(patch_parts, *args))
        for each in (noisy, plain)
    }
    for step, differs in [(0, False), (5, False), (6, True), (11, True), (12, False)]:
        state = patch_state.replace(step=jnp.asarray(step))
        updated = [steps[each](state, example, jax.random.key(1))[0] for each in (noisy, plain)]
        equal = all(
            np.allclose(a, b, atol=1e-7)
            for a, b in zip(*(jax.tree.leaves(each.critic.params) for each in updated), strict=True)
        )
        assert equal != differs, step


def test_noise_draws_nothing_that_the_penalty_draws_too(parts, state, example):
    # The points between real and fake and the noise come of keys of their own.
    objective = WGANGP(generator_steps=1, noise_every_epochs=1)
    critic_key, noise_key = jax.random.split(
        jax.random.split(jax.random.split(jax.random.key(1), 2)[1])[1]
    )
    _, metrics = update(objective, parts, state, example, jax.random.key(1))
    lowest, highest = jnp.min(example[1]), jnp.max(example[1])
    noise = jax.random.uniform(noise_key, example[1].shape, minval=lowest, maxval=highest)
    alpha = jax.random.uniform(jax.random.split(critic_key)[1], (4, 1, 1, 1))

    def score(image):
        return jnp.mean(parts.critic.apply({"params": state.critic.params}, image, True), (1, 2, 3))

    fake, real = (jnp.concatenate([example[0], ab], -1) for ab in (noise, example[1]))
    gradient = jax.grad(lambda x: jnp.sum(score(x)))(alpha * real + (1 - alpha) * fake)
    penalty = (jnp.linalg.norm(gradient.reshape(4, -1), axis=1) - 1) ** 2
    np.testing.assert_allclose(metrics["gradient_penalty"], penalty.mean(), rtol=1e-4)
    assert not np.allclose(noise.ravel()[:4], alpha.ravel())


def test_squared_error_is_what_reconstruction_minimises_when_asked(parts, state, example):
    updated, metrics = update(
        Reconstruction(loss="squared"), parts, state, example, jax.random.key(1)
    )

    def loss(params):
        variables = {"params": params, "batch_stats": state.generator.batch_stats}
        fake, _ = parts.generator.apply(variables, example[0], True, mutable=["batch_stats"])
        return jnp.mean((fake - example[1]) ** 2)

    value, gradients = jax.jit(jax.value_and_grad(loss))(state.generator.params)
    updates, _ = parts.generator_optimizer.update(gradients, state.generator.opt_state)
    expected = optax.apply_updates(state.generator.params, updates)
    np.testing.assert_allclose(metrics["generator_loss"], value, rtol=1e-5)
    chex.assert_trees_all_close(updated.generator.params, expected, atol=1e-6)


@pytest.mark.parametrize("objective", [GAN, Reconstruction])
def test_unknown_losses_are_named(objective):
    with pytest.raises(UserError, match="'focal'"):
        objective(loss="focal")


def test_critic_and_generator_of_a_gan_learn_of_the_same_picture(example):
    # The critic's fakes are made under the dropout of the generator's own update.
    parts = create_small_parts(dropout=0.5)
    state = create_state(parts, 8, jax.random.key(0))
    _, metrics = update(GAN(loss="hinge"), parts, state, example, jax.random.key(1))
    generate_key = jax.random.split(jax.random.split(jax.random.key(1), 1)[0])[0]
    fake, _ = parts.generator.apply(
        state.generator.variables,
        example[0],
        True,
        mutable=["batch_stats"],
        rngs={"dropout": generate_key},
    )

    def score(prediction):
        image = jnp.concatenate([example[0], prediction], -1)
        return parts.critic.apply({"params": state.critic.params}, image, True)

    loss = jnp.mean(jnp.maximum(0, 1 + score(fake))) + jnp.mean(
        jnp.maximum(0, 1 - score(example[1]))
    )
    np.testing.assert_allclose(metrics["critic_loss"], 0.5 * loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["l1"], jnp.mean(jnp.abs(fake - example[1])), rtol=1e-5)
