"""A generator and pictures in, numbers and coloured pictures out.

The training loop and `colorjax evaluate` both use this file, so that their figures agree.
Protocol: pictures squashed bicubically to the training size, RGB in [0, 1], means over pictures;
the true pictures take the same round trip through Lab as the predicted ones. A recipe that cuts
its pictures (`data.load_size`, `data.crop_size`) is measured so on its validation split while it
trains; `colorjax evaluate` shows every model whole pictures, and with `--size` measures all of them
at one size (`Resizing`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from colorjax import color, metrics, models, parallel
from colorjax.color import Codec
from colorjax.data import Prepare

Batches = Iterable[tuple[np.ndarray, np.ndarray]]  # this process's uint8 images, and their mask
# Of an objective: (critic_fn, real, fake, key) to values, one a picture.
CriticMetrics = Callable[..., dict[str, jax.Array]]
Triple = tuple[jax.Array, jax.Array, jax.Array]  # a network's input, the target, the prediction


@dataclass(frozen=True)
class Judge:
    """A critic and what to report of its scores, as an objective defines it."""

    critic: nn.Module
    metrics: CriticMetrics


@dataclass(frozen=True)
class Resizing:
    """How a network is measured on pictures of another size than it sees.

    The network sees the pictures resampled bicubically, antialiased where they shrink. Of what it
    predicts, ab alone is brought back to the pictures' size and joined with their own lightness,
    also where the network predicts a lightness; its critic judges what it has predicted, at the
    size of both.

    Attributes:
      seen_size: the side S of the squares that the network sees, in pixels.
      resize_ab: takes predicted ab (B, S, S, 2), in CIE units, and the pictures (B, N, N, 3) in
        [0, 1]; returns ab (B, N, N, 2).
    """

    seen_size: int
    resize_ab: Callable[[jax.Array, jax.Array], jax.Array]


class Evaluator:
    """Measures a generator on pictures; compiled once, used every epoch.

    Args:
      codec: of the network.
      generator: the module.
      mesh: of the devices to use.
      judge: the critic, where its losses are wanted.
      prepare: makes pictures what the network is shown; see `data.make_prepare`.
      resizing: where the figures are taken at another size than the network sees.
    """

    def __init__(
        self,
        codec: Codec,
        generator: nn.Module,
        mesh: Mesh,
        judge: Judge | None = None,
        prepare: Prepare = color.to_rgb,
        resizing: Resizing | None = None,
    ) -> None:
        self._mesh = mesh
        predict = _make_predict(codec, generator, prepare, resizing)
        self._measure = parallel.map_evaluation(_make_measure(codec, predict, judge), mesh)
        self._colorize = parallel.map_evaluation(_make_colorize(predict), mesh)

    def evaluate(self, variables: Any, batches: Batches, critic_variables: Any) -> dict[str, float]:
        """Return the mean of each metric over the pictures, every one counted once.

        Args:
          variables: of the generator.
          batches: from `data.make_evaluation_batches`.
          critic_variables: of the judge's critic; {} without a judge.
        """
        return _means(self.evaluate_each(variables, batches, critic_variables))

    def evaluate_each(
        self, variables: Any, batches: Batches, critic_variables: Any
    ) -> dict[str, np.ndarray]:
        """Return each metric of each picture, float64 (N,); arguments as `evaluate`."""
        both = {"generator": variables, "critic": critic_variables}
        return _measure_each(lambda batch: self._measure(both, batch), batches, self._mesh)

    def colorize(self, variables: Any, images: np.ndarray) -> np.ndarray:
        """Return uint8 pictures (B, S, S, 3) coloured from the lightness of `images`.

        The images are uint8 (B, H, W, 3); (H, W) differs from (S, S) where `prepare` changes it.
        B is a multiple of the number of devices; every process gives its block, gets all.
        """
        batch = parallel.create_global_batch(images, self._mesh)
        return np.asarray(self._colorize(variables, batch))


def evaluate_baselines(
    make_batches: Callable[[], Batches], mesh: Mesh, prepare: Prepare = color.to_rgb
) -> dict[str, float]:
    """Return what is reached without a model.

    `gray_*` is the uncoloured picture; `constant_*` has the set's mean ab painted everywhere,
    the best constant colour in the mean squared error of ab; `colorfulness_real` is the
    photos' own.

    Args:
      make_batches: gives the same batches twice.
      mesh: of the devices to use.
      prepare: makes pictures what a network is shown; see `data.make_prepare`.
    """
    mean_ab = parallel.map_evaluation(lambda _, images: _mean_ab(prepare(images)), mesh)
    means = _means(_measure_each(lambda batch: mean_ab({}, batch), make_batches(), mesh))
    measure = parallel.map_evaluation(
        lambda constant, images: _measure_baselines(constant, prepare(images)), mesh
    )
    constant = np.array([means["a"], means["b"]], np.float32)
    return _means(_measure_each(lambda batch: measure(constant, batch), make_batches(), mesh))


def bootstrap_intervals(
    values: Mapping[str, np.ndarray], resamples: int = 2000
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each mean, by percentiles of the bootstrap (Efron 1979).

    The pictures are drawn anew with replacement, the same ones for all metrics. The interval says
    how far the mean depends on which pictures were measured, not on the training's chances.

    Args:
      values: of each metric, (N,), one a picture.
      resamples: how often the pictures are drawn.
    """
    from scipy.stats import bootstrap

    stacked = np.stack(list(values.values()))
    if stacked.shape[1] < 2:
        return {name: (float(value[0]), float(value[0])) for name, value in values.items()}
    drawn = bootstrap(
        (stacked,),
        np.mean,
        axis=-1,
        n_resamples=resamples,
        batch=50,  # resamples in memory at a time
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = drawn.confidence_interval
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(values)}


