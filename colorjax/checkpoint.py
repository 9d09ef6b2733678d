"""Checkpoints of a run and model folders: the only file that imports Orbax.

Every step holds the items `state` (everything on the device that carries on), `generator` (what
inference needs), `critic` (so that the adversarial loss can be evaluated) and `progress` (what the
host carries on, JSON), with `checksums.json`: a SHA-256 of each file, because Orbax restores
flipped bytes without noticing. Arrays are plain numbers; nothing that is loaded is unpickled.

What is read may come from anybody. An item is plain files and folders, no links; names in its
metadata are looked up, never followed out of it (TensorStore refuses `..`); arrays are compared
with what the network expects, and with the size of the files, before memory is taken for them.
"""

import hashlib
import json
import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from flax import serialization, traverse_util

from colorjax.console import notice
from colorjax.errors import TrainingError, UserError
from colorjax.files import find_reason

CHECKSUMS = "checksums.json"
_ALWAYS_TAKEN = 2**30  # bytes of arrays that are read whatever the size of their files
_LARGEST_TEXT = 2**26  # bytes of a file that isn't pieces of arrays
_DENSEST = 100  # times its files' size that an item's arrays may have: zeros compress that well


class DamagedCheckpointError(UserError):
    """A checkpoint whose files are not those that were written."""


class SaveError(TrainingError):
    """A checkpoint that could not be written, or another file of a run; earlier ones are whole."""

    def __init__(self, workdir: Path, error: BaseException) -> None:
        newest = find_newest_step(workdir)
        later = f"goes on from step {newest}" if newest else "begins anew"
        super().__init__(
            f"{workdir} can't be written ({find_reason(error)}): once it can be, the same command "
            f"again {later}."
        )


@contextmanager
def naming_failure(workdir: Path, kind: type[Exception] = OSError) -> Iterator[None]:
    """Say in one sentence that a run's folder can't be written.

    Args:
      workdir: the folder.
      kind: of the errors that tell so.

    Raises:
      SaveError: in place of these.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, SaveError):  # of another process, or said already
        raise
    except kind as error:
        raise SaveError(workdir, error) from error


class CheckpointStore:
    """The folders `steps/` and `best/` of one run; saving goes on in the background.

    Args:
      workdir: the run's folder.
      keep: how many of the newest steps are kept.
      keep_period: steps that are a multiple of this are kept for ever; 0 for none.
    """

    def __init__(self, workdir: Path, keep: int, keep_period: int = 0) -> None:
        self._workdir = workdir
        self._steps = _create_manager(workdir / "steps", keep, keep_period)
        self._best = _create_manager(workdir / "best", 1, 0)
        self._damaged: set[int] = set()  # passed over; saved again when training gets there

    def save(self, step: int, state: Any, networks: dict[str, Any], progress: dict) -> None:
        """Start to save a step; returns as soon as the arrays may change again.

        Args:
          step: its number.
          state: the tree of arrays that carries on.
          networks: variables of `generator` and, where there is one, `critic`.
          progress: what the host carries on, as JSON knows it.

        Raises:
          SaveError: if this one or the one before, which went on in the background, can't be
            written.
        """
        items = _save_arguments(networks)
        items["state"] = ocp.args.StandardSave(serialization.to_state_dict(state))
        items["progress"] = ocp.args.JsonSave(progress)
        with naming_failure(self._workdir, Exception):
            if step in self._damaged:
                self._steps.delete(step)
                self._damaged.remove(step)
            self._steps.save(step, args=ocp.args.Composite(**items), force=True)

    def save_best(self, step: int, networks: dict[str, Any]) -> None:
        """Start to save the networks as the best so far, in place of the last best; see `save`."""
        with naming_failure(self._workdir, Exception):
            if step not in self._best.all_steps():
                items = ocp.args.Composite(**_save_arguments(networks))
                self._best.save(step, args=items, force=True)

    def restore_newest(self, abstract_state: Any) -> tuple[Any, dict] | None:
        """Return state and progress of the newest whole step, None if there is no step.

        Args:
          abstract_state: the expected tree of `jax.ShapeDtypeStruct` with shardings.

        Raises:
          UserError: if the step doesn't fit, naming the first mismatch, or all are damaged.
        """
        steps = sorted(self._steps.all_steps(), reverse=True)
        for step in steps:
            folder = Path(self._steps.directory) / str(step)
            try:
                return restore_state(folder, abstract_state), read_progress(folder)
            except DamagedCheckpointError as error:
                notice(f"warning: {error} It is passed over.")
                self._damaged.add(step)
        if steps:
            raise UserError(
                f"Every checkpoint in {self._steps.directory} is damaged: restore one from a copy, "
                "or start again with another --workdir."
            )
        return None

    def forget_other_bests(self, step: int) -> None:
        """Delete the best of a run that was here before, or that came after the restored step."""
        for other in self._best.all_steps():
            if other != step:
                self._best.delete(other)

    def wait(self) -> None:
        """Wait until everything that was saved lies on the disk; see `save` for what is raised."""
        with naming_failure(self._workdir, Exception):
            self._steps.wait_until_finished()
            self._best.wait_until_finished()

    def close(self) -> None:
        """Wait, then release what the managers hold; see `save` for what is raised."""
        with naming_failure(self._workdir, Exception):
            self._steps.close()
            self._best.close()


def parse_model_name(name: str) -> tuple[Path, int | None]:
    """Return folder and step of `DIR` or `DIR@STEP`; a folder whose name has an @ is taken first.

    Raises:
      UserError: if there is no such folder.
    """
    folder, _, step = name.rpartition("@")
    if folder and step.isdigit() and not Path(name).is_dir():
        return parse_model_name(folder)[0], int(step)
    if not Path(name).is_dir():
        raise UserError(f"There is no folder {name}: name a run's or a model's folder.")
    return Path(name), None


def find_step(folder: Path, step: int | None = None, best: bool = True) -> Path:
    """Return the folder that holds the items of a model.

    Args:
      folder: a run's folder, or a model's that holds the item `generator` itself.
      step: which step; None for the best, or else the newest.
      best: whether `best/` is looked into before `steps/`.

    Raises:
      UserError: if there is no such step, or a link stands in its place.
    """
    if step is None and (folder / "generator").is_dir():
        return folder
    places = [folder / "best", folder / "steps"] if best else [folder / "steps"]
    for place in places:
        found = _steps_in(place)
        if found and (step is None or step in found):
            path = place / str(max(found) if step is None else step)
            for part in (place, path):
                if part.is_symlink():
                    raise UserError(_link_message(part))
            return path
    wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
    raise UserError(f"{folder} holds no {wanted}: name the folder of a colorjax run or model.")


def restore_item(folder: Path, item: str, abstract: Any) -> Any:
    """Return one item of a step, checked against the expected tree before it is read.

    Args:
      folder: the step's folder.
      item: state, generator or critic.
      abstract: nested dicts of arrays or `jax.ShapeDtypeStruct`.

    Raises:
      DamagedCheckpointError: if the item is missing or damaged.
      UserError: if it doesn't fit, naming the first mismatch, or declares more than its files can
        hold.
    """
    path = _find_item(folder, item)
    with ocp.StandardCheckpointer() as checkpointer, _naming_damage(path):
        # The checkpointer's own `metadata` warns of what an item never has.
        found = ocp.StandardCheckpointHandler().metadata(epath.Path(path))
        _check_fit(path, found.tree, abstract)
        _check_size(path, found.tree, abstract)
        return checkpointer.restore(path, abstract)


def save_model(folder: Path, generator: Any) -> None:
    """Write the item `generator` and its checksums into a folder that holds neither.

    Args:
      folder: of the model; what else lies there is left alone.
      generator: its variables; read back as float32 whatever floats they are saved as.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / "generator").absolute(), generator)
    write_checksums(folder, "generator")


