"""Devices, processes and how arrays lie on them: the only file that names devices.

A step is written for one device. `jax.jit` maps it over all of them: the batch is sharded on the
mesh axis `data`, the state is replicated, and XLA splits the work, so that batch statistics and
gradients are those of the global batch.
"""

import ctypes
import os
import re
import signal
import sys
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import multihost_utils
from jax.experimental.custom_partitioning import custom_partitioning
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from colorjax.compilation import thrifty_options
from colorjax.errors import TrainingError, UserError

ALONE = "none"  # as the coordinator: one process, whatever started it
AUTOMATIC = "auto"  # as the coordinator: several processes, and JAX finds out how many
SILENCE_SECONDS = 60  # after which a process counts as gone
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
CPU_DEVICES = "xla_force_host_platform_device_count"
CORES_AT_MOST = 4  # that share a batch as devices: each holds the whole state and its gradients
THREADS_PER_DEVICE = 2  # of XLA's pool, where a CPU is several devices
PICTURES_AT_LEAST = 4  # of a batch for a core to be a device
LOST = "Another process of this run has ended, or can't be reached"
GO_ON = "its own output may say why, and the same commands again go on from the last checkpoint."
_SOURCE = zlib.crc32(Path(__file__).read_bytes())


@dataclass(frozen=True)
class Cluster:
    """What started several processes together, as the environment tells.

    Attributes:
      name: of the launcher, for messages.
      method: JAX's name of the way to find the coordinator; None for those that it tries itself.
      processes: how many there are; None where only JAX can find out.
      process_id: which of them this is; None likewise.
      local_id: its number among those on the same machine, of whose accelerators it then takes
        that one; None if it is the only one there, and takes all.
      advice: what helps if JAX can't find the coordinator.
    """

    name: str
    method: str | None = None
    processes: int | None = None
    process_id: int | None = None
    local_id: int | None = None
    advice: str = ""


def initialize(coordinator: str = "", processes: int = 0, process_id: int = -1) -> None:
    """Join the other processes of this run, if there are any.

    Args:
      coordinator: host:port of process 0; `none` for a run of one process; `auto` to let JAX find
        the others; empty to do so in what `find_cluster` knows, and else to run alone.
      processes: how many there are, with host:port alone; 0 where a cluster tells.
      process_id: which of them this is, from 0; -1 where a cluster tells.

    Raises:
      UserError: if these don't fit together, or the others can't be reached.
    """
    cluster = find_cluster(os.environ)
    if coordinator in ("", ALONE, AUTOMATIC) and (processes or process_id >= 0):
        raise UserError("--processes and --process_id go with --coordinator HOST:PORT.")
    if coordinator == ALONE or not (coordinator or cluster):
        return
    arguments = _describe_processes(coordinator, processes, process_id, cluster)
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=SILENCE_SECONDS, **arguments)
    except Exception as error:  # of JAX, its coordination service or the cluster's own client
        problem = (str(error).splitlines() or [""])[0].strip(" .") or type(error).__name__
        advice = cluster.advice if cluster is not None and not coordinator else ""
        raise UserError(
            f"The processes{f' of {cluster.name}' if cluster else ''} could not join each other "
            f"({problem}): {advice}give --coordinator HOST:PORT with --processes and --process_id, "
            "or --coordinator none to train in one process."
        ) from error
    _explain_aborts()


def is_distributed() -> bool:
    """Return whether this process has joined others."""
    return jax.distributed.is_initialized()


def _explain_aborts() -> None:
    """Say in one sentence why this process ends where JAX aborts it.

    JAX does so when it hears no more of another process, from a thread that runs no Python and
    whichever call the main thread waits in: a handler of the C library's is what is called then.
    """

    def explain(number: int) -> None:
        os.write(2, f"error: {LOST}: {GO_ON}\n".encode())
        os._exit(1)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(explain)
    _HANDLERS.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


_HANDLERS: list[Any] = []  # which have to live as long as the process


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """End the process without delay where it fails beside others.

    An ordinary end would wait for them, for minutes, while they wait for this one.
    """
    try:
        yield
    except SystemExit as end:
        if end.code in (1, 2):
            _leave(end.code)
        raise
    except BaseException:
        if is_distributed():
            traceback.print_exc()
            _leave(1)
        raise


def _leave(status: int) -> None:
    if is_distributed():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Say what happened where JAX can't go on because another process is gone.

    Raises:
      TrainingError: in place of JAX's own error, in a run of several processes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        reason = (str(error).splitlines() or [""])[0].strip(" .")
        raise TrainingError(f"{LOST} ({reason}): {GO_ON}") from error


