"""From a function of JAX to an ONNX model, by jax2onnx."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from colorjax.errors import UserError

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # of ONNX, of December 2022: what runtimes know by now
INPUT, OUTPUT = "rgb", "colored"

# jax2onnx can't make sense of a height that is a multiple of something: the network gets the
# pictures in blocks of `stride` pixels, whose number is a plain symbol. These nodes go before it
# and after it, so that pictures of any size are padded by their edge, cut into blocks, and cropped.
_BEFORE = """
before (float[b, h, w, 3] {input}) => (float[b, rows, {stride}, columns, {stride}, 3] blocks) {{
    size = Shape({input})
    strides = Constant<value = int64[4] {{1, {stride}, {stride}, 1}}>()
    negative = Neg(size)
    missing = Mod(negative, strides)
    nothing = Constant<value = int64[4] {{0, 0, 0, 0}}>()
    padding = Concat<axis = 0>(nothing, missing)
    padded = Pad<mode = "edge">({input}, padding)
    padded_size = Add(size, missing)
    counts = Div(padded_size, strides)
    stride = Constant<value = int64[1] {{{stride}}}>()
    numbers = Concat<axis = 0>(counts, stride)
    order = Constant<value = int64[6] {{0, 1, 4, 2, 4, 3}}>()
    block_size = Gather(numbers, order)
    blocks = Reshape(padded, block_size)
}}
"""
_AFTER = """
after (float[b, h, w, 3] whole, int64[4] nothing, int64[4] size) => (float[b, h, w, 3] {output}) {{
    {output} = Slice(whole, nothing, size)
}}
"""


def convert(colorize: Callable[[jax.Array], jax.Array], stride: int) -> bytes:
    """Return an ONNX model of a function, with its weights; no file beside it is needed.

    Args:
      colorize: maps (B, H, W, 3) to the same shape, H and W multiples of `stride`.
      stride: in pixels.

    Returns:
      The model, from `rgb` to `colored`, both float32 (b, h, w, 3) of any size.

    Raises:
      UserError: if the extra `onnx` is missing, or the function can't be converted.
    """
    onnx, jax2onnx, _ = _import("onnx"), _import("jax2onnx"), _import("onnxruntime")

    def colorize_blocks(blocks: jax.Array) -> jax.Array:
        batch, rows, _, columns, _, channels = blocks.shape
        return colorize(blocks.reshape(batch, stride * rows, stride * columns, channels))

    try:
        model = jax2onnx.to_onnx(
            colorize_blocks,
            inputs=[("b", "rows", stride, "columns", stride, 3)],
            model_name="colorjax",
            opset=OPSET,
            input_names=["blocks"],
            output_names=["whole"],
        )
        _take_any_size(model, stride)
        onnx.checker.check_model(model)
        content = model.SerializeToString()
    except Exception as error:  # whatever jax2onnx makes of what it doesn't know
        problem = (str(error).strip().splitlines() or [""])[0].strip(" .")
        raise UserError(
            f"jax2onnx can't convert this network ({type(error).__name__}: {problem}): export it "
            "with --format stablehlo."
        ) from error
    assert isinstance(content, bytes)
    return content


def make_runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that runs a model of `convert` in onnxruntime, on the CPU.

    Raises:
      UserError: if the extra `onnx` is missing.
    """
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda rgb: session.run([OUTPUT], {INPUT: rgb})[0]


def _take_any_size(model: "ModelProto", stride: int) -> None:
    """Put the nodes that pad, cut into blocks and crop around a model of blocks."""
    parser = _import("onnx.parser")
    before = parser.parse_graph(_BEFORE.format(input=INPUT, stride=stride))
    after = parser.parse_graph(_AFTER.format(output=OUTPUT))
    graph = model.graph
    nodes = [*before.node, *graph.node, *after.node]
    del graph.node[:], graph.input[:], graph.output[:]
    del graph.value_info[:]  # jax2onnx writes shapes there that aren't those of its nodes
    graph.node.extend(nodes)
    graph.input.extend(before.input)
    graph.output.extend(after.output)


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"An export as ONNX needs packages that are not installed ({name.partition('.')[0]}): "
            "pip install 'colorjax[onnx]'."
        ) from error
