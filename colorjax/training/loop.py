"""The training loop: epochs of steps, evaluation, pictures, checkpoints, resuming."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from ml_collections import ConfigDict

from colorjax import checkpoint, configuration, evaluation, models, parallel
from colorjax.compilation import compile_for_one_call, forget_compiled_programs
from colorjax.console import notice, say
from colorjax.errors import TrainingError, UserError
from colorjax.files import create_folder, lock_folder
from colorjax.memory import give_back_freed_memory
from colorjax.training import reporting
from colorjax.training.assembly import (
    Phase,
    begins_anew,
    check_optimizers,
    create_parts,
    create_phases,
    phase_at,
)
from colorjax.training.batches import RunPictures
from colorjax.training.interruption import Interruption
from colorjax.training.resuming import (
    HostState,
    check_past_phases,
    check_workdir,
    describe_initial_state,
    read_initial_state,
    read_pretrained_encoder,
)
from colorjax.training.state import TrainState, create_state, restart_optimizers
from colorjax.training.step import Batch, make_train_step


def train(config: ConfigDict, workdir: Path, *, owns_process: bool = False) -> int:
    """Train, or go on training, in a run's folder.

    Args:
      config: a whole recipe; configs/common.py explains its fields.
      workdir: the run's folder; created, or resumed from.
      owns_process: whether nothing else computes in this process, so that all that it compiled may
        be forgotten.

    Returns:
      0, or the exit status of a run that a signal asked to stop.

    Raises:
      UserError: if something in the config, the data or the folder has to be mended.
      TrainingError: if a loss or gradient is not finite and `config.on_nonfinite` is "stop", or
        as many batches in a row as `config.nonfinite_limit` have been skipped; if the folder can't
        be written any more; if another process of the run is gone.
    """
    workdir = workdir.absolute()
    configuration.check_ranges(config)
    check_workdir(config, workdir)
    if config.deterministic:
        parallel.make_deterministic()
    with (
        parallel.naming_lost_processes(),
        Run(config, workdir, owns_process) as run,
        Interruption() as interruption,
    ):
        return run.train(interruption)


class Run:
    """One start of a run: everything that is built once and then used step by step."""

    def __init__(self, config: ConfigDict, workdir: Path, owns_process: bool = False) -> None:
        self.config, self.workdir = config, workdir
        self.skips_nonfinite = config.on_nonfinite == "skip"
        self.leads = parallel.process_index() == 0
        self.mesh = parallel.create_mesh()
        parallel.connect(self.mesh)
        self.phases = create_phases(config)
        self.epochs = self.phases[-1].first_epoch + self.phases[-1].epochs
        self.pictures = RunPictures(config, self.mesh)
        self.steps_per_epoch = self.pictures.steps_per_epoch
        self.parts = {
            phase.name: create_parts(config, self.phases, self.steps_per_epoch, phase)
            for phase in self.phases
        }
        self.state: TrainState
        self._steps = {phase.name: self._make_step(phase) for phase in self.phases}
        self._compiled: dict[str, Any] = {}  # the steps, of phases that have begun
        self._evaluators = {phase.name: self._create_evaluator(phase) for phase in self.phases}
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._draw_state = compile_for_one_call(
            partial(create_state, self.parts[self.phases[0].name], config.image_size)
        )
        self._say_start()
        for phase in self.phases:
            check_optimizers(self.parts[phase.name], self._abstract_state, phase.name)
        resumes = checkpoint.has_steps(workdir)
        self._check_agreement(f"resumes: {resumes}")
        fresh = None if resumes else self._create_state()
        if owns_process:
            # The program that drew the weights. Now, as the steps' traces would be forgotten, too.
            forget_compiled_programs()
        self._check_steps()
        self.host = HostState(
            self.pictures.training_set, self.pictures.batch_size, self.pictures.hash_pixels()
        )
        with contextlib.ExitStack() as opened:
            with checkpoint.naming_failure(self.workdir):
                self._open_workdir(opened, fresh)
            self._closing = opened.pop_all()
        self.progress = reporting.Progress(
            self.epochs * self.steps_per_epoch * self.pictures.batch_size,
            self.host.step * self.pictures.batch_size,
            self.leads,
        )
        self._closing.callback(self.progress.close)

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the run; say what an error of the system means for it."""
        shared = error is None or type(error) is TrainingError  # by all processes alike
        with checkpoint.naming_failure(self.workdir):
            if shared or parallel.process_count() == 1:
                self.close()
            if isinstance(error, OSError):
                raise error

    def _open_workdir(self, opened: contextlib.ExitStack, fresh: TrainState | None) -> None:
        """Resume what is there, or begin; from here on the folder is this run's."""
        create_folder(self.workdir, "--workdir")
        if self.leads:
            opened.enter_context(lock_folder(self.workdir, "--workdir"))
        fields = self.config.checkpoint
        keep_period = fields.keep_every_epochs * self.steps_per_epoch
        self.store = checkpoint.CheckpointStore(self.workdir, fields.keep, keep_period)
        opened.callback(self.store.close)
        self._resume(fresh)
        self.store.forget_other_bests(self.host.best_step)
        if 0 < self.host.step == self.host.best_step:
            # The run may have been killed between saving this step and saving it as the best.
            self.store.save_best(self.host.step, self._networks())
        if self.leads:
            configuration.save_config(self.config, self.workdir)
        self.log = reporting.MetricsLog(self.workdir, self.host.step) if self.leads else None
        if self.log is not None:
            opened.callback(self.log.close)

    def train(self, interruption: Interruption) -> int:
        """Train to the end or until a signal; return the exit status."""
        started = time.monotonic()
        batches = self.pictures.training_batches(self.host.step)
        for epoch in range(self.host.step // self.steps_per_epoch, self.epochs):
            if self._has_converged():
                break
            phase = phase_at(self.phases, epoch)
            self._begin_phase(phase)
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
        self._closing.close()

    def _begin_phase(self, phase: Phase) -> None:
        """At a phase's first step, begin anew the optimisers that don't carry on into it."""
        if self.host.step == phase.first_epoch * self.steps_per_epoch:
            begins = partial(begins_anew, self.config, self.phases, phase)
            state = restart_optimizers(
                self.parts[phase.name],
                self.state,
                generator=begins("generator_optimizer"),
                critic=begins("critic_optimizer"),
            )
            self.state = parallel.replicate(state, self.mesh)

    def _has_converged(self) -> bool:
        """Return whether the validation loss has not fallen for `config.patience` epochs."""
        if not 0 < self.config.patience <= self.host.stale_epochs:
            return False
        self._say(
            f"stopped after {self.host.stale_epochs} epochs without a lower validation loss than "
            f"{self.host.best_loss:.4g} (config.patience={self.config.patience})"
        )
        return True

    def _train_epoch(
        self,
        epoch: int,
        phase: Phase,
        batches: Iterator[Any],
        interruption: Interruption,
    ) -> bool:
        """Train to the epoch's end; False if a signal came before it."""
        end = (epoch + 1) * self.steps_per_epoch
        save_every = self.config.checkpoint.every_steps
        while self.host.step < end:
            batch = parallel.create_global_batch(next(batches), self.mesh)
            self.state, metrics = self._take_step(phase, batch)
            self._take_pending(epoch)
            self.host.step += 1
            self._pending = (self.host.step, metrics)
            self.progress.advance(
                self.pictures.batch_size, f"epoch {epoch + 1}/{self.epochs} {phase.name}"
            )
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
        parts, prepare = self.parts[phase.name], self.pictures.prepare_training
        step = make_train_step(
            parts, phase.objective, self.config.seed, prepare, self.skips_nonfinite
        )
        return parallel.map_step(step, self.mesh)

    def _take_step(self, phase: Phase, batch: Batch) -> tuple[TrainState, Any]:
        """Begin a step; a phase's first one compiles it."""
        if phase.name not in self._compiled:
            lowered = self._steps[phase.name].lower(self.state, batch)
            reason = f"Compiling the step of {phase.name}, which may take minutes."
            with reporting.telling_of_wait(reason) if self.leads else contextlib.nullcontext():
                self._compiled[phase.name] = lowered.compile()
            # What the compiler needed, which may be as much as the step itself.
            give_back_freed_memory()
        return self._compiled[phase.name](self.state, batch)

    def _take_pending(self, epoch: int) -> None:
        """Fetch the last step's metrics: one step late, so that the device never waits."""
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        values = {f"train/{name}": float(value) for name, value in metrics.items()}
        if values.pop("train/nonfinite"):
            values = self._skip(values, step)
        else:
            self.host.add(values)
        if self.log is not None and step % self.config.log_every_steps == 0:
            self.log.write(step, epoch + 1, values | self._count_skipped())

    def _skip(self, values: dict[str, float], step: int) -> dict[str, float]:
        """Pass over a step that led to something not finite; return what is to be logged of it.

        Raises:
          TrainingError: if the config says to stop, or the limit is reached.
        """
        problem = _describe_nonfinite(values)
        if not self.skips_nonfinite:
            raise self._stop_nonfinite(problem, step)
        self.host.skip()
        if self.host.skipped_in_a_row >= self.config.nonfinite_limit:
            raise TrainingError(
                f"{problem} at step {step}, the last of {self.host.skipped_in_a_row} batches in a "
                f"row that were skipped (config.nonfinite_limit): the last checkpoint is in "
                f"{self.workdir}; lower the learning rate."
            )
        if self.leads:
            notice(f"warning: {problem} at step {step}: the batch is skipped")
        return {}

    def _count_skipped(self) -> dict[str, float]:
        """Return the metric that counts skipped batches, where there may be any."""
        return {"train/skipped_updates": self.host.skipped_updates} if self.skips_nonfinite else {}

    def _check_finite(self, values: dict[str, float], step: int) -> None:
        """Raise a TrainingError that names the first quantity that isn't finite."""
        if not all(map(math.isfinite, values.values())):
            raise self._stop_nonfinite(_describe_nonfinite(values), step)

    def _stop_nonfinite(self, problem: str, step: int) -> TrainingError:
        return TrainingError(
            f"{problem} at step {step}: training stopped, and nothing was saved since the last "
            f"checkpoint in {self.workdir}; lower the learning rate."
        )

    def _is_interrupted(self, interruption: Interruption) -> bool:
        """Return whether a signal came, to any of the processes: all of them stop together.

        Several processes have to wait for each other to agree, so they ask only now and then.
        """
        if parallel.process_count() > 1 and (
            self.host.step % self.config.log_every_steps and self.host.step % self.steps_per_epoch
        ):
            return False
        return interruption.share()

    def _finish_epoch(self, epoch: int, phase: Phase) -> None:
        """Evaluate, report, draw and save."""
        started = time.monotonic()
        means = self.host.take_means() | self._count_skipped()
        evaluator = self._evaluators[phase.name]
        variables = self.state.inference_variables
        critic = self.state.critic.variables if self.state.critic is not None else {}
        validation = evaluator.evaluate(variables, self.pictures.validation_batches(), critic)
        values = means | {f"validation/{name}": value for name, value in validation.items()}
        self._check_finite(values, self.host.step)
        is_best = self.host.judge_epoch(validation["psnr"], validation["l1"])
        samples = evaluator.colorize(variables, self.pictures.sample_block())
        if self.log is not None:
            values["pictures_per_second"] = self.progress.rate
            self.log.write(self.host.step, epoch + 1, values)
            path = self.workdir / "samples" / f"epoch_{epoch + 1:04d}.png"
            self.pictures.draw_samples(samples[: len(self.pictures.originals)], path)
            reporting.draw_plots(self.workdir)
            say(self._describe_epoch(epoch, phase, values))
        self._save(epoch, is_best)
        self.progress.pause(time.monotonic() - started)

    def _create_evaluator(self, phase: Phase) -> evaluation.Evaluator:
        judge = None
        parts = self.parts[phase.name]
        if phase.objective.critic_steps and parts.critic is not None:
            judge = evaluation.Judge(parts.critic, phase.objective.critic_metrics)
        prepare = self.pictures.prepare
        return evaluation.Evaluator(parts.codec, parts.generator, self.mesh, judge, prepare)

    def _save(self, epoch: int, is_best: bool = False) -> None:
        self._take_pending(epoch)
        networks = self._networks()
        self.store.save(self.host.step, self.state, networks, dataclasses.asdict(self.host))
        if is_best:
            self.store.save_best(self.host.step, networks)

    def _networks(self) -> dict[str, Any]:
        """Return what is evaluated and shipped; a critic only once it has been trained."""
        networks = {"generator": self.state.inference_variables}
        has_judged = any(
            phase.objective.critic_steps
            and self.host.step > phase.first_epoch * self.steps_per_epoch
            for phase in self.phases
        )
        if has_judged and self.state.critic is not None:
            networks["critic"] = self.state.critic.variables
        return networks

    def _create_state(self) -> TrainState:
        """Return the state before the first step: new, or with an earlier run's weights."""
        state = self._draw_state(jax.random.key(self.config.seed))
        if self.config.init_from:
            source = self.config.init_from
            self._say(f"starting from {describe_initial_state(source)}")
            state = parallel.replicate(state, self.mesh)
            return read_initial_state(source, state, self._abstract_state)
        if self.config.pretrained:
            generator = self.parts[self.phases[0].name].generator
            state = read_pretrained_encoder(self.config.pretrained, generator, state)
            self._say(f"starting from the encoder's weights in {self.config.pretrained}")
        return parallel.replicate(state, self.mesh)

    @cached_property
    def _abstract_state(self) -> TrainState:
        """The state's shapes, as restoring needs them; traced once, which takes a while."""
        shapes = self._draw_state.eval_shape(jax.random.key(0))
        return checkpoint.with_sharding(shapes, parallel.replicated(self.mesh))

    def _resume(self, fresh: TrainState | None) -> None:
        """Take the newest checkpoint's state; where there is none, the fresh one."""
        restored = self.store.restore_newest(self._abstract_state)
        if restored is None:
            self.state = self._create_state() if fresh is None else fresh
        else:
            self.state, progress = restored
            now, self.host = self.host, HostState.read(progress, self.workdir)
            self.host.check_same_data(now, self.workdir)
            last_epoch = max(self.host.step - 1, 0) // self.steps_per_epoch
            check_past_phases(self.workdir, self.phases, last_epoch)
            self._say(f"resumed from step {self.host.step} in {self.workdir}")
        self._check_agreement(f"{self.host.step} {self.host.training_set}")

    def _check_agreement(self, found: str) -> None:
        """Raise a UserError unless all processes found the same."""
        if not parallel.agree(found):
            raise UserError(
                "The processes of this run found different pictures or checkpoints: let all of "
                f"them see the same config.data.source and the same {self.workdir}."
            )

    def _check_steps(self) -> None:
        """Trace every phase's step, so that what can't work is said before anything is written."""
        for phase in self.phases:
            self._steps[phase.name].eval_shape(self._abstract_state, self.pictures.abstract_batch)

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
        state = self._abstract_state
        self._say(f"devices: {parallel.describe_devices()}")
        count = models.count_parameters(state.generator.params)
        self._say(f"generator {self.config.generator.name}: {count:,} parameters")
        if state.critic is not None:
            count = models.count_parameters(state.critic.params)
            self._say(f"critic {self.config.critic.name}: {count:,} parameters")
        self._say(self.pictures.describe())

    def _describe_epoch(self, epoch: int, phase: Phase, values: dict[str, float]) -> str:
        shown = {
            "l1": values.get("train/l1", math.nan),  # none where the whole epoch was skipped
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
        baselines = evaluation.evaluate_baselines(
            self.pictures.validation_batches, self.mesh, self.pictures.prepare
        )
        self._say(
            f"done: {self.host.step} steps, {reporting.format_time(seconds)} in this start, "
            f"{self.pictures.skipped} pictures skipped\n"
            f"best validation PSNR {self.host.best_psnr:.2f} dB at step {self.host.best_step} "
            f"(grey {baselines['gray_psnr']:.2f}, best constant colour "
            f"{baselines['constant_psnr']:.2f}; photos' colourfulness "
            f"{baselines['colorfulness_real']:.1f})\n"
            f"checkpoints, samples/, plots/ and metrics.jsonl are in {self.workdir}"
        )


def _describe_nonfinite(values: dict[str, float]) -> str:
    """Return a clause that names the first quantity that isn't finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    return "an optimiser's state or a statistic is not finite"
