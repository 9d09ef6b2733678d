"""The training loop: epochs of steps, evaluation, pictures, checkpoints, resuming."""

import dataclasses
import hashlib
import math
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from colorjax import checkpoint, configuration, data, evaluation, models, parallel, sheets
from colorjax.console import notice, say
from colorjax.errors import TrainingError, UserError
from colorjax.training import reporting
from colorjax.training.assembly import Phase, create_parts, create_phases, phase_at
from colorjax.training.interruption import Interruption
from colorjax.training.state import TrainState, create_state, restart_schedules
from colorjax.training.step import make_train_step


@dataclasses.dataclass
class HostState:
    """What the host carries on from step to step; saved as JSON with every checkpoint."""

    training_set: str = ""  # a hash of the names of the training pictures
    batch_size: int = 0
    step: int = 0
    best_psnr: float = -math.inf
    best_step: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)  # over the epoch so far
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        """Add one step's metrics to the epoch's."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take_means(self) -> dict[str, float]:
        """Return the epoch's means and begin the next epoch."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


def train(config: ConfigDict, workdir: Path) -> int:
    """Train, or go on training, in a run's folder.

    Args:
      config: a whole recipe; configs/common.py explains its fields.
      workdir: the run's folder; created, or resumed from.

    Returns:
      0, or the exit status of a run that a signal asked to stop.

    Raises:
      UserError: if something in the config, the data or the folder has to be mended.
      TrainingError: if a loss is not finite.
    """
    workdir = workdir.absolute()
    configuration.check_ranges(config)
    _check_workdir(config, workdir)
    run = Run(config, workdir)
    try:
        with Interruption() as interruption:
            return run.train(interruption)
    finally:
        run.close()


