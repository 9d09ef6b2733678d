"""ICC profiles: from the colours that a file means to sRGB."""

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

_STRIP = 2**20  # pixels that are converted at a time


def convert_to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Return an image in sRGB, RGB with 8 bits a channel.

    Args:
      image: of mode L, RGB, CMYK or LAB.
      profile: that its file holds.

    Returns:
      None for an image that is in sRGB already, or whose profile is damaged or for another mode:
      without it the colours are as right as they can be.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _is_srgb(source):
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Return an image of mode LAB (CIE Lab under D50, as TIFF has it) in sRGB."""
    source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    assert converted is not None
    return converted


@dataclass(frozen=True)
class Shaper:
    """A profile that is a curve for each channel and, for colour, a matrix (ICC.1:2022, F.3).

    Attributes:
      curves: float32 (channels, 65536), linear light in [0, 1] by sample.
      matrix: (3, 3), XYZ under D50 from linear light; for gray the identity.
    """

    curves: np.ndarray
    matrix: np.ndarray

    def to_srgb(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint16 (H, W, channels) in sRGB, a new array; what sRGB can't show is clipped."""
        srgb = _read_shaper(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        matrix = np.linalg.inv(srgb.matrix) @ self.matrix if len(self.curves) == 3 else np.eye(1)
        codes = np.arange(65536, dtype=np.float32)
        result = np.empty(pixels.shape, np.uint16)
        rows = max(1, _STRIP // pixels.shape[1])
        for top in range(0, len(pixels), rows):
            strip = pixels[top : top + rows]
            linear = np.stack([curve[strip[..., i]] for i, curve in enumerate(self.curves)], -1)
            linear = np.clip(linear @ matrix.T.astype(np.float32), 0.0, 1.0)
            result[top : top + rows] = np.round(np.interp(linear, srgb.curves[0], codes))
        return result


def find_shaper(profile: bytes, channels: int) -> Shaper | None:
    """Return what converts samples of 16 bits, for which Pillow's ImageCms has no way.

    Args:
      profile: that a file holds.
      channels: 1 for gray, 3 for RGB.

    Returns:
      None if the profile is of another kind (tables, as those of many printers and scanners), of
      other channels, or damaged.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        expected = {1: "GRAY", 3: "RGB "}[channels]
        if source.profile.xcolor_space != expected or source.profile.connection_space != "XYZ ":
            return None
        return None if b"A2B0" in _tags(profile) else _read_shaper(profile)
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError, struct.error):
        return None


def is_srgb(profile: bytes) -> bool:
    """Return whether a profile is sRGB's, or too damaged to be another's."""
    try:
        return _is_srgb(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError):
        return True


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    return ImageCms.getProfileDescription(profile).startswith("sRGB")


def _read_shaper(profile: bytes) -> Shaper:
    tags = _tags(profile)
    if b"kTRC" in tags:
        return Shaper(_read_curve(tags[b"kTRC"])[None], np.eye(3))
    curves = np.stack([_read_curve(tags[name + b"TRC"]) for name in (b"r", b"g", b"b")])
    columns = [_fixed(tags[name + b"XYZ"][8:20]) for name in (b"r", b"g", b"b")]
    return Shaper(curves, np.stack(columns, axis=-1))


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """Return a profile's tags by signature (ICC.1:2022, 7.3)."""
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(count))
    return {name: profile[start : start + size] for name, start, size in entries}


def _read_curve(tag: bytes) -> np.ndarray:
    """Return float32 (65536,) of a `curv` or `para` tag (ICC.1:2022, 10.6 and 10.18)."""
    samples = np.linspace(0.0, 1.0, 65536)
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        count = (1, 3, 4, 5, 7)[kind]
        return _evaluate(kind, _fixed(tag[12 : 12 + 4 * count]), samples)
    if tag[:4] != b"curv":
        raise ValueError("unknown curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    values = np.frombuffer(tag, ">u2", count, 12)
    if count == 0:
        return samples.astype(np.float32)
    if count == 1:
        return (samples ** (values[0] / 256.0)).astype(np.float32)
    table = np.interp(samples, np.linspace(0.0, 1.0, count), values / 65535.0)
    return np.maximum.accumulate(table).astype(np.float32)


def _evaluate(kind: int, parameters: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return a parametric curve: (a x + b)^g + e from d on, c x + f below it."""
    g, a, b, c, d, e, f = 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind == 0:
        (g,) = parameters
    elif kind in (1, 2):
        g, a, b = parameters[:3]
        e = f = parameters[3] if kind == 2 else 0.0
        d = -b / a
    elif kind == 3:
        g, a, b, c, d = parameters
    else:
        g, a, b, c, d, e, f = parameters
    power = np.maximum(a * samples + b, 0.0) ** g + e
    return np.clip(np.where(samples >= d, power, c * samples + f), 0.0, 1.0).astype(np.float32)


def _fixed(data: bytes) -> np.ndarray:
    """Return numbers of ICC's type s15Fixed16."""
    return np.frombuffer(data, ">i4") / 65536.0
