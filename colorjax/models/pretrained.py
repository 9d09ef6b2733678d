"""Pretrained weights for the ResNet encoder of a generator, from files in PyTorch's layout.

Names are torchvision's, which timm's ResNet-18 and ResNet-50 share: `conv1.weight`,
`bn1.running_mean`, `layer1.0.downsample.0.weight`, ... Tensors of stages that the encoder doesn't
have, `fc` and `num_batches_tracked` are passed over.

A file without running statistics is one whose norms are folded into the convolutions: it has
`weight` and `bias` of each convolution alone. Its norms load as the identity plus that bias: scale
1, mean 0, variance 1 - epsilon. Statistics of the batch would undo the folded scales, so that an
encoder that is trained from such a file wants its field `running_norms`.
"""

from typing import Any

import jax
import numpy as np

from colorjax.errors import UserError
from colorjax.models.frozen import ENCODER, torchvision_name
from colorjax.models.resnet import NORM_EPSILON
from colorjax.models.weight_files import WeightFile, open_weights

NORM_TENSORS = {
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def load_encoder(
    source: str, params: Any, batch_stats: Any, *, running_norms: bool = True
) -> tuple[Any, Any]:
    """Return a generator's variables with those of its encoder read from a file.

    A first convolution over RGB is summed over its filters for an encoder of one channel.
    Convolutions that have a bias here but none in the file get zeros.

    Args:
      source: FILE.npz, FILE.safetensors, or hf://OWNER/NAME[/FILE] (FILE: model.safetensors).
      params: the generator's parameters or their shapes.
      batch_stats: its batch statistics or their shapes.
      running_norms: whether the encoder's norms use their running statistics in training too. Of
        norms that are folded into the convolutions the batch's statistics would undo what is left.

    Returns:
      Trees like the two given: NumPy arrays in the encoder, all else as it was.

    Raises:
      UserError: if the generator has no encoder, the file can't be had or read, or one of its
        tensors is missing, misshapen or not finite, or if its norms are folded and
        `running_norms` is false.
    """
    if ENCODER not in params:
        raise UserError(
            "config.pretrained fills the encoder of a generator such as resnet_unet, and this "
            "one has none: leave it empty."
        )
    encoder = {"params": params[ENCODER], "batch_stats": batch_stats[ENCODER]}
    with open_weights(source) as file:
        folded = not any(name.endswith(".running_mean") for name in file.names)
        if folded and not running_norms:
            raise UserError(
                f"{source} has its batch norms folded into the convolutions, which the batch's "
                "statistics would undo: set config.generator.running_norms=True (resnet_unet), or "
                "take a file with norms."
            )
        if not folded and "conv1.bias" in file.names and "bias" not in params[ENCODER]["conv1"]:
            raise UserError(
                f"{source} has biases on its convolutions, for which this encoder has no place: "
                "set conv_bias, or take a file without."
            )

        def load(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
            _, *modules, kind = (entry.key for entry in path)
            module = torchvision_name(modules)
            return _read_leaf(file, folded, module, kind, leaf.shape).astype(leaf.dtype)

        loaded = jax.tree.map_with_path(load, encoder)
    return (
        {**params, ENCODER: loaded["params"]},
        {**batch_stats, ENCODER: loaded["batch_stats"]},
    )


def _read_leaf(
    file: WeightFile, folded: bool, module: str, kind: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Return what a leaf of the encoder's tree holds: `kind` is its name in the module."""
    if kind == "kernel":
        return _read_kernel(file, f"{module}.weight", shape)
    convolution = _convolution_before(module)
    if convolution is None:
        has_bias = not folded and f"{module}.bias" in file.names
        return file.read(f"{module}.bias", shape) if has_bias else np.zeros(shape)
    if not folded:
        return file.read(f"{module}.{NORM_TENSORS[kind]}", shape)
    if kind == "bias":
        return file.read(f"{convolution}.bias", shape)
    return np.full(shape, {"scale": 1.0, "mean": 0.0, "var": 1.0 - NORM_EPSILON}[kind])


def _read_kernel(file: WeightFile, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a kernel (height, width, in, out), which PyTorch has as (out, in, height, width)."""
    height, width, channels, features = shape
    over_rgb = name == "conv1.weight" and channels == 1 and file.shape(name)[1:2] == (3,)
    kernel = file.read(name, (features, 3 if over_rgb else channels, height, width))
    if over_rgb:
        kernel = kernel.sum(axis=1, keepdims=True)
    return kernel.transpose(2, 3, 1, 0)


def _convolution_before(module: str) -> str | None:
    """Return the name of the convolution before a norm, by the norm's name; None for another."""
    if module.endswith("downsample.1"):
        return f"{module[:-1]}0"
    head, _, last = module.rpartition("bn")
    return f"{head}conv{last}" if head or module.startswith("bn") else None
