"""`configs/wgan.py` as colorjax trains it: an iteration and its parts, to be measured."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from widths import stage_widths

from colorjax import configuration, data, losses, parallel
from colorjax.compilation import forget_compiled_programs
from colorjax.memory import give_back_freed_memory
from colorjax.models import convolution
from colorjax.training.assembly import create_parts, create_phases
from colorjax.training.state import create_state
from colorjax.training.step import make_train_step

ROOT = Path(__file__).parents[1]
Way = tuple[Callable[[], object], float]  # a function, and the operations that it takes


class Training:
    """One iteration of WGAN-GP plus L1, and its parts, each compiled before it is measured.

    Args:
      images: uint8 (B, S, S, 3).
      width: of the generator's first stage.
      critic_widths: of the critic.
      dtype: float32 or bfloat16.
    """

    def __init__(
        self, images: np.ndarray, width: int, critic_widths: tuple[int, ...], dtype: str
    ) -> None:
        config = configuration.load_recipe(str(ROOT / "configs/wgan.py"))
        config.image_size, config.batch_size, config.dtype = images.shape[1], len(images), dtype
        config.generator.widths = stage_widths(width)
        config.critic.widths = critic_widths
        config.data.horizontal_flip = 0.0
        config.ema_decay = 0.0  # which the other side doesn't have
        phases = create_phases(config)
        self.widths = config.generator.widths
        self.parts = create_parts(config, phases, steps_per_epoch=1)
        self.mesh = parallel.create_mesh()
        state = create_state(self.parts, config.image_size, jax.random.key(0))
        self.state = parallel.replicate(state, self.mesh)
        del state
        forget_compiled_programs()  # as a run does
        self.images = parallel.create_global_batch(images, self.mesh)
        prepare = data.make_training_prepare(config.data, config.image_size)
        encode = jax.jit(lambda images: self.parts.codec.encode(prepare(images, jax.random.key(0))))
        self.example = encode(self.images)
        step = make_train_step(self.parts, phases[-1].objective, config.seed, prepare)
        mapped = parallel.map_step(step, self.mesh)
        self.operations = count_operations(mapped, self.state, self.images)
        self._step = mapped.lower(self.state, self.images).compile()
        give_back_freed_memory()  # likewise

    def make_ways(self) -> dict[str, Way]:
        """Return the iteration and its parts by name; gradients are those in all parameters."""
        penalty = partial(self.penalty, key=jax.random.key(0))
        return {
            "iteration": (self.iterate, self.operations),
            "generator forward": self._compile(
                lambda networks, gray, ab: self._generate(networks[0], gray)
            ),
            "generator forward + backward": self._compile(jax.grad(self.reconstruction_loss)),
            "critic": self._compile(jax.grad(self.judgement)),
            "penalty": self._compile(jax.grad(penalty)),
        }

    def iterate(self) -> None:
        """Update the generator twice, then the critic."""
        self.begin()
        jax.block_until_ready(self.state)

    def begin(self) -> None:
        """Begin an iteration, after those that were begun before, without waiting for it."""
        self.state, _ = self._step(self.state, self.images)

    def losses(self, key: jax.Array) -> dict[str, jax.Array]:
        """Return L1, the critic's loss without the penalty, and the penalty, of one program."""

        @jax.jit
        def compute(networks: Any, gray: Any, ab: Any) -> dict[str, jax.Array]:
            return {
                "L1": self.reconstruction_loss(networks, gray, ab),
                "critic": self.judgement(networks, gray, ab),
                "penalty": self.penalty(networks, gray, ab, key),
            }

        return jax.block_until_ready(compute(self.networks, *self.example))

    def reconstruction_loss(self, networks: Any, gray: Any, ab: Any) -> jax.Array:
        """Return L1."""
        return jnp.mean(jnp.abs(self._generate(networks[0], gray) - ab))

    def penalty(self, networks: Any, gray: Any, ab: Any, key: Any) -> jax.Array:
        """Return the gradient penalty, towards pictures that are as predicted."""
        real, fake = self._pictures(networks, gray, ab)
        return losses.gradient_penalty(partial(self._judge, networks[1]), real, fake, key)

    def judgement(self, networks: Any, gray: Any, ab: Any) -> jax.Array:
        """Return the critic's loss without the penalty."""
        real, fake = self._pictures(networks, gray, ab)
        return jnp.mean(self._judge(networks[1], fake)) - jnp.mean(self._judge(networks[1], real))

    @property
    def networks(self) -> Any:
        """The parameters of the generator and of the critic."""
        return self.state.generator.params, self.state.critic.params

    def _compile(self, function: Any) -> Way:
        operands = (self.networks, *self.example)
        operations = count_operations(jax.jit(function), *operands)
        compiled = jax.jit(function).lower(*operands).compile()

        def run() -> object:
            return jax.block_until_ready(compiled(self.networks, *self.example))

        return run, operations

    def _generate(self, params: Any, gray: Any) -> jax.Array:
        variables = {"params": params, "batch_stats": self.state.generator.batch_stats}
        return self.parts.generator.apply(variables, gray, train=True, mutable=["batch_stats"])[0]

    def _judge(self, params: Any, image: Any) -> jax.Array:
        return losses.mean_per_image(self.parts.critic.apply({"params": params}, image, train=True))

    def _pictures(self, networks: Any, gray: Any, ab: Any) -> tuple[jax.Array, jax.Array]:
        fake = jax.lax.stop_gradient(self._generate(networks[0], gray))
        codec = self.parts.codec
        return codec.critic_image(gray, ab), codec.critic_image(gray, fake)


def count_operations(function: Any, *operands: Any) -> float:
    """Return the operations of a jitted function on all devices, its convolutions being XLA's own.

    Of a compiled program XLA counts those of one device, and on a GPU none of what cuDNN computes;
    of a lowered one, none of what devices share (`parallel.sum_over_devices`, `map_over_devices`).
    """
    with mock.patch.dict(os.environ, {convolution.SWITCH: "0"}):
        jax.clear_caches()
        lowered = function.lower(*operands)
    jax.clear_caches()
    return float(lowered.cost_analysis()["flops"])
