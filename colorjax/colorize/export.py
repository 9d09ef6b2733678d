"""Models as programs that other runtimes run: RGB in, RGB in colour out, weights inside.

An exported program takes float32 pictures (B, H, W, 3) in [0, 1] and returns such pictures: their
own lightness, with the colour that the network predicts at that size. Nothing is squashed or
enlarged. The arithmetic is float32, whatever a model was trained in.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from colorjax import color, parallel
from colorjax.colorize import export_onnx
from colorjax.colorize.model import find_model, read_variables
from colorjax.errors import UserError
from colorjax.models import Networks, create_networks, generator_shapes, predict

PLATFORMS = ("cpu", "cuda", "tpu")  # that one StableHLO file runs on
# The largest program: FlatBuffers and Protocol Buffers, which the files are, count in 31 bits.
LARGEST = 2**31 - 2**20  # bytes
_TOLERANCE = 1e-4  # of a program's pictures, beside the model's own
_DIGEST = 32  # bytes of SHA-256 at the end of a StableHLO file

Runner = Callable[[np.ndarray], Any]  # rgb (B, H, W, 3) in and out


@dataclass(frozen=True)
class Program:
    """A model as the content of a file.

    Attributes:
      content: of the file.
      shape: of the pictures that it takes, in words.
      difference: the largest there was between its picture of noise and the model's own.
    """

    content: bytes
    shape: str
    difference: float


def export_model(model: str | os.PathLike[str] | None, name: str) -> Program:
    """Return a model as a program, after running it once beside the model.

    Args:
      model: see `Colorizer.load`.
      name: of the format: `stablehlo`, or `onnx`, which needs the extra of that name.

    Raises:
      UserError: if there is no such model or format, a package is missing, or the program can't
        be made or doesn't do what the model does.
    """
    if name not in FORMATS:
        raise UserError(f"The format is {name!r}: choose {' or '.join(FORMATS)}.")
    files = find_model(model)
    config = files.config.copy_and_resolve_references()
    config.dtype = "float32"
    networks = create_networks(config)
    shapes = generator_shapes(networks)
    _check_size(shapes)
    variables = read_variables(files, "generator", shapes, parallel.create_mesh())
    variables = jax.tree.map(np.asarray, variables)  # of one device's, which a program can hold
    make_content, make_runner, shape = FORMATS[name]
    content = make_content(networks, variables)
    difference = _compare(networks, variables, make_runner(content))
    return Program(content, shape.format(stride=least_multiple(networks)), difference)


def make_stablehlo(networks: Networks, variables: Any) -> bytes:
    """Return a generator as `jax.export` writes it, for all `PLATFORMS`.

    Batch, height and width are symbols, the latter two multiples of the network's stride. After
    the program come the 32 bytes of its SHA-256, which `jax.export.deserialize` passes over: a
    damaged program can crash that, so that a loader should look at the digest first.

    Args:
      networks: what the model's config describes.
      variables: the generator's, as NumPy arrays.

    Raises:
      UserError: if a package is missing.
    """
    from jax import export

    multiple = least_multiple(networks)
    shape = export.symbolic_shape(f"b, {multiple}*h, {multiple}*w, 3")
    colorize = jax.jit(make_colorize(networks, variables))
    exported = export.export(colorize, platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, np.float32))
    try:
        program = bytes(exported.serialize())
    except ImportError as error:
        raise UserError(
            "An export as StableHLO needs a package that is not installed: pip install flatbuffers."
        ) from error
    return program + hashlib.sha256(program).digest()


def make_stablehlo_runner(content: bytes) -> Runner:
    """Return the function that runs what `make_stablehlo` gave on this machine."""
    from jax import export

    return jax.jit(export.deserialize(bytearray(content[:-_DIGEST])).call)


def make_onnx(networks: Networks, variables: Any) -> bytes:
    """Return a generator as an ONNX model of any batch, height and width; it pads and crops itself.

    Args:
      networks: what the model's config describes.
      variables: the generator's, as NumPy arrays.

    Raises:
      UserError: if the extra `onnx` is missing, or jax2onnx can't convert the network.
    """
    return export_onnx.convert(make_colorize(networks, variables), networks.generator.stride)


# By name: what makes the content of a file, what runs it, and the pictures that it takes.
FORMATS: Mapping[str, tuple[Callable[[Networks, Any], bytes], Callable[[bytes], Runner], str]] = {
    "stablehlo": (make_stablehlo, make_stablehlo_runner, "(b, {stride} h, {stride} w, 3)"),
    "onnx": (make_onnx, export_onnx.make_runner, "(b, h, w, 3)"),
}


def make_colorize(networks: Networks, variables: Any) -> Callable[[jax.Array], jax.Array]:
    """Return the function that is exported.

    It maps pictures, rgb (B, H, W, 3) in [0, 1], H and W multiples of the network's stride, to
    pictures of their lightness and the predicted colour. Colours that sRGB can't show give up
    saturation, not lightness.
    """
    codec, generator = networks.codec, networks.generator

    def colorize(rgb: jax.Array) -> jax.Array:
        lightness = color.rgb_to_lab(rgb)[..., :1]
        network_input = codec.input_from_lightness(lightness)
        prediction = predict(generator, variables, network_input, portable=True)
        ab = codec.predicted_ab(network_input, prediction)
        return color.lab_to_rgb_keeping_lightness(jnp.concatenate([lightness, ab], axis=-1))

    return colorize


def least_multiple(networks: Networks) -> int:
    """Return what height and width are multiples of; never 1, which JAX would not write down."""
    return max(networks.generator.stride, 2)


def _check_size(shapes: Any) -> None:
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    if size > LARGEST:
        raise UserError(
            f"The model's weights take {size / 2**30:.1f} GiB, and a file of either format can't "
            "hold more than 2: export a smaller model."
        )


def _compare(networks: Networks, variables: Any, run: Runner) -> float:
    """Return how much a program's picture of noise differs from the model's own.

    Raises:
      UserError: if it is more than rounding can explain.
    """
    side = least_multiple(networks)
    noise = np.random.default_rng(0).uniform(size=(1, 2 * side, side, 3)).astype(np.float32)
    expected = jax.jit(make_colorize(networks, variables))(noise)
    difference = float(np.max(np.abs(np.asarray(run(noise)) - np.asarray(expected))))
    if not difference <= _TOLERANCE:  # also where it is not a number
        raise UserError(
            f"The exported program's pictures differ from the model's by {difference:.2g} (of 1), "
            "and nothing is written: its weights are damaged, or choose another --format."
        )
    return difference
