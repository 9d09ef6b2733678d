"""PNG files of 16 bits a channel, which Pillow reads but doesn't write."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from colorjax.colorize.metadata import Metadata

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {3: 2, 4: 6}  # RGB and RGBA by their number of channels
_FILTER_UP = 2
_STRIP_BYTES = 2**22  # of pixels that are filtered and compressed at a time
_XMP_KEYWORD = b"XML:com.adobe.xmp"


def write_deep_png(pixels: np.ndarray, path: Path, metadata: Metadata | None = None) -> None:
    """Write a PNG of 16 bits a channel (W3C, Portable Network Graphics, third edition).

    Rows are stored as differences from the row above, the filter that serves photos about as well
    as a choice for each row does.

    Args:
      pixels: uint16 (H, W, 3) or (H, W, 4), the fourth channel being alpha, not premultiplied.
      path: of the file.
      metadata: to be stored with it.

    Raises:
      OSError: if it can't be written.
    """
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    with path.open("wb") as file:
        file.write(_SIGNATURE)
        _write_chunk(file, b"IHDR", header)
        if metadata and metadata.exif:
            _write_chunk(file, b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
        if metadata and metadata.xmp:
            # Neither compressed nor in a named language.
            _write_chunk(file, b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
        for data in _compress(pixels):
            _write_chunk(file, b"IDAT", data)
        _write_chunk(file, b"IEND", b"")


def _compress(pixels: np.ndarray) -> Iterator[bytes]:
    compressor = zlib.compressobj(level=6)
    height, row_bytes = pixels.shape[0], 2 * pixels[0].size
    above = np.zeros((1, row_bytes), np.uint8)
    rows = max(1, _STRIP_BYTES // row_bytes)
    for top in range(0, height, rows):
        strip = np.ascontiguousarray(pixels[top : top + rows].astype(">u2"))
        values = strip.view(np.uint8).reshape(-1, row_bytes)
        filtered = np.empty((len(values), row_bytes + 1), np.uint8)
        filtered[:, 0] = _FILTER_UP
        filtered[:, 1:] = values - np.concatenate([above, values[:-1]])
        above = values[-1:]
        yield compressor.compress(filtered.tobytes())
    yield compressor.flush()


def _write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    checksum = zlib.crc32(kind + data)
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))