def is_cpu_way(switch: str) -> bool:
    """Return whether to compute in a way that is for CPUs alone: on one, unless switched off.

    Args:
      switch: the environment variable that switches the way off where it is 0.
    """
    return os.environ.get(switch) != "0" and jax.default_backend() == "cpu"


def is_one_cpu() -> bool:
    """Return whether a CPU computes, as one device and in one process."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def is_one_device_of_many_cores() -> bool:
    """Return whether a CPU's cores are not devices of their own, each with its own pictures."""
    return jax.local_device_count() == 1 and count_cores() > 1


def sum_over_devices(
    function: Callable[..., jax.Array], rule: str, identity: str
) -> Callable[..., jax.Array]:
    """Let each device sum over its own pictures, then add up the devices' sums.

    Left to itself, XLA adds up each term of such a sum over the devices, and holds all of them at
    once.

    Args:
      function: of two arrays whose first axis is the batch to an array that is a sum over it; pure.
      rule: Shardy's rule of how it can be split, its axis `batch` being summed over; see
        `jax.experimental.custom_partitioning`.
      identity: tells the function from every other one of this rule and these shapes, also from
        what it is in another version: what it does isn't part of a program that is kept on disk.

    Returns:
      The function to call in its place, under `jax.vmap` as well.
    """
    return _divide_over_devices(function, rule, identity, is_sum=True)


def map_over_devices(
    function: Callable[..., jax.Array], rule: str, identity: str
) -> Callable[..., jax.Array]:
    """Let each device compute with its own pictures, as a program of its own would.

    What a function does with single pictures stays on their device.

    Args:
      function: of an array whose first axis is the batch, and another that every device holds
        whole, to an array whose first axis is the batch; pure.
      rule: as of `sum_over_devices`, no axis being summed over.
      identity: as of `sum_over_devices`.

    Returns:
      The function to call in its place, under `jax.vmap` as well.
    """
    return _divide_over_devices(function, rule, identity, is_sum=False)


def _divide_over_devices(
    function: Callable[..., jax.Array],
    rule: str,
    identity: str,
    is_sum: bool,
) -> Callable[..., jax.Array]:
    """See `sum_over_devices`, which takes two arrays of pictures, and `map_over_devices`."""

    def place(mesh: Mesh, operands: Sequence[Any], is_shared: bool) -> NamedSharding:
        axes = operands[0].sharding.spec[:1]  # of the mesh, that share the batch
        return NamedSharding(mesh, PartitionSpec(*axes) if is_shared else PartitionSpec())

    def partition(
        mesh: Mesh, operands: Sequence[Any], result: Any
    ) -> tuple[Mesh, Callable[..., jax.Array], NamedSharding, tuple[NamedSharding, ...]]:
        axes = place(mesh, operands, True).spec

        def compute(*operands: jax.Array) -> jax.Array:
            own = function(*operands)
            return jax.lax.psum(own, axes[0]) if is_sum and any(axes) else own

        shardings = (place(mesh, operands, True), place(mesh, operands, is_sum))
        return mesh, compute, place(mesh, operands, not is_sum), shardings

    divided = custom_partitioning(function)
    divided.def_partition(
        partition=partition,
        infer_sharding_from_operands=lambda mesh, operands, _: place(mesh, operands, not is_sum),
        sharding_rule=rule,
        reduction_factors=("batch",) if is_sum else (),
    )

    @custom_vmap
    def call(*operands: jax.Array) -> jax.Array:
        with set_xla_metadata(identity=f"{identity}, shared by {_SOURCE:x}"):
            return divided(*operands)

    @call.def_vmap
    def call_many(
        size: int, batched: Sequence[bool], *operands: jax.Array
    ) -> tuple[jax.Array, bool]:
        axes = [0 if each else None for each in batched]
        return jax.vmap(function, axes)(*operands), True

    return call


