"""Devices, processes and how arrays lie on them: the only file that names devices.

A step is written for one device. `jax.jit` maps it over all of them: the batch is sharded on the
mesh axis `data`, the state is replicated, and XLA splits the work, so that batch statistics and
gradients are those of the global batch.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from colorjax.errors import UserError


def initialize(coordinator: str = "", processes: int = 0, process_id: int = -1) -> None:
    """Join the other processes of this run, if an address of their coordinator is given.

    Args:
      coordinator: host:port of process 0; empty for a run of one process.
      processes: how many there are.
      process_id: which of them this is, from 0.

    Raises:
      UserError: if only a part of these is given.
    """
    if not coordinator:
        return
    if processes < 1 or not 0 <= process_id < processes:
        raise UserError("--coordinator also needs --processes and --process_id (from 0).")
    jax.distributed.initialize(coordinator, processes, process_id)


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
    return jax.jit(
        step,
        in_shardings=(replicated(mesh), batch_sharded(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh)),
        donate_argnums=0,
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


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process; all of them have to ask."""
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


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
            "use fewer devices."
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
