"""The Fréchet distance between coloured and true pictures in the features of a named network.

FID proper (Heusel et al., arXiv 1706.08500) uses an Inception network of its own weights; with
another network the figures have another scale, so that each is given with its protocol and compared
with nothing but figures of the same protocol and the same number of pictures.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from colorjax import color, parallel
from colorjax.errors import UserError
from colorjax.models.frozen import ENCODER
from colorjax.models.pretrained import load_encoder
from colorjax.models.resnet import ResNet
from colorjax.models.weight_files import open_weights

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision
_STAGES = (1, 2, 3, 4)


class FeatureNetwork:
    """A ResNet-18 or ResNet-50, up to the last stage that a file of weights has.

    Args:
      source: FILE.npz, FILE.safetensors or hf://OWNER/NAME, in torchvision's names.
      mesh: of the devices to use.

    Raises:
      UserError: if the file can't be had or read, or holds neither network.
    """

    def __init__(self, source: str, mesh: Mesh) -> None:
        self._mesh, self._source = mesh, source
        self._network = _find_network(source)
        shapes = jax.eval_shape(
            partial(self._network.init, train=False), jax.random.key(0), _blank(self._network)
        )
        params, statistics = load_encoder(
            source, {ENCODER: shapes["params"]}, {ENCODER: shapes["batch_stats"]}
        )
        variables = {"params": params[ENCODER], "batch_stats": statistics[ENCODER]}
        self._variables = jax.device_put(variables, parallel.replicated(mesh))
        self._features = parallel.map_evaluation(_make_features(self._network), mesh)

    @property
    def protocol(self) -> str:
        """What the figures mean, in one sentence."""
        network = f"ResNet-{self._network.depth} up to {self._network.encoder_end}"
        return (
            f"FID: Frechet distance between the coloured and the true pictures' features, the "
            f"means over the last map of {network} of {self._source}, pictures at the size above "
            "with ImageNet's mean and deviation, unbiased covariances; it falls with the number of "
            "pictures and is not the FID of Inception features."
        )

    def extract(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Return float64 (N, channels): the features of pictures, each once.

        Args:
          batches: uint8 images (B, S, S, 3) and masks (B,), as `data.make_evaluation_batches`.
        """
        found = []
        for images, mask in batches:
            present = parallel.gather(mask, self._mesh)
            batch = parallel.create_global_batch(images, self._mesh)
            values = parallel.to_host({"features": self._features(self._variables, batch)})
            found.append(values["features"].astype(np.float64)[present])
        return np.concatenate(found)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance of the Gaussians fitted to two sets of features.

    |m_a - m_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2)), Dowson and Landau 1982; the last
    trace is that of the symmetric (C_a^(1/2) C_b C_a^(1/2))^(1/2), whose eigenvalues are real.

    Args:
      a: (N, D), N at least 2.
      b: (M, D), M at least 2.

    Raises:
      UserError: if there are fewer than two of either.
    """
    if min(len(a), len(b)) < 2:
        raise UserError("FID needs two pictures at the least: measure more of them.")
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ covariance_b @ root)
    traces = np.trace(covariance_a) + np.trace(covariance_b)
    between = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    return float(between + traces - 2 * np.sqrt(np.maximum(mixed, 0.0)).sum())


def _find_network(source: str) -> ResNet:
    """Return the network whose tensors the file has."""
    with open_weights(source) as file:
        names = file.names
    stages = [stage for stage in _STAGES if f"layer{stage}.0.conv1.weight" in names]
    if not stages:
        raise UserError(
            f"{source} holds no ResNet in torchvision's names: give weights of a ResNet-18 or -50."
        )
    depth = 50 if "layer1.0.conv3.weight" in names else 18
    return ResNet(depth=depth, encoder_end=f"layer{stages[-1]}")


def _blank(network: ResNet) -> jax.Array:
    return jnp.zeros((1, network.stride, network.stride, 3))


def _make_features(network: ResNet) -> Any:
    def features(variables: Any, images: jax.Array) -> jax.Array:
        normed = (color.to_rgb(images) - jnp.asarray(_MEAN)) / jnp.asarray(_DEVIATION)
        maps: Any = network.apply(variables, normed, train=False)
        return jnp.mean(maps[-1], axis=(1, 2))

    return features
