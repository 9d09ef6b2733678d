"""What the host carries on, and whether a run's folder may be gone on with."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from colorjax import checkpoint, configuration
from colorjax.console import notice
from colorjax.errors import UserError
from colorjax.files import check_folder
from colorjax.training.assembly import Phase, create_phases, phase_at
from colorjax.training.state import TrainState, restart_schedules, start_average


@dataclasses.dataclass
class HostState:
    """What the host carries on from step to step; saved as JSON with every checkpoint.

    Attributes:
      training_set: a hash of the names of the training pictures.
      batch_size: pictures in a batch.
      pixels: a hash of the pixels trained and validated on.
      step: batches trained on so far.
      best_psnr: on validation, in dB, at `best_step`.
      best_step: where it was reached.
      best_loss: the lowest validation loss (L1) of an epoch.
      stale_epochs: how many epochs have ended since without a lower one.
      sums: of each metric over the epoch so far.
      counts: how many values each sum is of.
      skipped_updates: batches whose loss or gradient was not finite.
      skipped_in_a_row: how many of these were the last ones.
    """

    training_set: str
    batch_size: int
    pixels: str = ""
    step: int = 0
    best_psnr: float = -math.inf
    best_step: int = 0
    best_loss: float = math.inf
    stale_epochs: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    skipped_updates: int = 0
    skipped_in_a_row: int = 0

    @classmethod
    def read(cls, progress: dict[str, Any], workdir: Path) -> "HostState":
        """Return what a checkpoint's `progress` holds.

        Raises:
          UserError: if that isn't what this version saves.
        """
        try:
            return cls(**progress)
        except TypeError as error:
            raise UserError(
                f"The checkpoints in {workdir} are not of this version of colorjax: name another "
                "--workdir."
            ) from error

    def add(self, values: dict[str, float]) -> None:
        """Add one step's metrics to the epoch's."""
        self.skipped_in_a_row = 0
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def skip(self) -> None:
        """Count a step that changed nothing; its metrics don't belong to the epoch's."""
        self.skipped_updates += 1
        self.skipped_in_a_row += 1

    def take_means(self) -> dict[str, float]:
        """Return the epoch's means and begin the next epoch."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def judge_epoch(self, psnr: float, loss: float) -> bool:
        """Keep an epoch's validation figures; return whether its PSNR is the best so far."""
        self.stale_epochs = 0 if loss < self.best_loss else self.stale_epochs + 1
        self.best_loss = min(loss, self.best_loss)
        is_best = psnr > self.best_psnr
        if is_best:
            self.best_psnr, self.best_step = psnr, self.step
        return is_best

    def check_same_data(self, now: "HostState", workdir: Path) -> None:
        """Check that a run goes on with the pictures and batches that it began with.

        Pixels may differ, as another version of a decoder makes them, and are warned of.

        Raises:
          UserError: if the names of the pictures or the size of the batches do.
        """
        if self.training_set != now.training_set:
            raise UserError(
                f"{workdir} was trained on other pictures than config.data.source holds now: "
                "restore them, or name another --workdir."
            )
        if self.batch_size != now.batch_size:
            raise UserError(
                f"{workdir} was trained in batches of {self.batch_size}, which shrink to "
                f"{now.batch_size} on this number of devices: resume on as many as before "
                "(JAX_NUM_CPU_DEVICES says how many a CPU's cores are)."
            )
        before, self.pixels = self.pixels, now.pixels
        if before not in ("", now.pixels):  # earlier versions kept none
            notice(
                "warning: pictures have changed since the last checkpoint: the run goes on with "
                "them as they are now, and won't end as it would have"
            )


def hash_names(names: Sequence[str]) -> str:
    """Return a hash of pictures' names in their order."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Check that a run may be started or gone on with in a folder; nothing is written.

    Raises:
      UserError: if the folder belongs to another run or program, or can't be written.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir} is a file: name a folder with --workdir.")
    if (workdir / configuration.CONFIG_FILE).is_file():
        before = configuration.read_config(workdir)
        if "phase_order" not in before:
            raise UserError(f"{workdir} belongs to another program: name another --workdir.")
        if checkpoint.has_steps(workdir):
            configuration.check_resumable(before, config, workdir)
    elif (workdir / "steps").exists():
        raise UserError(f"{workdir} has steps but no config.json: name another --workdir.")
    check_folder(workdir, "--workdir")


def check_past_phases(workdir: Path, phases: tuple[Phase, ...], epoch: int) -> None:
    """Check that the config divides the epochs that are over as `config.json` there does.

    Args:
      workdir: the run's folder.
      phases: as the config has them now.
      epoch: the last that was trained in, from 0.

    Raises:
      UserError: if an epoch that is over now belongs to another phase, or the file is damaged.
    """
    try:
        before = phase_at(create_phases(configuration.read_config(workdir)), epoch)
    except (AttributeError, TypeError) as error:
        raise configuration.damaged_config(workdir) from error
    now = phase_at(phases, epoch)
    if (before.name, before.first_epoch) != (now.name, now.first_epoch):
        raise UserError(
            f"{workdir} was in phase {before.name} at epoch {epoch + 1}, which is now in "
            f"{now.name}: only epochs of the running and later phases may change."
        )


def read_initial_state(source: str, fresh: TrainState, abstract: TrainState) -> TrainState:
    """Return the state of step 0 that starts where an earlier run ended, or from a model's weights.

    Args:
      source: a run's folder, or `DIR@STEP`: its weights and optimisers; or the folder of a model,
        which holds a generator alone: its weights, with the fresh critic and optimisers.
      fresh: the state before the first step.
      abstract: the expected state, as shapes with shardings.

    Raises:
      UserError: if there is no such run or model, or it is damaged or doesn't fit.
    """
    folder = _find_initial(source)
    if checkpoint.has_item(folder, "state"):
        return restart_schedules(checkpoint.restore_state(folder, abstract))
    variables = checkpoint.restore_item(folder, "generator", abstract.generator.variables)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    generator = fresh.generator.replace(params=params, batch_stats=batch_stats)
    return start_average(fresh.replace(generator=generator))


def describe_initial_state(source: str) -> str:
    """Return in words what `read_initial_state` takes from there.

    Raises:
      UserError: if there is no such run or model.
    """
    is_run = checkpoint.has_item(_find_initial(source), "state")
    return f"the weights{' and optimisers' if is_run else ''} of {source}"


def _find_initial(source: str) -> Path:
    folder, step = checkpoint.parse_model_name(source)
    configuration.read_config(folder)
    return checkpoint.find_step(folder, step, best=False)


def read_pretrained_encoder(source: str, generator: nn.Module, state: TrainState) -> TrainState:
    """Return the state with the generator's encoder as a file of weights has it.

    Args:
      source: see `models.pretrained.load_encoder`.
      generator: the module.
      state: before the first step.

    Raises:
      UserError: if the weights can't be read or don't fit.
    """
    from colorjax.models.pretrained import load_encoder

    before = state.generator
    params, batch_stats = load_encoder(
        source,
        before.params,
        before.batch_stats,
        running_norms=getattr(generator, "running_norms", False),
    )
    loaded = before.replace(params=params, batch_stats=batch_stats)
    return start_average(state.replace(generator=loaded))
