import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from colorjax import losses

KEY = jax.random.key(0)
SHAPE = (3, 4, 5, 2)


@pytest.fixture
def images() -> tuple[jax.Array, jax.Array]:
    real, fake = jax.random.normal(KEY, (2, *SHAPE))
    return real, fake


def test_absolute_error_is_elementwise_in_float32() -> None:
    prediction, target = jnp.array([[1.0, -2.0]], jnp.bfloat16), jnp.array([[0.75, 1.001]])
    error = losses.absolute_error(prediction, target)
    assert error.dtype == jnp.float32
    np.testing.assert_allclose(error, [[0.25, 3.001]], rtol=1e-6)


def test_class_loss_is_the_cross_entropy_of_each_picture_in_float32() -> None:
    scores = jax.random.normal(KEY, (5, 3), jnp.bfloat16)
    labels = np.array([0, 2, 1, 1, 0])
    loss = losses.class_loss(scores, jnp.asarray(labels))
    assert loss.dtype == jnp.float32
    expected = -log_softmax(np.asarray(scores, np.float64), axis=-1)[np.arange(5), labels]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2,), (2, 1, 1, 1), (2, 5, 5, 1)])
def test_wasserstein_losses_are_per_image(shape: tuple[int, ...]) -> None:
    real, fake = np.random.default_rng(0).normal(size=(2, *shape))
    real_means, fake_means = (scores.reshape(2, -1).mean(1) for scores in (real, fake))
    critic = losses.wasserstein_critic_loss(jnp.asarray(real), jnp.asarray(fake))
    generator = losses.wasserstein_generator_loss(jnp.asarray(fake))
    np.testing.assert_allclose(critic, fake_means - real_means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(generator, -fake_means, rtol=1e-5, atol=1e-6)


def test_penalty_of_a_linear_critic(images: tuple[jax.Array, jax.Array]) -> None:
    # Its gradient is the weights at every point: the penalty is (||w|| - 1)^2, its own gradient
    # 2 (||w|| - 1) w / ||w||.
    weights = jax.random.normal(jax.random.key(1), SHAPE[1:])

    def penalty(weights: jax.Array) -> jax.Array:
        critic = lambda x: jnp.einsum("bhwc,hwc->b", x, weights)  # noqa: E731
        return losses.gradient_penalty(critic, *images, KEY)

    value, gradient = jax.jit(jax.value_and_grad(penalty))(weights)
    norm = jnp.linalg.norm(weights.ravel())
    np.testing.assert_allclose(value, (norm - 1) ** 2, rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * (norm - 1) * weights / norm, rtol=1e-4, atol=1e-5)


def test_penalty_of_a_quadratic_critic(images: tuple[jax.Array, jax.Array]) -> None:
    # s/2 ||x||^2 has the gradient s x; with fake = real the point x is known.
    real, _ = images
    norms = jnp.linalg.norm(real.reshape(SHAPE[0], -1), axis=1)

    def penalty(scale: jax.Array) -> jax.Array:
        critic = lambda x: 0.5 * scale * jnp.sum(x**2, axis=(1, 2, 3))  # noqa: E731
        return losses.gradient_penalty(critic, real, real, KEY)

    value, gradient = jax.value_and_grad(penalty)(0.3)
    np.testing.assert_allclose(value, jnp.mean((0.3 * norms - 1) ** 2), rtol=1e-5)
    np.testing.assert_allclose(gradient, jnp.mean(2 * (0.3 * norms - 1) * norms), rtol=1e-5)


def test_penalty_sums_a_map_of_scores(images: tuple[jax.Array, jax.Array]) -> None:
    # Every value is one score of slope 1: the summed gradient is all ones.
    penalty = losses.gradient_penalty(lambda x: x, *images, KEY)
    np.testing.assert_allclose(penalty, (np.sqrt(np.prod(SHAPE[1:])) - 1) ** 2, rtol=1e-5)


def test_penalty_of_zero_gradient_is_one_and_differentiable(
    images: tuple[jax.Array, jax.Array],
) -> None:
    def penalty(weight: jax.Array) -> jax.Array:
        critic = lambda x: weight * jnp.sum(x, axis=(1, 2, 3))  # noqa: E731
        return losses.gradient_penalty(critic, *images, KEY)

    value, gradient = jax.value_and_grad(penalty)(0.0)
    assert value == 1
    assert gradient == 0


def test_penalty_draws_one_uniform_point_an_image() -> None:
    # Between fake 0 and real 1 in four values, ||x||^2 / 2 has a gradient of norm 2 alpha, so the
    # penalty is the mean of (2 alpha - 1)^2, 1/3 for uniform alpha. One alpha for the batch
    # scatters over 0..1; one a value gives about 0.07.
    real = jnp.ones((20_000, 2, 2, 1))
    critic = lambda x: 0.5 * jnp.sum(x**2, axis=(1, 2, 3))  # noqa: E731
    for seed in range(3):
        key = jax.random.key(seed)
        penalty = losses.gradient_penalty(critic, real, jnp.zeros_like(real), key)
        np.testing.assert_allclose(penalty, 1 / 3, atol=0.01)


def test_penalty_weighs_the_real_by_alpha() -> None:
    # The same draw on swapped ends is another point: 1 - alpha in place of alpha.
    real, fake = jnp.ones((1, 1)), jnp.zeros((1, 1))
    critic = lambda x: 0.5 * jnp.sum(x**2, axis=1)  # noqa: E731
    one = losses.gradient_penalty(critic, real, fake, KEY)
    other = losses.gradient_penalty(critic, fake, real, KEY)
    np.testing.assert_allclose(jnp.sqrt(one) + jnp.sqrt(other), 1, rtol=1e-5)


def test_penalty_of_a_low_precision_critic_is_float32(
    images: tuple[jax.Array, jax.Array],
) -> None:
    critic = lambda x: jnp.sum(x.astype(jnp.bfloat16), axis=(1, 2, 3))  # noqa: E731
    assert losses.gradient_penalty(critic, *images, KEY).dtype == jnp.float32