def make_deterministic() -> None:
    """Let a GPU take only operations that give the same each time, to the bit.

    Raises:
      UserError: if JAX has started already, and so has read its flags.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if DETERMINISTIC in flags:
        return
    if _has_started():
        raise UserError(
            "config.deterministic=True comes too late, since JAX has started without it: set "
            f"XLA_FLAGS={DETERMINISTIC} before this program starts."
        )
    os.environ["XLA_FLAGS"] = " ".join([*flags, DETERMINISTIC])


def divide_among_cores(batch_size: int) -> None:
    """Let a CPU's cores be devices that share each batch, as far as it divides evenly.

    XLA computes a convolution of few channels with one core, whatever the others do, so that two
    devices are faster than one on two cores (docs/scaling.md). Accelerators are used as they are,
    and so is a CPU where JAX has started already. The environment may say how many devices a CPU
    has (JAX_NUM_CPU_DEVICES, or XLA_FLAGS); it has one where several processes train, or where
    NPROC allows XLA too few threads for more.

    Args:
      batch_size: of the run.
    """
    if _has_started():
        return
    allowed = os.environ.get("NPROC", "")  # anything but a number means nothing to XLA either
    devices = _count_chosen_devices()
    if devices is None:
        devices = 1 if is_distributed() else count_devices(count_cores(), batch_size)
        if allowed.isdigit() and int(allowed) < THREADS_PER_DEVICE * devices:
            devices = 1
        jax.config.update("jax_num_cpu_devices", devices)
    if devices > 1:
        # XLA runs programs in a pool of as many threads as there are cores. One that waits for
        # another device in a sum holds its thread: programs that were begun before the others
        # could fill the pool, and the sum would never be complete.
        threads = THREADS_PER_DEVICE * max(devices, count_cores())
        if not allowed.isdigit():
            os.environ["NPROC"] = str(threads)


def _has_started() -> bool:
    """Return whether JAX has read its flags and knows its devices."""
    from jax._src.xla_bridge import backends_are_initialized  # no public name tells

    return backends_are_initialized()


def _count_chosen_devices() -> int | None:
    """Return how many devices the environment says that a CPU has; None if it doesn't."""
    flag = re.search(rf"{CPU_DEVICES}=(\d+)", os.environ.get("XLA_FLAGS", ""))
    chosen = flag.group(1) if flag else os.environ.get("JAX_NUM_CPU_DEVICES", "")
    return int(chosen) if chosen.isdigit() else None


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_devices(cores: int, batch_size: int) -> int:
    """Return how many devices a CPU should be: see `divide_among_cores`."""
    most = min(cores, CORES_AT_MOST, batch_size // PICTURES_AT_LEAST)
    return next((count for count in range(most, 1, -1) if batch_size % count == 0), 1)


def find_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """Return what started this process together with others; None if nothing did.

    In this order, which is JAX's: Open MPI's mpirun, Slurm's srun (a batch script that starts
    train.py without it runs one process), a TPU pod on GKE, an indexed job of Kubernetes.

    Args:
      environment: the process's variables.
    """

    def number(name: str) -> int:
        value = environment.get(name, "")
        return int(value) if value.isdecimal() else 0

    if number("OMPI_COMM_WORLD_SIZE") > 1:
        return Cluster(
            "Open MPI",
            "ompi",
            number("OMPI_COMM_WORLD_SIZE"),
            number("OMPI_COMM_WORLD_RANK"),
            None
            if number("OMPI_COMM_WORLD_LOCAL_SIZE") == 1
            else number("OMPI_COMM_WORLD_LOCAL_RANK"),
            "JAX finds the first process under Open MPI 4 alone; ",
        )
    tasks = number("SLURM_STEP_NUM_TASKS") or number("SLURM_NTASKS")
    if "SLURM_JOB_ID" in environment and "SLURM_STEP_NODELIST" in environment and tasks > 1:
        local_id = None if number("SLURM_STEP_NUM_NODES") == tasks else number("SLURM_LOCALID")
        return Cluster("Slurm", "slurm", tasks, number("SLURM_PROCID"), local_id)
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if "," in (workers or "") or number("MEGASCALE_NUM_SLICES") > 1:
        return Cluster("a TPU pod")
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return Cluster(
            "Kubernetes", advice="pip install 'jax[k8s]' and let the job read its pods; "
        )
    return None


def _describe_processes(
    coordinator: str, processes: int, process_id: int, cluster: Cluster | None
) -> dict[str, Any]:
    """Return the arguments of `jax.distributed.initialize`."""
    arguments: dict[str, Any] = {}
    if cluster is not None:
        arguments["cluster_detection_method"] = cluster.method
        arguments["local_device_ids"] = _local_device_ids(cluster)
        if cluster.processes is not None:
            arguments["num_processes"] = cluster.processes
            arguments["process_id"] = cluster.process_id
    if coordinator in ("", AUTOMATIC):
        return arguments
    if processes:
        arguments["num_processes"] = processes
    if process_id >= 0:
        arguments["process_id"] = process_id
    if ":" not in coordinator:
        raise UserError(f"--coordinator={coordinator}: give HOST:PORT, none or auto.")
    if not 0 <= arguments.get("process_id", -1) < arguments.get("num_processes", 0):
        raise UserError("--coordinator also needs --processes and --process_id (from 0).")
    return arguments | {
        "coordinator_address": coordinator,
        "cluster_detection_method": "deactivate",
    }


def _local_device_ids(cluster: Cluster) -> list[int] | None:
    """Return which of the visible accelerators to take: [] for all, None for JAX's own way.

    JAX would take one by the local number also where the launcher shows each process its own one
    only, or where no other process is there to take the rest.
    """
    if "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None
    only_one = "," not in os.environ.get("CUDA_VISIBLE_DEVICES", ",")
    return [] if only_one or cluster.local_id is None else [cluster.local_id]


def create_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return the mesh of all devices, or of those given, with the one axis `data`."""
    devices = list(devices or jax.devices())
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays whose first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def map_step(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compile `step(state, batch) -> (state, outputs)` for the mesh, donating the state."""
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
        step,
        in_shardings=(replicated(mesh), batch_sharded(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh)),
        donate_argnums=0,
        compiler_options=thrifty_options() if is_cpu else None,
    )


