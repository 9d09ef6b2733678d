"""The pictures of a run, as the batches that this process gives."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from colorjax import color, data, evaluation, parallel, sheets
from colorjax.console import notice
from colorjax.errors import UserError
from colorjax.files import write_whole
from colorjax.training.resuming import hash_names


class RunPictures:
    """Decoded pictures, divided into batches for one run.

    Attributes:
      pictures: all of `data.source`.
      batch_size: pictures in a global batch, shrunk where there are fewer.
      steps_per_epoch: batches in an epoch: as the config says, or the whole ones there are. An
        epoch may end within a pass over the pictures, or hold several.
      prepare: makes loaded pictures what the networks are shown, on the device.
      prepare_training: the same with what is random about training.
      originals: the samples as prepared, uint8 (N, S, S, 3): evenly spaced validation pictures.

    Raises:
      UserError: if there are no pictures, or they can't be shared by the devices.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh) -> None:
        self._data, self._mesh = config.data, mesh
        self.pictures = data.load_pictures(config.data, config.image_size)
        self._train = data.split_indices(self.pictures, "train")
        self._labels = _number_labels(self.pictures, self._train, config)
        self._validation_pictures, split = self.pictures, "validation"
        if config.data.validation_source:
            pictures = data.load_validation_pictures(config.data, config.image_size)
            self._validation_pictures, split = pictures, "all"
        self._validation = data.split_indices(self._validation_pictures, split)
        self.batch_size = parallel.fit_batch_size(config.batch_size, len(self._train), mesh)
        if self.batch_size < config.batch_size:
            notice(
                f"warning: {len(self._train)} training pictures are fewer than a batch: batches "
                f"of {self.batch_size}"
            )
        whole = data.steps_per_epoch(len(self._train), self.batch_size)
        self.steps_per_epoch = config.steps_per_epoch or whole
        self.prepare = data.make_prepare(config.data, config.image_size)
        self.prepare_training = data.make_training_prepare(config.data, config.image_size)
        self._samples = _spread(self._validation, config.sample_images)
        samples = self.prepare(self._validation_pictures.images[self._samples])
        self.originals = np.asarray(color.to_image(samples))

    @property
    def abstract_batch(self) -> Any:
        """The shape of a global batch as loaded: uint8 (B, H, W, 3), perhaps with labels (B,).

        With its sharding, without which JAX would trace the step once more for the batch itself.
        """
        describe = partial(jax.ShapeDtypeStruct, sharding=parallel.batch_sharded(self._mesh))
        images = describe((self.batch_size, *self.pictures.images.shape[1:]), np.uint8)
        if self._labels is None:
            return images
        return images, describe((self.batch_size,), self._labels.dtype)

    @property
    def training_set(self) -> str:
        """A hash of the names of the training pictures."""
        return hash_names([self.pictures.names[index] for index in self._train])

    def hash_pixels(self) -> str:
        """Return a hash of what is trained and validated on; it reads a gigabyte in a second."""
        digest = hashlib.sha256()
        for pictures, indices in (
            (self.pictures, self._train),
            (self._validation_pictures, self._validation),
        ):
            for index in indices:
                digest.update(pictures.images[index])
        return digest.hexdigest()

    def training_batches(self, start_step: int) -> Iterator[Any]:
        """Return this process's blocks of the shuffled batches, from a step on, without end.

        A batch is pictures, or pictures and labels; see `data.make_training_batches`.
        """
        return data.make_training_batches(
            self.pictures.images,
            self._train,
            batch_size=self.batch_size,
            seed=self._data.shuffle_seed,
            labels=self._labels,
            start_step=start_step,
            process_index=parallel.process_index(),
            process_count=parallel.process_count(),
            threads=self._data.threads,
            prefetch=self._data.prefetch,
        )

    def validation_batches(self) -> evaluation.Batches:
        """Return this process's blocks of the validation pictures and their masks."""
        return self._evaluation_batches(self._validation, self.batch_size)

    def sample_block(self) -> np.ndarray:
        """Return this process's block of the samples, padded to a batch for all devices."""
        size = parallel.round_up_to_devices(len(self._samples), self._mesh)
        return next(iter(self._evaluation_batches(self._samples, size)))[0]

    def draw_samples(self, colored: np.ndarray, path: Path) -> None:
        """Write a sheet of the samples: grey, colourised, original."""
        rows = [evaluation.gray_images(self.originals), colored, self.originals]
        write_whole(path, sheets.make_grid(rows).save)

    @property
    def skipped(self) -> int:
        """How many pictures could not be read, of both sources."""
        count = len(self.pictures.skipped)
        if self._validation_pictures is not self.pictures:
            count += len(self._validation_pictures.skipped)
        return count

    def describe(self) -> str:
        """Return how many pictures there are of each split."""
        counts = [f"{len(indices)} {name}" for name, indices in self.pictures.splits.items()]
        line = f"pictures of {self._data.source}: {', '.join(counts)}"
        if self._data.validation_source:
            line += f"; validation on all {len(self._validation)} of {self._data.validation_source}"
        return f"{line}; {self.skipped} skipped" if self.skipped else line

    def _evaluation_batches(self, indices: np.ndarray, batch_size: int) -> evaluation.Batches:
        return data.make_evaluation_batches(
            self._validation_pictures.images,
            indices,
            batch_size=batch_size,
            process_index=parallel.process_index(),
            process_count=parallel.process_count(),
        )


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the indices, evenly spaced: the same every time."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices)))
    return indices[places.round().astype(int)]


def _number_labels(
    pictures: data.Pictures, indices: np.ndarray, config: ConfigDict
) -> np.ndarray | None:
    """Return the numbers of the training pictures' labels if a phase learns from them.

    Raises:
      UserError: if they have none, or the generator can't learn them.
    """
    phases = [config.phases[name] for name in config.phase_order]
    if not any(phase.epochs and phase.get("class_weight", 0.0) for phase in phases):
        return None
    if not config.generator.get("classes", 0):
        raise UserError(
            f"The generator {config.generator.name} scores no classes: set "
            "config.phases.*.class_weight to 0, or take a recipe with config.generator.classes, as "
            "configs/colorjax.py:flowers has."
        )
    return data.number_labels(pictures, indices, config.generator.classes)