def gray_images(images: np.ndarray) -> np.ndarray:
    """Return uint8 pictures (..., 3) without their colour, of the same Lab lightness."""
    return np.asarray(color.to_image(_gray(color.to_rgb(images))))


def _make_predict(
    codec: Codec, generator: nn.Module, prepare: Prepare, resizing: Resizing | None
) -> Callable[..., Any]:
    def predict(variables: Any, images: jax.Array) -> Any:
        """Return the true RGB, what the network saw, what is shown, and the predicted RGB."""
        rgb = prepare(images)
        network_input, target = codec.encode(
            rgb if resizing is None else _resize(rgb, resizing.seen_size)
        )
        prediction = models.predict(generator, variables, network_input)
        seen = shown = (network_input, target, prediction)
        if resizing is not None:
            shown = _show(codec, seen, rgb, resizing)
        return _round_trip(rgb), seen, shown, codec.decode(shown[0], shown[2])

    return predict


def _resize(rgb: jax.Array, size: int) -> jax.Array:
    shape = (len(rgb), size, size, 3)
    return jnp.clip(jax.image.resize(rgb, shape, "cubic", antialias=True), 0.0, 1.0)


def _show(codec: Codec, seen: Triple, rgb: jax.Array, resizing: Resizing) -> Triple:
    """Return what a network of the pictures' own size would have to predict for the same ab."""
    ab = resizing.resize_ab(codec.predicted_ab(seen[0], seen[2]), rgb)
    lightness = color.rgb_to_lab(rgb)[..., :1]
    return *codec.encode(rgb), codec.target_from_lab(jnp.concatenate([lightness, ab], axis=-1))


def _make_measure(
    codec: Codec, predict: Callable[..., Any], judge: Judge | None
) -> Callable[..., Any]:
    def measure(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        true, seen, shown, predicted = predict(variables["generator"], images)
        values = {
            "psnr": _finite_psnr(predicted, true),
            "psnr_lab": metrics.psnr_lab(predicted, true),
            "ssim": metrics.ssim(predicted, true),
            "ciede2000": metrics.ciede2000(predicted, true),
            "colorfulness": metrics.colorfulness(predicted),
            "colorfulness_abs": metrics.colorfulness_abs(predicted),
            "l1": jnp.mean(jnp.abs(shown[2] - shown[1]), axis=(1, 2, 3)),
        }
        if judge is not None:
            # The same points between real and fake every time, so that epochs can be compared.
            key = jax.random.key(0)
            critic_fn = partial(models.predict, judge.critic, variables["critic"])
            network_input, target, prediction = seen
            real = codec.critic_image(network_input, target)
            fake = codec.critic_image(network_input, prediction)
            values |= judge.metrics(critic_fn, real, fake, key)
        return values

    return measure


def _make_colorize(predict: Callable[..., Any]) -> Callable[..., Any]:
    def colorize(variables: Any, images: jax.Array) -> jax.Array:
        return color.to_image(predict(variables, images)[-1])

    return colorize


def _measure_baselines(mean_ab: jax.Array, rgb: jax.Array) -> dict[str, jax.Array]:
    true, gray = _round_trip(rgb), _gray(rgb)
    lightness = color.rgb_to_lab(rgb)[..., :1]
    ab = jnp.broadcast_to(mean_ab, (*rgb.shape[:-1], 2))
    constant = color.lab_to_rgb(jnp.concatenate([lightness, ab], axis=-1))
    return {
        "colorfulness_real": metrics.colorfulness(true),
        "gray_psnr": _finite_psnr(gray, true),
        "gray_ssim": metrics.ssim(gray, true),
        "gray_ciede2000": metrics.ciede2000(gray, true),
        "constant_psnr": _finite_psnr(constant, true),
        "constant_ciede2000": metrics.ciede2000(constant, true),
    }


def _finite_psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the PSNR, at most 100 dB: float32 resolves no more, and infinity has no mean."""
    return jnp.minimum(metrics.psnr(a, b), 100.0)


def _mean_ab(rgb: jax.Array) -> dict[str, jax.Array]:
    lab = color.rgb_to_lab(rgb)
    return {"a": jnp.mean(lab[..., 1], axis=(1, 2)), "b": jnp.mean(lab[..., 2], axis=(1, 2))}


def _round_trip(rgb: jax.Array) -> jax.Array:
    return color.lab_to_rgb(color.rgb_to_lab(rgb))


def _gray(rgb: jax.Array) -> jax.Array:
    return color.gray_from_lightness(color.rgb_to_lab(rgb)[..., :1])


def _measure_each(
    measure: Callable[[jax.Array], dict[str, jax.Array]], batches: Batches, mesh: Mesh
) -> dict[str, np.ndarray]:
    """Return each value of each picture in double precision, the pictures of all processes."""
    parts: dict[str, list[np.ndarray]] = {}
    for images, mask in batches:
        present = parallel.gather(mask, mesh)
        values = measure(parallel.create_global_batch(images, mesh))
        for name, value in parallel.to_host(values).items():
            parts.setdefault(name, []).append(value.astype(np.float64)[present])
    return {name: np.concatenate(values) for name, values in parts.items()}


def _means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(each.sum() / len(each)) for name, each in values.items()}