class Run:
    """One start of a run: everything that is built once and then used step by step."""

    def __init__(self, config: ConfigDict, workdir: Path) -> None:
        self.config, self.workdir = config, workdir
        self.mesh = parallel.create_mesh()
        self.phases = create_phases(config)
        self.pictures = data.load_pictures(config.data, config.image_size)
        self.train_indices = data.split_indices(self.pictures, "train")
        self.validation_indices = data.split_indices(self.pictures, "validation")
        self.batch_size = self._fit_batch_size()
        self.steps_per_epoch = data.steps_per_epoch(len(self.train_indices), self.batch_size)
        self.epochs = self.phases[-1].first_epoch + self.phases[-1].epochs
        self.parts = create_parts(config, self.phases, self.steps_per_epoch)
        self.leads = parallel.process_index() == 0
        self._say_start()
        self._steps = {phase.name: self._make_step(phase) for phase in self.phases}
        self._check_steps()
        self.state = self._create_state()
        self.host = HostState(_hash_names(self._training_names()), self.batch_size)
        self._evaluators: dict[str, evaluation.Evaluator] = {}
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        _create_workdir(workdir)
        keep_period = config.checkpoint.keep_every_epochs * self.steps_per_epoch
        self.store = checkpoint.CheckpointStore(workdir, config.checkpoint.keep, keep_period)
        self._resume()
        self.store.forget_other_bests(self.host.best_step)
        if self.leads:
            configuration.save_config(config, workdir)
        self.log = reporting.MetricsLog(workdir, self.host.step) if self.leads else None
        self.baselines = evaluation.evaluate_baselines(self._validation_batches, self.mesh)
        self.progress = reporting.Progress(
            self.epochs * self.steps_per_epoch * self.batch_size,
            self.host.step * self.batch_size,
            self.leads,
        )

    def train(self, interruption: Interruption) -> int:
        """Train to the end or until a signal; return the exit status."""
        started = time.monotonic()
        batches = self._training_batches()
        for epoch in range(self.host.step // self.steps_per_epoch, self.epochs):
            phase = phase_at(self.phases, epoch)
            if not self._train_epoch(epoch, phase, batches, interruption):
                return self._stop_early(interruption)
            self._finish_epoch(epoch, phase)
            if self._is_interrupted(interruption) and epoch + 1 < self.epochs:
                return self._stop_early(interruption)
        self.progress.close()
        self._say_summary(time.monotonic() - started)
        return 0

    def close(self) -> None:
        """Wait for the last checkpoint and close the files."""
        self.progress.close()
        self.store.close()
        if self.log is not None:
            self.log.close()

    def _train_epoch(
        self,
        epoch: int,
        phase: Phase,
        batches: Iterator[np.ndarray],
        interruption: Interruption,
    ) -> bool:
        """Train to the epoch's end; False if a signal came before it."""
        end = (epoch + 1) * self.steps_per_epoch
        save_every = self.config.checkpoint.every_steps
        while self.host.step < end:
            images = parallel.create_global_batch(next(batches), self.mesh)
            self.state, metrics = self._steps[phase.name](self.state, images)
            self._take_pending(epoch)
            self.host.step += 1
            self._pending = (self.host.step, metrics)
            self.progress.advance(self.batch_size, f"epoch {epoch + 1}/{self.epochs} {phase.name}")
            if self.host.step == end:
                break  # the epoch's end is evaluated and saved in any case
            interrupted = self._is_interrupted(interruption)
            if interrupted or (save_every and self.host.step % save_every == 0):
                self._save(epoch)
            if interrupted:
                return False
        self._take_pending(epoch)
        return True

    def _make_step(self, phase: Phase) -> Any:
        flip_probability = self.config.data.horizontal_flip
        step = make_train_step(self.parts, phase.objective, self.config.seed, flip_probability)
        return parallel.map_step(step, self.mesh)

    def _take_pending(self, epoch: int) -> None:
        """Fetch the last step's metrics: one step late, so that the device never waits."""
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        values = {f"train/{name}": float(value) for name, value in metrics.items()}
        self._check_finite(values, step)
        self.host.add(values)
        if self.log is not None and step % self.config.log_every_steps == 0:
            self.log.write(step, epoch + 1, values)

    def _check_finite(self, values: dict[str, float], step: int) -> None:
        """Raise a TrainingError that names the first quantity that isn't finite."""
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"{name} is {value} at step {step}: training stopped, and nothing was saved "
                    f"since the last checkpoint in {self.workdir}; lower the learning rate."
                )

    def _is_interrupted(self, interruption: Interruption) -> bool:
        """Return whether a signal came, to any of the processes: all of them stop together.

        Several processes have to wait for each other to agree, so they ask only now and then.
        """
        if parallel.process_count() == 1:
            return interruption.signal_number != 0
        if self.host.step % self.config.log_every_steps and self.host.step % self.steps_per_epoch:
            return False
        return parallel.any_process(interruption.signal_number != 0)

    def _finish_epoch(self, epoch: int, phase: Phase) -> None:
        """Evaluate, report, draw and save."""
        started = time.monotonic()
        means = self.host.take_means()
        evaluator = self._evaluator(phase)
        variables = self.state.inference_variables
        critic = self.state.critic.variables if self.state.critic is not None else {}
        validation = evaluator.evaluate(variables, self._validation_batches(), critic)
        values = means | {f"validation/{name}": value for name, value in validation.items()}
        self._check_finite(values, self.host.step)
        is_best = validation["psnr"] > self.host.best_psnr
        if is_best:
            self.host.best_psnr, self.host.best_step = validation["psnr"], self.host.step
        samples = evaluator.colorize(variables, self._sample_images())
        if self.log is not None:
            values["pictures_per_second"] = self.progress.rate
            self.log.write(self.host.step, epoch + 1, values)
            self._draw(epoch, samples)
            say(self._describe_epoch(epoch, phase, values))
        self._save(epoch, is_best)
        self.progress.pause(time.monotonic() - started)

    def _evaluator(self, phase: Phase) -> evaluation.Evaluator:
        if phase.name not in self._evaluators:
            judge = None
            if phase.objective.critic_steps and self.parts.critic is not None:
                judge = evaluation.Judge(self.parts.critic, phase.objective.critic_metrics)
            self._evaluators[phase.name] = evaluation.Evaluator(
                self.parts.codec, self.parts.generator, self.mesh, judge
            )
        return self._evaluators[phase.name]

    def _save(self, epoch: int, is_best: bool = False) -> None:
        self._take_pending(epoch)
        networks = {"generator": self.state.inference_variables}
        if self.state.critic is not None:
            networks["critic"] = self.state.critic.variables
        self.store.save(self.host.step, self.state, networks, dataclasses.asdict(self.host))
        if is_best:
            self.store.save_best(self.host.step, networks)

    def _create_state(self) -> TrainState:
        """Return the state before the first step: new, or with an earlier run's weights."""
        key = jax.random.key(self.config.seed)
        state = create_state(self.parts, self.config.image_size, key)
        state = parallel.replicate(state, self.mesh)
        source = self.config.init_from
        if source and not checkpoint.has_steps(self.workdir):
            state = _read_initial_state(source, self._abstract(state))
            self._say(f"starting from the weights and optimisers of {source}")
        return state

    def _abstract(self, state: TrainState) -> TrainState:
        return checkpoint.with_sharding(state, parallel.replicated(self.mesh))

    def _resume(self) -> None:
        restored = self.store.restore_newest(self._abstract(self.state))
        if restored is not None:
            self.state, progress = restored
            fresh, self.host = self.host, HostState(**progress)
            _check_same_data(self.host, fresh, self.workdir)
            self._check_past_phases()
            self._say(f"resumed from step {self.host.step} in {self.workdir}")

    def _check_past_phases(self) -> None:
        """Raise a UserError if the config now divides the epochs that are over otherwise."""
        last = max(self.host.step - 1, 0) // self.steps_per_epoch
        phases = [create_phases(configuration.read_config(self.workdir)), self.phases]
        before, now = (phase_at(each, last) for each in phases)
        if (before.name, before.first_epoch) != (now.name, now.first_epoch):
            raise UserError(
                f"{self.workdir} was in phase {before.name} at epoch {last + 1}, which is now in "
                f"{now.name}: only epochs of the running and later phases may change."
            )

    def _check_steps(self) -> None:
        """Trace every phase's step, so that what can't work is said before anything is written."""
        size = self.config.image_size
        create = partial(create_state, self.parts, size)
        state = jax.eval_shape(create, jax.random.key(0))
        images = jax.ShapeDtypeStruct((self.batch_size, size, size, 3), np.uint8)
        for step in self._steps.values():
            step.eval_shape(state, images)

    def _training_names(self) -> list[str]:
        return [self.pictures.names[index] for index in self.train_indices]

    def _training_batches(self) -> Iterator[np.ndarray]:
        return data.make_training_batches(
            self.pictures.images,
            self.train_indices,
            batch_size=self.batch_size,
            seed=self.config.data.shuffle_seed,
            start_step=self.host.step,
            process_index=parallel.process_index(),
            process_count=parallel.process_count(),
            threads=self.config.data.threads,
            prefetch=self.config.data.prefetch,
        )

    def _validation_batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return data.make_evaluation_batches(
            self.pictures.images,
            self.validation_indices,
            batch_size=self.batch_size,
            process_index=parallel.process_index(),
            process_count=parallel.process_count(),
        )

    def _sample_indices(self) -> np.ndarray:
        """Return evenly spaced validation pictures, the same every epoch."""
        count = min(self.config.sample_images, len(self.validation_indices))
        places = np.linspace(0, len(self.validation_indices) - 1, count).round().astype(int)
        return self.validation_indices[places]

    def _sample_images(self) -> np.ndarray:
        """Return this process's block of the samples, padded to a whole batch."""
        indices = self._sample_indices()
        batches = data.make_evaluation_batches(
            self.pictures.images,
            indices,
            batch_size=parallel.round_up_to_devices(len(indices), self.mesh),
            process_index=parallel.process_index(),
            process_count=parallel.process_count(),
        )
        return next(iter(batches))[0]

    def _draw(self, epoch: int, samples: np.ndarray) -> None:
        originals = self.pictures.images[self._sample_indices()]
        rows = [evaluation.gray_images(originals), samples[: len(originals)], originals]
        path = self.workdir / "samples" / f"epoch_{epoch + 1:04d}.png"
        reporting.save_whole(path, sheets.make_grid(rows).save)
        reporting.draw_plots(self.workdir)

    def _fit_batch_size(self) -> int:
        wanted, count = self.config.batch_size, len(self.train_indices)
        size = parallel.fit_batch_size(wanted, count, self.mesh)
        if size < wanted:
            notice(f"warning: {count} training pictures are fewer than a batch: batches of {size}")
        return size

    def _stop_early(self, interruption: Interruption) -> int:
        self.store.wait()
        self._say(
            f"stopped at step {self.host.step}, which is saved: the same command again resumes."
        )
        return interruption.exit_status

    def _say(self, line: str) -> None:
        if self.leads:
            say(line)

    def _say_start(self) -> None:
        state = jax.eval_shape(
            partial(create_state, self.parts, self.config.image_size), jax.random.key(0)
        )
        self._say(f"devices: {parallel.describe_devices()}")
        count = models.count_parameters(state.generator.params)
        self._say(f"generator {self.config.generator.name}: {count:,} parameters")
        if state.critic is not None:
            count = models.count_parameters(state.critic.params)
            self._say(f"critic {self.config.critic.name}: {count:,} parameters")
        splits = ", ".join(
            f"{len(indices)} {name}" for name, indices in self.pictures.splits.items()
        )
        skipped = f"; {len(self.pictures.skipped)} skipped" if self.pictures.skipped else ""
        self._say(f"pictures of {self.config.data.source}: {splits}{skipped}")

    def _describe_epoch(self, epoch: int, phase: Phase, values: dict[str, float]) -> str:
        shown = {
            "l1": values["train/l1"],
            "validation l1": values["validation/l1"],
            "psnr": values["validation/psnr"],
            "ssim": values["validation/ssim"],
            "colourfulness": values["validation/colorfulness"],
        }
        if "train/wasserstein" in values:
            shown["wasserstein"] = values["train/wasserstein"]
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        return (
            f"epoch {epoch + 1}/{self.epochs} {phase.name}: {numbers} ({self.progress.describe()})"
        )

    def _say_summary(self, seconds: float) -> None:
        self._say(
            f"done: {self.host.step} steps, {reporting.format_time(seconds)} in this start, "
            f"{len(self.pictures.skipped)} pictures skipped\n"
            f"best validation PSNR {self.host.best_psnr:.2f} dB at step {self.host.best_step} "
            f"(grey {self.baselines['gray_psnr']:.2f}, best constant colour "
            f"{self.baselines['constant_psnr']:.2f}; photos' colourfulness "
            f"{self.baselines['colorfulness_real']:.1f})\n"
            f"checkpoints, samples/, plots/ and metrics.jsonl are in {self.workdir}"
        )


def _check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Raise a UserError if the folder belongs to another run, or to something else."""
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
    nearest = next(folder for folder in (workdir, *workdir.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"{workdir} can't be written: name another folder with --workdir.")


def _create_workdir(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{workdir} can't be written ({error.strerror}): name another folder with --workdir."
        ) from error


def _hash_names(names: list[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def _check_same_data(before: HostState, now: HostState, workdir: Path) -> None:
    """Raise a UserError if a run would go on with other pictures or batches than it began with."""
    if before.training_set != now.training_set:
        raise UserError(
            f"{workdir} was trained on other pictures than config.data.source holds now: restore "
            "them, or name another --workdir."
        )
    if before.batch_size != now.batch_size:
        raise UserError(
            f"{workdir} was trained in batches of {before.batch_size}, which shrink to "
            f"{now.batch_size} on this number of devices: resume on as many as before."
        )


def _read_initial_state(source: str, abstract: TrainState) -> TrainState:
    """Return an earlier run's weights and optimisers as the state of step 0."""
    folder, step = checkpoint.parse_model_name(source)
    configuration.read_config(folder)
    state = checkpoint.restore_state(checkpoint.find_step(folder, step, best=False), abstract)
    return restart_schedules(state)
