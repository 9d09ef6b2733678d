"""The engine `ray`: an archive of pictures, coloured by a pool of processes of Ray Data's.

Only names travel: each worker reads its pictures and puts its results itself. A worker that dies is
started again, and what it was at is done again by whoever is free; since results are whole or not
there, and named before the work begins, nothing is lost and nothing is there twice.
"""

import contextlib
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from colorjax import parallel
from colorjax.colorize.batch import Engine, Job, Options, Outcome, colorize_jobs
from colorjax.colorize.colorizer import Colorizer
from colorjax.colorize.links import Link, is_link
from colorjax.colorize.model import find_model, read_variables
from colorjax.colorize.reference import read_palette
from colorjax.colorize.storage import StoredFile, is_stored
from colorjax.compilation import keep_compiled_programs
from colorjax.data.decode import explain
from colorjax.errors import TrainingError, UserError
from colorjax.memory import keep_freed_memory
from colorjax.models import create_networks, generator_shapes

# Pictures that are handed out together, and done again together after a crash, but for those whose
# results are there: four of the network's batches.
_BLOCK = 32
_BLOCKS_PER_WORKER = 4  # at the least, so that workers end at about the same time
_CORES = 2  # of a worker, where nobody says how many workers there are to be
_RETRIES = 2  # of a block whose worker dies, and then of each picture in it


@dataclass(frozen=True)
class Pool:
    """How the work is shared.

    Attributes:
      workers: processes; 0 for one on each GPU of the cluster, or on every 2 of its cores.
      address: HOST:PORT of the cluster, or `auto`; "" to start one on this machine for the time
        that it takes.
      verbose: whether Ray tells what it does.
    """

    workers: int = 0
    address: str = ""
    verbose: bool = False


def create_engine(pool: Pool) -> Engine:
    """Return the engine that colours pictures by this pool; see `batch.Engine`.

    Raises:
      UserError: if Ray is missing.
    """
    _prepare_environment(pool)
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install 'colorjax[ray]'.") from None
    return partial(_colorize, pool)


class Worker:
    """A Colorizer in a process of its own.

    Args:
      config: of the model.
      variables: of its generator, as a reference into Ray's object store.
      options: what is asked of the results.
      cores: of the machine, that are for this worker.
    """

    def __init__(self, config: ConfigDict, variables: Any, options: Options, cores: int) -> None:
        import ray

        # XLA reads it when it starts: else each worker would start a thread for every core.
        os.environ.setdefault("NPROC", str(cores))
        keep_freed_memory()
        keep_compiled_programs()
        placed = parallel.replicate(ray.get(variables), parallel.create_mesh())
        self._colorizer = Colorizer(create_networks(config), placed)
        self._options = options
        self._is_restarted = ray.get_runtime_context().was_current_actor_reconstructed

    def __call__(self, rows: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Do the jobs that rows describe, and return what became of each."""
        columns = (rows["number"], rows["source"], rows["size"], rows["target"])
        jobs = {_parse_job(*row[1:]): int(row[0]) for row in zip(*columns, strict=True)}
        todo = list(jobs)
        if self._is_restarted and not self._options.overwrite:
            todo = [job for job in jobs if not job.target.exists()]
        outcomes = [Outcome(job) for job in jobs if job not in todo]
        outcomes += colorize_jobs(todo, self._colorizer, self._options)
        return {
            "number": [jobs[outcome.job] for outcome in outcomes],
            "problem": [outcome.problem for outcome in outcomes],
            "remarks": ["\n".join(outcome.remarks) for outcome in outcomes],
        }


def _colorize(
    pool: Pool, jobs: Sequence[Job], model: str | None, options: Options
) -> Iterator[Outcome]:
    """Return an iterator over what becomes of each job; see `Engine`."""
    if options.hints:
        raise UserError("Hints are places in one picture: colour it with --engine local.")
    _check_address(pool.address)
    return _iterate(pool, jobs, model, options)


def _iterate(
    pool: Pool, jobs: Sequence[Job], model: str | None, options: Options
) -> Iterator[Outcome]:
    import ray

    waiting = dict(enumerate(jobs))
    with _connected(
        pool
    ):  # first, as JAX's threads and the starting of processes don't go together
        arguments = _prepare_arguments(model, options)
        resources = _share_resources(pool.workers, ray.cluster_resources())
        # What is left of a block whose worker died again and again is tried picture by picture.
        for block in (_choose_block(len(jobs), resources["workers"]), 1):
            for row in _stream(waiting, block, arguments, **resources):
                job = waiting.pop(row["number"], None)
                if job is not None:
                    yield Outcome(job, row["problem"], tuple(row["remarks"].splitlines()))
            if not waiting:
                return
    for job in waiting.values():
        yield Outcome(job, "every worker that took it died, perhaps for want of memory")


def _prepare_arguments(model: str | None, options: Options) -> dict[str, Any]:
    """Return what workers are made with: model and palette, which other machines may not have.

    Raises:
      UserError: if there is no such model, or it is damaged or doesn't fit its config, or the
        reference can't be read.
    """
    import ray

    # This process only reads; an accelerator's memory is for a worker.
    jax.config.update("jax_platforms", "cpu")
    files = find_model(model)
    shapes = generator_shapes(create_networks(files.config))
    variables = read_variables(files, "generator", shapes, parallel.create_mesh())
    if isinstance(options.reference, Path):
        options = replace(options, reference=read_palette(options.reference))
    stored = ray.put(parallel.to_host(variables))
    return {"config": files.config, "variables": stored, "options": options}


def _stream(
    jobs: Mapping[int, Job],
    block: int,
    arguments: dict[str, Any],
    workers: int,
    cpus: float,
    gpus: float,
) -> Iterator[dict[str, Any]]:
    """Yield what workers return, row by row; jobs whose workers died too often have none.

    Raises:
      TrainingError: if no worker can be started.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    blocks = math.ceil(len(jobs) / block)
    rows = [_describe_job(number, job) for number, job in jobs.items()]
    results = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        Worker,
        batch_size=None,  # a block as it is
        # One block at a time for each: a worker that is ready early doesn't hoard them.
        compute=ray.data.ActorPoolStrategy(
            size=min(workers, blocks), max_tasks_in_flight_per_actor=1
        ),
        fn_constructor_kwargs=arguments | {"cores": max(1, int(cpus))},
        num_cpus=cpus,
        num_gpus=gpus,
        max_task_retries=_RETRIES,
    )
    try:
        yield from results.iter_rows()
    except (ray.exceptions.RayError, RuntimeError) as error:
        problem = str(error).strip().splitlines()[-1]
        raise TrainingError(
            f"The workers can't go on ({problem}): --verbose shows more."
        ) from error


