"""The Colorizer: a model and a picture in, the picture in colour out."""

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from PIL import Image

from colorjax import color, parallel
from colorjax.colorize.join import join_lightness
from colorjax.colorize.model import find_model, read_variables
from colorjax.colorize.pictures import Picture, read_picture
from colorjax.errors import UserError
from colorjax.models import Networks, create_networks, generator_shapes, predict

_BATCH = 8  # pictures that pass through the network together
_BATCH_PIXELS = 50_000_000  # of the originals that are held for one batch


class Colorizer:
    """Colours pictures of any size and shape with one model.

    The network sees a picture squashed to a square, as in training. Its colour is enlarged
    smoothly and joined with the picture's own lightness at full resolution, so that no detail is
    lost. A picture that has colours already is coloured from its lightness alone.

    Args:
      networks: what the model's config describes.
      variables: the generator's, replicated over all devices.
    """

    def __init__(self, networks: Networks, variables: Any) -> None:
        self._networks, self._variables = networks, variables
        self._mesh = parallel.create_mesh()
        self._predict = parallel.map_evaluation(_make_predict_ab(networks), self._mesh)

    @classmethod
    def load(cls, model: str | os.PathLike[str] | None = None) -> "Colorizer":
        """Return the colorizer of a model.

        Args:
          model: a run's or a model's folder, `DIR@STEP`, or a name from `colorjax models`; None
            for the model that colorjax ships. Of a run the best step is taken.

        Raises:
          UserError: if there is no such model, or it is damaged or doesn't fit its config.
        """
        files = find_model(model)
        networks = create_networks(files.config)
        mesh = parallel.create_mesh()
        variables = read_variables(files, "generator", generator_shapes(networks), mesh)
        return cls(networks, variables)

    def colorize(
        self, image: Picture, *, size: int | None = None, saturation: float = 1.0
    ) -> np.ndarray:
        """Return a picture in colour, at its own size and with its own lightness.

        Args:
          image: PIL image, path, or uint8 (H, W) or (H, W, 3).
          size: side in pixels of the square that the network sees; None for the size of its
            training.
          saturation: factor of the predicted colour: 0 is gray, 1 as predicted.

        Returns:
          uint8 (H, W, 3), sRGB.

        Raises:
          UserError: if the picture can't be read, or an argument is out of range.
        """
        size = self._check_arguments(size, saturation)
        batch = [read_picture(image)]
        return next(self._colorize_batch(batch, parallel.round_up_to_devices(1), size, saturation))

    def colorize_many(
        self, images: Iterable[Picture], *, size: int | None = None, saturation: float = 1.0
    ) -> Iterator[np.ndarray]:
        """Return an iterator over pictures in colour, in order; see `colorize`.

        Pictures pass through the network in batches, and are read when their batch comes.
        """
        size = self._check_arguments(size, saturation)
        return self._iterate(images, size, saturation)

    def predict_ab(self, image: Picture, *, size: int | None = None) -> np.ndarray:
        """Return the color that the network predicts, before it is joined with a lightness.

        Args:
          image: see `colorize`.
          size: likewise.

        Returns:
          float32 (size, size, 2): a and b in CIE units, over the whole picture.

        Raises:
          UserError: if the picture can't be read, or the size is out of range.
        """
        size = self._check_arguments(size, 1.0)
        return self._predict_batch([read_picture(image)], parallel.round_up_to_devices(1), size)[0]

    def _iterate(
        self, images: Iterable[Picture], size: int, saturation: float
    ) -> Iterator[np.ndarray]:
        for batch in _group(read_picture(image) for image in images):
            # Two lengths are compiled at the most: a lone picture need not wait for seven blanks.
            length = parallel.round_up_to_devices(_BATCH if len(batch) > 1 else 1)
            yield from self._colorize_batch(batch, length, size, saturation)

    def _colorize_batch(
        self, images: list[np.ndarray], length: int, size: int, saturation: float
    ) -> Iterator[np.ndarray]:
        """Yield the pictures in colour."""
        predicted = self._predict_batch(images, length, size)
        for image, ab in zip(images, predicted, strict=False):
            yield join_lightness(image, ab, saturation)

    def _predict_batch(self, images: list[np.ndarray], length: int, size: int) -> np.ndarray:
        """Return their ab; the batch is padded to `length`, so compiled once."""
        squares = np.zeros((length, size, size, 3), np.uint8)
        for square, image in zip(squares, images, strict=False):
            square[:] = _squash(image, size)
        batch = parallel.create_global_batch(squares, self._mesh)
        predicted = np.asarray(self._predict(self._variables, batch))
        if not np.isfinite(predicted).all():
            raise UserError("The model predicts no finite colours: its weights are damaged.")
        return predicted

    def _check_arguments(self, size: int | None, saturation: float) -> int:
        """Return the size to use.

        Raises:
          UserError: if an argument is out of range.
        """
        if not (math.isfinite(saturation) and saturation >= 0):
            raise UserError(f"A saturation of {saturation} can't be had: give 0 or more.")
        if size is None:
            return self._networks.image_size
        stride = self._networks.generator.stride
        if size < stride or size % stride:
            raise UserError(
                f"This model can't see pictures at {size}: give a multiple of {stride}."
            )
        return size


def _make_predict_ab(networks: Networks) -> Any:
    codec, generator = networks.codec, networks.generator

    def predict_ab(variables: Any, images: jax.Array) -> jax.Array:
        """Return ab (B, S, S, 2) in CIE units for uint8 (B, S, S, 3)."""
        network_input, _ = codec.encode(color.to_rgb(images))
        prediction = predict(generator, variables, network_input)
        return codec.predicted_ab(network_input, prediction)

    return predict_ab


def _squash(image: np.ndarray, size: int) -> np.ndarray:
    """Return a square as training saw it; see `data.decode.squash`."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def _group(images: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield batches that are full, or large enough for the memory."""
    batch: list[np.ndarray] = []
    pixels = 0
    for image in images:
        batch.append(image)
        pixels += image.shape[0] * image.shape[1]
        if len(batch) == _BATCH or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
