"""Losses, elementwise or per image: the caller reduces. Arithmetic is in float32."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

Elementwise = Callable[[jax.Array], jax.Array]


def absolute_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Return |prediction - target|, float32, of the two's common shape."""
    return jnp.abs(jnp.asarray(prediction, jnp.float32) - jnp.asarray(target, jnp.float32))


def squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Return (prediction - target)^2, float32, of the two's common shape."""
    return jnp.square(jnp.asarray(prediction, jnp.float32) - jnp.asarray(target, jnp.float32))


def class_loss(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the cross-entropy of scores (B, classes), logits, and labels, float32 (B,).

    Args:
      scores: (B, classes), any float.
      labels: int32 (B,), in [0, classes).
    """
    return optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(scores, jnp.float32), labels)


RECONSTRUCTION_LOSSES = {"absolute": absolute_error, "squared": squared_error}


@dataclass(frozen=True)
class AdversarialLoss:
    """What a critic that tells real from fake minimises, score by score, and the generator.

    Attributes:
      real: the critic's loss of a real picture's score.
      fake: the critic's loss of a generated picture's score.
      generator: the generator's loss of that score.
      looks_real: whether a score says "real".
    """

    real: Elementwise
    fake: Elementwise
    generator: Elementwise
    looks_real: Elementwise


ADVERSARIAL_LOSSES = {
    # Binary cross entropy of logits, the generator's in its non-saturating form (Goodfellow et
    # al. 2014, arXiv:1406.2661).
    "bce": AdversarialLoss(
        real=lambda score: jax.nn.softplus(-score),
        fake=jax.nn.softplus,
        generator=lambda score: jax.nn.softplus(-score),
        looks_real=lambda score: score > 0,
    ),
    # The same with flipped labels: real is 0 and fake is 1.
    "flipped_bce": AdversarialLoss(
        real=jax.nn.softplus,
        fake=lambda score: jax.nn.softplus(-score),
        generator=jax.nn.softplus,
        looks_real=lambda score: score < 0,
    ),
    # Mao et al. 2017, arXiv:1611.04076, with the labels 0 and 1.
    "least_squares": AdversarialLoss(
        real=lambda score: jnp.square(score - 1),
        fake=jnp.square,
        generator=lambda score: jnp.square(score - 1),
        looks_real=lambda score: score > 0.5,
    ),
    # Lim and Ye 2017, arXiv:1705.02894.
    "hinge": AdversarialLoss(
        real=lambda score: jax.nn.relu(1 - score),
        fake=lambda score: jax.nn.relu(1 + score),
        generator=lambda score: -score,
        looks_real=lambda score: score > 0,
    ),
}


def mean_per_image(values: jax.Array) -> jax.Array:
    """Return the mean of each image's values, (B, ...) to (B,), in float32."""
    values = jnp.asarray(values, jnp.float32)
    return jnp.mean(values.reshape(values.shape[0], -1), axis=1)


def wasserstein_critic_loss(real_scores: jax.Array, fake_scores: jax.Array) -> jax.Array:
    """Return each image's fake score less its real one, (B,), which the critic minimises.

    Scores are (B, ...); a map of scores, one a patch, counts by its mean. The loss is the negated
    estimate of the Wasserstein distance (Arjovsky et al. 2017, arXiv:1701.07875).
    """
    return mean_per_image(fake_scores) - mean_per_image(real_scores)


def wasserstein_generator_loss(fake_scores: jax.Array) -> jax.Array:
    """Return each image's negated score, (B,), from scores (B, ...): see the critic's loss."""
    return -mean_per_image(fake_scores)


def gradient_penalty(
    critic_fn: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, key: jax.Array
) -> jax.Array:
    """Return the two-sided penalty of WGAN-GP, the batch's mean of (||gradient||_2 - 1)^2.

    See `gradient_penalties`, of which this is the mean.
    """
    return jnp.mean(gradient_penalties(critic_fn, real, fake, key))


def gradient_penalties(
    critic_fn: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, key: jax.Array
) -> jax.Array:
    """Return each image's (||gradient||_2 - 1)^2, (B,), the penalty of WGAN-GP.

    The gradient is that of the critic's scores in its input, at one random point on the line
    from each fake to its real image; a map of scores is summed. The result can be differentiated
    again in the critic's parameters, also where the gradient is exactly zero. The critic must
    score each image by itself (no batch norm). Gulrajani et al. 2017, arXiv:1704.00028.

    Args:
      critic_fn: maps images (B, ...) to scores, (B,) or (B, ...).
      real: images (B, ...).
      fake: images (B, ...), of the same shape.
      key: one key, for the points on the lines.

    """
    real, fake = jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32)
    alpha = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1))
    interpolated = alpha * real + (1.0 - alpha) * fake
    gradient = jax.grad(lambda x: jnp.sum(critic_fn(x).astype(jnp.float32)))(interpolated)
    # A plain norm has no derivative at zero; this one gives zero there instead of NaN.
    norm = optax.safe_norm(gradient.reshape(gradient.shape[0], -1), 0.0, axis=1)
    return jnp.square(norm - 1.0)