def _describe_job(number: int, job: Job) -> dict[str, Any]:
    """Return a row from which `_parse_job` makes the job, also in another working folder."""
    source, target = (
        os.path.abspath(place) if isinstance(place, Path) else str(place)
        for place in (job.source, job.target)
    )
    size = job.source.size if isinstance(job.source, StoredFile) else 0
    return {"number": number, "source": source, "size": size, "target": target}


def _parse_job(source: str, size: int, target: str) -> Job:
    return Job(
        Link(source) if is_link(source) else _parse_place(source, int(size)), _parse_place(target)
    )


def _parse_place(name: str, size: int = 0) -> Path | StoredFile:
    return StoredFile(name, size=size) if is_stored(name) else Path(name)


def _choose_block(jobs: int, workers: int) -> int:
    """Return how many pictures are handed out together."""
    return min(_BLOCK, max(1, jobs // (workers * _BLOCKS_PER_WORKER)))


def _share_resources(workers: int, cluster: Mapping[str, float]) -> dict[str, Any]:
    """Return how many workers there are, and what of the cluster's each takes."""
    cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    workers = workers or int(gpus) or max(1, int(cpus) // _CORES)
    # In hundredths, rounded down, so that all of them find a place.
    share, gpu_share = (math.floor(100 * total / workers) / 100 for total in (cpus, gpus))
    return {
        "workers": workers,
        "cpus": max(0.01, share if share < 1 else math.floor(share)),
        "gpus": gpu_share if gpu_share < 1 else math.floor(gpu_share),
    }


def _prepare_environment(pool: Pool) -> None:
    """Set what Ray reads when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not pool.verbose:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if not pool.address:
        # Ray's word for a cluster of one machine, whose servers listen on the loopback address.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def _check_address(address: str) -> None:
    """Check that something listens at HOST:PORT; Ray itself would try for minutes.

    Raises:
      UserError: if nothing does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"There is no Ray cluster at {address} ({explain(error)}): start one there with `ray "
            "start --head`, or leave --ray-address and RAY_ADDRESS out to use this machine alone."
        ) from error


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Let nothing through to stderr: Ray's own programs would tell that they are to be quiet."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _connected(pool: Pool) -> Iterator[None]:
    """Join the cluster, or start one on this machine, for as long as the context lasts.

    Raises:
      UserError: if that isn't possible.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    level = logging.INFO if pool.verbose else logging.CRITICAL
    logging.getLogger("ray.data").setLevel(level)
    cluster: dict[str, Any] = {"address": pool.address or "local"}
    if not pool.address:
        cluster["include_dashboard"] = False
    try:
        with contextlib.nullcontext() if pool.verbose else _muted():
            ray.init(**cluster, log_to_driver=pool.verbose, logging_level=level)
    except Exception as error:  # many kinds, for instance of another version of Python
        problem = (str(error).strip().splitlines() or [""])[0].strip(" .") or type(error).__name__
        where = f"The Ray cluster at {pool.address}" if pool.address else "Ray"
        raise UserError(
            f"{where} can't be used ({problem}): --engine local goes without."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