def map_evaluation(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compile `function(variables, batch) -> outputs`; every process gets all outputs."""
    return jax.jit(
        function,
        in_shardings=(replicated(mesh), batch_sharded(mesh)),
        out_shardings=replicated(mesh),
    )


def create_global_batch(local: Any, mesh: Mesh) -> Any:
    """Put this process's block of a batch (a tree of arrays) on its devices."""
    sharding = batch_sharded(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), local)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put a whole tree of arrays on every device."""
    return jax.device_put(tree, replicated(mesh))


def gather(local: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Return the global array of which every process gives its block."""
    if process_count() == 1:
        return local
    whole = jax.jit(lambda x: x, out_shardings=replicated(mesh))(create_global_batch(local, mesh))
    return np.asarray(whole)


def connect(mesh: Mesh) -> None:
    """Let all processes connect to each other; to be called while none is ahead of the others.

    Devices connect when they first exchange something, and on CPUs whoever comes first then waits
    for 30 seconds alone: decoding pictures or compiling a step may set processes further apart.
    Later exchanges wait for half an hour.
    """
    if process_count() > 1:
        largest(0)  # each device with those of its place in other processes
        gather(np.zeros(jax.local_device_count()), mesh)  # all of them


def largest(number: int) -> int:
    """Return the largest number that any process gives; all of them have to ask."""
    return int(np.max(multihost_utils.process_allgather(np.asarray(number))))


def agree(text: str) -> bool:
    """Return whether every process gives the same text; all of them have to ask."""
    number = zlib.crc32(text.encode()) >> 1  # as a signed integer of 32 bits holds it
    return largest(number) == -largest(-number)


def to_host(tree: Any) -> Any:
    """Fetch replicated arrays as NumPy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(tree))


def fit_batch_size(wanted: int, pictures: int, mesh: Mesh) -> int:
    """Return the batch size for a training set, shrunk where it has fewer pictures.

    Raises:
      UserError: if the batch can't be divided among the devices.
    """
    devices = mesh.size
    if wanted < 1 or wanted % devices:
        raise UserError(
            f"config.batch_size={wanted} can't be shared by {devices} device(s): give {devices} or "
            "a multiple of it."
        )
    if pictures < devices:
        raise UserError(
            f"{pictures} training pictures are too few for {devices} devices: add pictures or "
            "use fewer devices (JAX_NUM_CPU_DEVICES=1, where they are a CPU's cores)."
        )
    return min(wanted, pictures // devices * devices)


def round_up_to_devices(count: int, mesh: Mesh | None = None) -> int:
    """Return the smallest batch that holds `count` pictures and divides among the devices."""
    devices = jax.device_count() if mesh is None else mesh.size
    return -(-count // devices) * devices


def process_index() -> int:
    """Return which process this is; process 0 writes pictures and logs."""
    return jax.process_index()


def process_count() -> int:
    """Return how many processes take part."""
    return jax.process_count()


def describe_devices() -> str:
    """Return for instance `8 x NVIDIA H200 (gpu) in 2 processes`."""
    kinds = Counter(f"{device.device_kind} ({device.platform})" for device in jax.devices())
    text = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    return text if process_count() == 1 else f"{text} in {process_count()} processes"
