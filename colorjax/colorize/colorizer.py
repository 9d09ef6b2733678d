"""The Colorizer: a model and a picture in, the picture in colour out."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from colorjax import color, parallel
from colorjax.colorize.ahead import WORKERS, map_ahead
from colorjax.colorize.hints import Hint, check_hints
from colorjax.colorize.model import find_model, read_variables
from colorjax.colorize.painting import Look, paint, squash
from colorjax.colorize.pictures import Photo, Picture, read_picture
from colorjax.colorize.reference import Palette, read_palette
from colorjax.errors import UserError
from colorjax.models import Networks, create_networks, generator_shapes, predict
from colorjax.program_store import keep_program

_BATCH = 8  # pictures that pass through the network together
# Of so few pixels, as a lone picture's are, fast convolutions spare next to nothing, and take a
# second more to trace, the first time several more to compile.
_FEW_PIXELS = 128 * 128
_BATCH_PIXELS = 50_000_000  # of the originals that are held for one batch


class Colorizer:
    """Colours pictures of any size and shape with one model.

    The network sees a picture squashed to a square, as in training. Its colour is enlarged along
    the picture's edges and joined with the picture's own lightness at full resolution, so that no
    detail is lost. A picture that has colours already is coloured from its lightness alone.

    Args:
      networks: what the model's config describes.
      variables: the generator's, replicated over all devices.
    """

    def __init__(self, networks: Networks, variables: Any) -> None:
        self._networks, self._variables = networks, variables
        self._mesh = parallel.create_mesh()
        self._predict = parallel.map_evaluation(_make_predict(networks), self._mesh)
        if networks.identity is not None:
            self._predict = keep_program(self._predict, f"colour by {networks.identity}")

    @classmethod
    def load(cls, model: str | os.PathLike[str] | None = None) -> "Colorizer":
        """Return the colorizer of a model.

        Args:
          model: a run's or a model's folder, `DIR@STEP`, a name from `colorjax models`, or
            `hf://OWNER/NAME[@REVISION]`; None for the model that colorjax ships. Of a run the best
            step is taken.

        Raises:
          UserError: if there is no such model, or it is damaged or doesn't fit its config.
        """
        files = find_model(model)
        networks = create_networks(files.config)
        mesh = parallel.create_mesh()
        variables = read_variables(files, "generator", generator_shapes(networks), mesh)
        return cls(networks, variables)

    def colorize(
        self,
        image: Photo | Picture,
        *,
        size: int | None = None,
        saturation: float = 1.0,
        upsample: str = "guided",
        lightness: str = "input",
        reference: Palette | Picture | None = None,
        hints: Sequence[Hint] = (),
    ) -> np.ndarray:
        """Return a picture in colour, at its own size and with its own lightness.

        Args:
          image: PIL image, path, uint8 or uint16 (H, W) or (H, W, 3), or a photo as
            `colorjax.colorize.pictures.read_photo` gives it. Transparent parts are laid on white,
            but for a photo, whose alpha may be put to the result.
          size: side in pixels of the square that the network sees; None for the size of its
            training.
          saturation: factor of the predicted colour: 0 is gray, 1 as predicted.
          upsample: `guided`, so that the colour's edges are those of the picture's lightness, or
            `bicubic`, which is smooth and bleeds over them.
          lightness: `input` for the picture's, `network` for that which a network of RGB
            predicts, in its own, low resolution; networks of Lab have none of their own.
          reference: a picture whose palette the predicted colours are given.
          hints: colours wanted at points; each spreads over the region that it lies in.

        Returns:
          (H, W, 3), sRGB: uint16 for an array or photo of that type, else uint8.

        Raises:
          UserError: if the picture can't be read, or an argument is out of range.
        """
        size = self._check_size(size)
        look = _create_look(saturation, upsample, lightness, reference)
        photo = _read(image)
        check_hints(hints, *photo.pixels.shape[:2])
        [(ab, own)] = self._predict_batch([photo], parallel.round_up_to_devices(1), size)
        return paint(photo, ab, look, hints, self._choose_lightness(look, own))

    def colorize_many(
        self,
        images: Iterable[Photo | Picture],
        *,
        size: int | None = None,
        saturation: float = 1.0,
        upsample: str = "guided",
        lightness: str = "input",
        reference: Palette | Picture | None = None,
    ) -> Iterator[np.ndarray]:
        """Return an iterator over pictures in colour, in order; see `colorize`.

        Pictures pass through the network in batches and are read, by threads, one batch ahead;
        reading, the network and enlarging overlap. Pictures of any sizes share what was compiled
        for the first.

        Raises:
          UserError: at once if an argument is out of range; from the iterator, which ends with it,
            if a picture can't be read.
        """
        size = self._check_size(size)
        look = _create_look(saturation, upsample, lightness, reference)
        return self._iterate(images, size, look)

    def predict_ab(self, image: Photo | Picture, *, size: int | None = None) -> np.ndarray:
        """Return the color that the network predicts, before it is joined with a lightness.

        Args:
          image: see `colorize`.
          size: likewise.

        Returns:
          float32 (size, size, 2): a and b in CIE units, over the whole picture.

        Raises:
          UserError: if the picture can't be read, or the size is out of range.
        """
        size = self._check_size(size)
        [(ab, _)] = self._predict_batch([_read(image)], parallel.round_up_to_devices(1), size)
        return ab

    def predict_many(
        self, photos: Iterable[Photo], *, size: int | None = None
    ) -> Iterator[np.ndarray]:
        """Return an iterator over what the network predicts for photos, in order, in batches.

        See `predict_ab`; photos are taken a batch ahead of what is yielded.
        """
        size = self._check_size(size)
        return (ab for _, ab, _ in self._predict_each(photos, size))

    def _iterate(
        self, images: Iterable[Photo | Picture], size: int, look: Look
    ) -> Iterator[np.ndarray]:
        """Yield pictures in colour; threads read, and paint, while the network is at work."""

        def paint_one(job: tuple[Photo, np.ndarray, np.ndarray]) -> np.ndarray:
            photo, ab, own = job
            return paint(photo, ab, look, lightness=self._choose_lightness(look, own))

        photos = map_ahead(_read, images, ahead=_BATCH)
        return map_ahead(paint_one, self._predict_each(photos, size), ahead=WORKERS)

    def _predict_each(
        self, photos: Iterable[Photo], size: int
    ) -> Iterator[tuple[Photo, np.ndarray, np.ndarray]]:
        """Yield photos with the ab and lightness that the network predicts for them."""
        for batch in _group(photos):
            # Two lengths are compiled at the most: a lone picture need not wait for seven blanks.
            length = parallel.round_up_to_devices(_BATCH if len(batch) > 1 else 1)
            predicted = self._predict_batch(batch, length, size)
            for photo, (ab, own) in zip(batch, predicted, strict=True):
                yield photo, ab, own

    def _choose_lightness(self, look: Look, own: np.ndarray) -> np.ndarray | None:
        """Return the network's own lightness if it is to be shown."""
        chosen = look.lightness == "network" and self._networks.codec.predicts_lightness
        return own if chosen else None

    def _predict_batch(
        self, photos: Sequence[Photo], length: int, size: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return ab and lightness of each; the batch is padded to `length`, so compiled once."""
        squares = np.zeros((length, size, size, 3), np.uint8)
        for square, photo in zip(squares, photos, strict=False):
            square[:] = squash(photo, size)
        batch = parallel.create_global_batch(squares, self._mesh)
        ab, lightness = map(np.asarray, self._predict(self._variables, batch))
        if not np.isfinite(ab).all():
            raise UserError("The model predicts no finite colours: its weights are damaged.")
        return list(zip(ab, lightness, strict=True))[: len(photos)]

    def _check_size(self, size: int | None) -> int:
        """Return the size to use.

        Raises:
          UserError: if the network can't see pictures of that size.
        """
        if size is None:
            return self._networks.image_size
        stride = self._networks.generator.stride
        if size < stride or size % stride:
            raise UserError(
                f"This model can't see pictures at {size}: give a multiple of {stride}."
            )
        return size


def _make_predict(networks: Networks) -> Any:
    codec, generator = networks.codec, networks.generator

    def predict_lab(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return ab (B, S, S, 2) and lightness (B, S, S), in CIE units, for uint8 pictures."""
        network_input, _ = codec.encode(color.to_rgb(images))
        few = math.prod(images.shape[:3]) <= _FEW_PIXELS
        prediction = predict(generator, variables, network_input, portable=few)
        lightness = color.rgb_to_lab(codec.decode(network_input, prediction))[..., 0]
        return codec.predicted_ab(network_input, prediction), lightness

    return predict_lab


def _create_look(
    saturation: float, upsample: str, lightness: str, reference: Palette | Picture | None
) -> Look:
    if reference is not None and not isinstance(reference, Palette):
        reference = read_palette(reference)
    return Look(saturation, upsample, lightness, reference)


def _read(image: Photo | Picture) -> Photo:
    return image if isinstance(image, Photo) else Photo(read_picture(image))


def _group(photos: Iterable[Photo]) -> Iterator[list[Photo]]:
    """Yield batches that are full, or large enough for the memory."""
    batch: list[Photo] = []
    pixels = 0
    for photo in photos:
        batch.append(photo)
        pixels += photo.pixels.shape[0] * photo.pixels.shape[1]
        if len(batch) == _BATCH or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
