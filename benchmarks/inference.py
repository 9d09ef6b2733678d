"""The generator of `configs/wgan.py` at rest: in colorjax, PyTorch and onnxruntime."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax_wgan import count_operations
from widths import stage_widths

from colorjax.models import UNet, predict

Ways = dict[str, Callable[[], object]]


def make_ways(side: str, width: int, batch: int, size: int, device: str) -> tuple[Ways, float]:
    """Return functions that each predict the colour of a batch, with the same parameters.

    With them come the operations of it, as XLA counts them. What others predict is compared with
    what colorjax does.

    Args:
      side: whose; colorjax, PyTorch or onnxruntime.
      width: of the generator's first stage.
      batch: pictures.
      size: their side, in pixels.
      device: cpu or cuda.
    """
    widths = stage_widths(width)
    dtype = jnp.bfloat16 if device == "cuda" else jnp.float32
    generator = UNet(widths, dtype=dtype)
    gray = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 1)).astype(np.float32)
    variables = jax.jit(generator.init, static_argnums=2)(jax.random.key(0), gray[:1], False)
    placed = jax.device_put(gray)
    function = jax.jit(partial(predict, generator))
    ours = function.lower(variables, placed).compile()
    expected = np.asarray(ours(variables, placed))
    if side == "PyTorch":
        ways = _make_torch_ways(widths, gray, variables, device, expected)
    elif side == "onnxruntime":
        ways = {side: _make_onnx_way(generator, variables, gray, expected)}
    else:
        ways = {side: lambda: jax.block_until_ready(ours(variables, placed))}
    return ways, count_operations(function, variables, placed)


def _make_torch_ways(
    widths: tuple[int, ...], gray: np.ndarray, variables: Any, device: str, expected: np.ndarray
) -> Ways:
    import torch
    from torch_wgan import Training

    ways: Ways = {}
    for name, channels_last in (("eager", False), ("channels_last", True)):
        ab = np.zeros((*gray.shape[:3], 2), np.float32)
        training = Training(
            widths, (), (gray, ab), device, channels_last=channels_last, bfloat16=device == "cuda"
        )
        training.load_generator(variables["params"])
        training.generator.eval()  # its running statistics are as they start, here as there

        def run(training: Any = training) -> Any:
            with torch.inference_mode(), training.autocast():
                predicted = training.generator(training.gray)
            training.wait()
            return predicted

        found = run().float().permute(0, 2, 3, 1).cpu().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3 if device == "cpu" else 0.1)
        ways[f"PyTorch {name}"] = run
    return ways


def _make_onnx_way(
    generator: UNet, variables: Any, gray: np.ndarray, expected: np.ndarray
) -> Callable[[], object]:
    import jax2onnx
    import onnxruntime

    model = jax2onnx.to_onnx(
        lambda gray: predict(generator, variables, gray, portable=True),
        inputs=[gray.shape],
        model_name="unet",
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of shapes whose axes jax2onnx has reordered
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def run() -> Any:
        return session.run(None, {name: gray})[0]

    np.testing.assert_allclose(run(), expected, atol=1e-3)
    return run