def restore_state(folder: Path, abstract_state: Any) -> Any:
    """Return the item `state` of a step as the dataclass it was saved from; see `restore_item`."""
    restored = restore_item(folder, "state", serialization.to_state_dict(abstract_state))
    return serialization.from_state_dict(abstract_state, restored)


def has_steps(workdir: Path) -> bool:
    """Return whether a run's folder holds a checkpoint to resume from."""
    return bool(_steps_in(workdir / "steps"))


def find_newest_step(workdir: Path) -> int:
    """Return the newest step of a run's folder that was written to its end, 0 if there is none."""
    try:
        return max(_steps_in(workdir / "steps"), default=0)
    except OSError:
        return 0


def has_item(folder: Path, item: str) -> bool:
    """Return whether a step's folder holds that item."""
    return (folder / item).is_dir()


def read_progress(folder: Path) -> dict:
    """Return the JSON item `progress` of a step.

    Raises:
      DamagedCheckpointError: if it is missing or damaged.
    """
    path = _find_item(folder, "progress")
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer, _naming_damage(path):
        return checkpointer.restore(path)


def with_sharding(tree: Any, sharding: Any) -> Any:
    """Return a tree's shapes and dtypes, placed as `sharding` says: what restoring needs."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def write_checksums(folder: Path, item: str = "*") -> None:
    """Write the SHA-256 of each file of a step's folder beside them.

    Args:
      folder: the step's.
      item: whose files; by default all items'.
    """
    # Orbax still writes to the files beside the items.
    files = sorted(path for path in folder.glob(f"{item}/**/*") if path.is_file())
    sums = {str(path.relative_to(folder)): _sha256(path) for path in files}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n")


def _find_item(folder: Path, item: str) -> Path:
    """Return the absolute path of a step's item, after checking that it is as it was written.

    Raises:
      DamagedCheckpointError: if it isn't, or holds anything but plain files and folders.
    """
    if not has_item(folder, item):
        raise DamagedCheckpointError(
            f"{folder} holds no {item!r} item: it is not a whole colorjax checkpoint."
        )
    _check_plain(folder / item)
    _verify_checksums(folder, item)
    return (folder / item).absolute()


def _check_plain(item: Path) -> None:
    """Check that an item can't lead out of itself, nor make its reader wait for ever.

    Raises:
      DamagedCheckpointError: naming the first link, pipe, device or socket in it.
    """
    for path in [item, *item.rglob("*")]:  # which follows no links
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise DamagedCheckpointError(_link_message(path))
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DamagedCheckpointError(f"{path} is no plain file: a checkpoint has no others.")
        if path.parent.name != "d" and not stat.S_ISDIR(mode):  # where OCDBT keeps the arrays
            _check_text(path)


def _check_text(path: Path) -> None:
    """Check that a file is of a size to be read whole.

    Raises:
      DamagedCheckpointError: if it isn't.
    """
    if path.stat().st_size > _LARGEST_TEXT:
        raise DamagedCheckpointError(
            f"{path} is larger than {_LARGEST_TEXT / 2**20:.0f} MiB, as none of its kind is: take "
            "the checkpoint from another place."
        )


def _link_message(path: Path) -> str:
    return f"{path} is a link, which a model's folder may not hold: put the file itself there."


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Name the item that can't be read; what is raised then is up to Orbax and TensorStore."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise DamagedCheckpointError(
            f"{path} can't be read ({type(error).__name__}): restore it from a copy."
        ) from error


def _verify_checksums(folder: Path, item: str) -> None:
    """Check the files of an item; one without checksums passes.

    Raises:
      DamagedCheckpointError: naming the first file that is missing or not as it was written.
    """
    path = folder / CHECKSUMS
    if path.is_symlink():
        raise DamagedCheckpointError(_link_message(path))
    if not path.is_file():
        return
    _check_text(path)
    try:
        sums = json.loads(path.read_text()).items()
    except (ValueError, AttributeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path} is damaged: restore it from a copy.") from error
    for name, expected in sums:
        file = folder / name
        if not name.startswith(f"{item}/"):
            continue
        if ".." in PurePath(name).parts:
            raise DamagedCheckpointError(f"{path} names {name!r}, which lies outside of {folder}.")
        if not (file.is_file() and _sha256(file) == expected):
            raise DamagedCheckpointError(
                f"{file} is missing or not as it was written: the checkpoint is damaged."
            )


def _create_manager(folder: Path, keep: int, keep_period: int) -> ocp.CheckpointManager:
    def seal() -> None:
        # Called when a step's items are whole, before it gets its final name.
        for step in folder.iterdir():
            if step.is_dir() and not (step / CHECKSUMS).exists():
                write_checksums(step)

    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        keep_period=keep_period or None,
        cleanup_tmp_directories=True,
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            barrier_sync_key_prefix=folder.name
        ),
        async_options=ocp.options.AsyncOptions(
            post_finalization_callback=seal if jax.process_index() == 0 else None
        ),
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _save_arguments(networks: dict[str, Any]) -> dict[str, Any]:
    return {name: ocp.args.StandardSave(variables) for name, variables in networks.items()}


def _steps_in(folder: Path) -> set[int]:
    if not folder.is_dir():
        return set()
    return {int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit()}


def _check_fit(path: Path, found: Any, expected: Any) -> None:
    found_shapes, expected_shapes = _shapes(found), _shapes(expected)
    for name, shape in expected_shapes.items():
        if name not in found_shapes:
            raise UserError(f"{path} doesn't fit the network: it has no {name}, shaped {shape}.")
        if found_shapes[name] != shape:
            raise UserError(
                f"{path} doesn't fit the network: {name} is shaped {found_shapes[name]} there, "
                f"{shape} here."
            )
    for name in found_shapes.keys() - expected_shapes.keys():
        raise UserError(f"{path} doesn't fit the network, which has no {name}.")


def _check_size(path: Path, found: Any, expected: Any) -> None:
    """Check that an item's files can hold its arrays, before memory is taken for these.

    Raises:
      UserError: if they can't.
    """
    for leaf in jax.tree.leaves(found):
        chunk = leaf.storage.chunk_shape if leaf.storage else ()
        if math.prod(chunk or ()) > max(1, math.prod(leaf.shape)):
            raise UserError(f"{path}: {leaf.name} lies in pieces that are larger than itself.")
    leaves = jax.tree.leaves(expected)
    declared = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    held = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if held > 2 * declared + _LARGEST_TEXT:
        raise UserError(
            f"{path} has files of {held / 2**20:,.1f} MiB for {declared / 2**20:,.1f} MiB of "
            "numbers: take the model from another place."
        )
    if declared > max(_ALWAYS_TAKEN, _DENSEST * held):
        raise UserError(
            f"{path} declares {declared / 2**30:,.1f} GiB of numbers, which its files of "
            f"{held / 2**20:,.1f} MiB can't hold: take the model from another place."
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {name: tuple(leaf.shape) for name, leaf in flat.items() if leaf is not None}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
