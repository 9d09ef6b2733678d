"""Files of named tensors, local or from the Hugging Face hub; nothing is ever unpickled."""

import contextlib
import io
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from colorjax.errors import UserError

HUB = "hf://"
HUB_FILE = "model.safetensors"
LONGEST_HEADER = 2**16  # bytes, of an array in a .npz; more is no description of one
FLOATS = {"F16": "float16", "F32": "float32", "F64": "float64"}  # by safetensors' names


class WeightFile:
    """The tensors of an open file; each is looked at and read when it is asked for.

    Attributes:
      source: what the user called the file, for messages.
      names: of all tensors.
    """

    source: str
    names: frozenset[str]

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a tensor as float32, without negative zeros.

        Its shape and type are those in the file's header before anything else is read. A negative
        zero would become positive when an optimizer adds its update of zero to it.

        Raises:
          UserError: if it is missing, has another shape, or holds something but finite floats.
        """
        if name not in self.names:
            raise UserError(f"{self.source} has no tensor {name}, which this network needs.")
        found, dtype = self._header(name)
        if found != shape:
            raise UserError(
                f"{self.source}: {name} has the shape {found}, but this network needs {shape}."
            )
        if dtype not in FLOATS.values():
            raise UserError(
                f"{self.source}: {name} is stored as {dtype}: save it as float32 or float16."
            )
        tensor = self._tensor(name).astype(np.float32) + np.float32(0.0)
        if not np.isfinite(tensor).all():
            raise UserError(f"{self.source}: {name} holds values that are not finite.")
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor by the file's header; () if it is missing."""
        return self._header(name)[0] if name in self.names else ()

    def _header(self, name: str) -> tuple[tuple[int, ...], str]:
        raise NotImplementedError

    def _tensor(self, name: str) -> np.ndarray:
        raise NotImplementedError


class NpzFile(WeightFile):
    """An archive as `numpy.savez` writes it."""

    def __init__(self, source: str, archive: zipfile.ZipFile) -> None:
        self.source = source
        self.names = frozenset(name.removesuffix(".npy") for name in archive.namelist())
        self._archive = archive

    def _header(self, name: str) -> tuple[tuple[int, ...], str]:
        with self._archive.open(f"{name}.npy") as member:
            # A header may claim to be 4 GiB long, and zeros are compressed to nearly nothing.
            start = io.BytesIO(member.read(LONGEST_HEADER))
        read = np.lib.format
        first = read.read_magic(start) == (1, 0)
        shape, _, dtype = (
            read.read_array_header_1_0(start) if first else read.read_array_header_2_0(start)
        )
        return shape, dtype.name

    def _tensor(self, name: str) -> np.ndarray:
        with self._archive.open(f"{name}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)


class SafetensorsFile(WeightFile):
    """A file as `safetensors.numpy.save_file` writes it."""

    def __init__(self, source: str, archive: Any) -> None:
        self.source = source
        self.names = frozenset(archive.keys())
        self._archive = archive

    def _header(self, name: str) -> tuple[tuple[int, ...], str]:
        view = self._archive.get_slice(name)
        return tuple(view.get_shape()), FLOATS.get(view.get_dtype(), view.get_dtype())

    def _tensor(self, name: str) -> np.ndarray:
        return np.asarray(self._archive.get_tensor(name))


@contextlib.contextmanager
def open_weights(source: str) -> Iterator[WeightFile]:
    """Open FILE.npz, FILE.safetensors or hf://OWNER/NAME[/FILE] (FILE: model.safetensors).

    Raises:
      UserError: if the file can't be had, or is found damaged, even while it is read.
    """
    from safetensors import SafetensorError, safe_open

    name = _hub_name(source)[1] if source.startswith(HUB) else source
    if Path(name).suffix not in (".npz", ".safetensors"):
        raise UserError(
            f"{source} is neither a .npz nor a .safetensors file: weights are read from these "
            "alone, since others may run code."
        )
    try:
        path = _download(source) if source.startswith(HUB) else Path(source).expanduser()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                yield NpzFile(source, archive)
        else:
            with safe_open(path, framework="numpy") as archive:
                yield SafetensorsFile(source, archive)
    except FileNotFoundError as error:
        raise UserError(f"There is no file {source}: give the path of the weights.") from error
    except (
        EOFError,
        NotImplementedError,  # a kind of compression
        OSError,
        RuntimeError,  # an encrypted archive
        SafetensorError,
        SyntaxError,  # in the header of an array
        ValueError,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(f"{source} can't be read as weights: {error}.") from error


def _download(source: str) -> Path:
    """Return the local copy of a file on the hub, fetched if it is not in the hub's cache yet."""
    from huggingface_hub import errors, hf_hub_download

    repository, file = _hub_name(source)
    try:
        return Path(hf_hub_download(repository, file))
    except (errors.HTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{source} can't be had from the Hugging Face hub: {reason}") from error


def _hub_name(source: str) -> tuple[str, str]:
    owner, _, rest = source.removeprefix(HUB).partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise UserError(f"{source} names no file on the hub: give hf://OWNER/NAME or ../FILE.")
    return f"{owner}/{name}", file or HUB_FILE
