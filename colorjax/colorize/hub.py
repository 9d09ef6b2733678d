"""Model folders from the Hugging Face hub, as plain files in a place of their own.

The hub's cache is made of links: `snapshots/<commit>/config.json` leads to a file in `blobs/`. A
model's folder may hold none, so that it can't lead out of itself. What a snapshot's links lead to,
if it lies among the blobs of that repository, is therefore linked hard (or copied, to another disk)
under `~/.cache/colorjax/models`, and read from there.
"""

import fnmatch
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from colorjax.errors import UserError
from colorjax.files import write_whole
from colorjax.models.weight_files import HUB

LARGEST = 4 * 2**30  # bytes of a model's files
_SECONDS = 10.0  # to wait for the hub's answer

# What a model's folder, or the best step in a run's folder, consists of; nothing else is fetched.
_FOLDERS = ("", "best/*/")
_FILES = ("checksums.json", "generator/*", "critic/*")
PATTERNS = ("config.json", *(folder + file for folder in _FOLDERS for file in _FILES))


def is_hub_name(name: str) -> bool:
    """Return whether a model's name is that of one on the hub."""
    return name.startswith(HUB)


def fetch_model(name: str) -> Path:
    """Return the local folder of a model on the hub.

    What is in the hub's cache is not fetched again; without a connection, or with
    `HF_HUB_OFFLINE=1`, the cache is all there is.

    Args:
      name: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`: a branch, tag or commit.

    Raises:
      UserError: if there is no such model, it can't be had, is too large, or its place in the cache
        holds links that lead out of it.
    """
    repository, revision = _parse(name)
    snapshot = _find_snapshot(name, repository, revision)
    files = dict(_find_files(snapshot))
    _check_size(name, sum(file.stat().st_size for file in files.values()))
    folder = _models_folder() / repository.replace("/", "--") / snapshot.name
    for place, file in files.items():
        _put(file, folder / place)
    if not folder.is_dir():
        raise UserError(f"{name} is no colorjax model: it has no config.json and no generator.")
    return folder


def _parse(name: str) -> tuple[str, str | None]:
    repository, _, revision = name.removeprefix(HUB).partition("@")
    owner, _, model = repository.partition("/")
    if not owner or not model or "/" in model:
        raise UserError(f"{name} names no model on the hub: give {HUB}OWNER/NAME[@REVISION].")
    return repository, revision or None


def _find_snapshot(name: str, repository: str, revision: str | None) -> Path:
    """Return the snapshot in the hub's cache, fetched if it is not there and the hub answers."""
    from huggingface_hub import HfApi, errors, snapshot_download

    patterns = list(PATTERNS)
    failures = (errors.HTTPError, OSError, ValueError)
    try:
        info = HfApi().model_info(
            repository, revision=revision, files_metadata=True, timeout=_SECONDS
        )
        wanted = [file for file in info.siblings or () if _is_wanted(file.rfilename)]
        _check_size(name, sum(file.size or 0 for file in wanted))
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except failures as error:
        try:
            return Path(
                snapshot_download(
                    repository, revision=revision, allow_patterns=patterns, local_files_only=True
                )
            )
        except failures:
            raise UserError(_explain(name, error)) from error


def _explain(name: str, error: Exception) -> str:
    """Return why a model can't be had, as one sentence."""
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} is not on the Hugging Face hub: the model is there, that revision isn't."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{name} is not on the Hugging Face hub, or not for you to see: check the name, or log "
            "in with `hf auth login`."
        )
    if isinstance(error, errors.HFValidationError):
        return f"{name} can't be the name of a model on the hub: give {HUB}OWNER/NAME[@REVISION]."
    return (
        f"{name} is not in the Hugging Face hub's cache, and the hub can't be asked "
        f"({type(error).__name__}): check the connection."
    )


def _is_wanted(place: str) -> bool:
    return any(fnmatch.fnmatchcase(place, pattern) for pattern in PATTERNS)


def _check_size(name: str, size: int) -> None:
    if size > LARGEST:
        raise UserError(
            f"{name} has files of {size / 2**30:.1f} GiB, and a model has at most "
            f"{LARGEST / 2**30:g}: name another."
        )


def _find_files(snapshot: Path) -> Iterator[tuple[str, Path]]:
    """Yield the place of each of a model's files in a snapshot, and the file itself.

    Raises:
      UserError: for what is neither a plain file nor a link to one of the repository's blobs.
    """
    blobs = (snapshot.parents[1] / "blobs").resolve()
    if snapshot.is_symlink():
        raise UserError(f"{snapshot} is a link, which the hub's cache doesn't have: remove it.")
    for path in snapshot.rglob("*"):  # which follows no links
        place = path.relative_to(snapshot).as_posix()
        if not _is_wanted(place) or (path.is_dir() and not path.is_symlink()):
            continue
        file = path.resolve()
        if path.is_symlink() and file.parent != blobs:
            raise UserError(f"{path} leads out of the hub's cache of that model: remove it.")
        if not file.is_file():
            raise UserError(f"{path} is no plain file: remove it from the hub's cache.")
        yield place, file


def _put(file: Path, target: Path) -> None:
    """Let `target` be the same file; a commit's files never change, so one that is there stays."""
    if target.is_file() and target.stat().st_size == file.stat().st_size:
        return

    def link(draft: Path) -> None:
        try:
            os.link(file, draft)
        except OSError:  # on another disk, or one without hard links
            shutil.copyfile(file, draft)

    try:
        write_whole(target, link)
    except OSError as error:
        raise UserError(
            f"{target} can't be written ({error.strerror}): set XDG_CACHE_HOME to another folder."
        ) from error


def _models_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "colorjax" / "models"
