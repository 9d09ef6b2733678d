"""Where pictures come from: sources, their cache of decoded pixels, splits and batches."""

from colorjax.data.cache import Skipped
from colorjax.data.pictures import (
    Pictures,
    load_pictures,
    load_validation_pictures,
    number_labels,
    split_indices,
)
from colorjax.data.pipeline import (
    make_evaluation_batches,
    make_training_batches,
    steps_per_epoch,
)
from colorjax.data.prepare import Prepare, TrainingPrepare, make_prepare, make_training_prepare

__all__ = [
    "Pictures",
    "Prepare",
    "Skipped",
    "TrainingPrepare",
    "load_pictures",
    "load_validation_pictures",
    "make_evaluation_batches",
    "make_prepare",
    "make_training_batches",
    "make_training_prepare",
    "number_labels",
    "split_indices",
    "steps_per_epoch",
]
