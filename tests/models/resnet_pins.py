"""What PyTorch's networks give for weights by formula: the formula, and the program that pins it.

`python tests/models/resnet_pins.py` rewrites resnet_pins.json; it alone needs torch, torchvision
and fastai. Run it again only when the formula below changes: another reason for other numbers
would be a network that no longer is theirs.
"""

import json
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PINS = Path(__file__).with_suffix(".json")
SIZE = 64
VALUES = 12  # of each stage, evenly spaced over its flattened (H, W, C)


def create_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return weights and statistics in PyTorch's layout, given their shapes by torchvision's names.

    Uniform numbers of one seed, drawn in the order of the sorted names and scaled so that features
    neither vanish nor explode; norms differ in scale, bias, mean and variance.
    """
    generator = np.random.default_rng(0)
    tensors = {}
    for name in sorted(shapes):
        uniform = generator.random(shapes[name], np.float32)
        module, kind = name.rsplit(".", 1)
        if len(shapes[name]) == 4:
            bound = np.sqrt(6.0 / np.prod(shapes[name][1:]))
            tensors[name] = ((2 * uniform - 1) * bound).astype(np.float32)
        elif kind == "running_var" or (kind == "weight" and not module.endswith(("bn2", "bn3"))):
            tensors[name] = uniform + np.float32(0.5)
        elif kind == "weight":  # at the end of a block, where outputs add up
            tensors[name] = uniform * np.float32(0.5)
        else:
            tensors[name] = uniform - np.float32(0.5)
    return tensors


def create_image() -> np.ndarray:
    """Return a picture of smooth waves, (1, SIZE, SIZE, 3) float32 in about [-2, 2]."""
    y, x, channel = np.meshgrid(*(np.arange(n) for n in (SIZE, SIZE, 3)), indexing="ij")
    return (2 * np.sin(0.3 * y + 0.17 * x * (channel + 1)))[None].astype(np.float32)


def describe(features: np.ndarray) -> dict[str, list]:
    """Return the numbers that are pinned of a stage's output (1, H, W, C)."""
    places = np.linspace(0, features.size - 1, VALUES).astype(int)
    return {
        "shape": list(features.shape),
        "mean_std": [round(float(moment(features)), 6) for moment in (np.mean, np.std)],
        "values": [round(float(value), 6) for value in features.ravel()[places]],
    }


def pin_resnet(depth: int) -> dict:
    """Return what torchvision's network gives, by stage."""
    import torch
    import torchvision

    network = getattr(torchvision.models, f"resnet{depth}")()
    network.fc = torch.nn.Identity()
    _fill(network, lambda module: module)
    with torch.no_grad():
        x = torch.from_numpy(create_image().transpose(0, 3, 1, 2).copy())
        features = {"stem": network.relu(network.bn1(network.conv1(x)))}
        x = network.maxpool(features["stem"])
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = features[stage] = getattr(network, stage)(x)
    return {
        name: describe(tensor.numpy().transpose(0, 2, 3, 1)) for name, tensor in features.items()
    }


def pin_dynamic_unet() -> dict:
    """Return what fastai's DynamicUnet gives for the picture's first channel."""
    import torch
    import torchvision
    from fastai.vision.learner import create_body
    from fastai.vision.models.unet import DynamicUnet

    body = create_body(torchvision.models.resnet18(), n_in=1, pretrained=False, cut=-2)
    network = DynamicUnet(body, 2, (SIZE, SIZE))
    _fill(network, _rename_dynamic_unet)
    with torch.no_grad():
        output = network(torch.from_numpy(create_image()[None, ..., 0].copy()))
    return describe(output.numpy().transpose(0, 2, 3, 1))


def _rename_dynamic_unet(module: str) -> str:
    """Return the name here of a module that fastai numbers, with a point for each underscore."""
    layer, *rest = module.removeprefix("layers.").split(".")
    inside = ".".join(rest)
    if layer == "0":
        stages = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}
        return ".".join(["encoder", stages.get(rest[0], "layer4"), *rest[1:]])
    if layer in "4567":
        block = int(layer) - 4
        return {
            "shuf.0.0": f"ShuffleUp.{block}.Conv.0",
            "bn": f"BatchNorm.{block + 1}",
            "conv1.0": f"Conv.{2 * block + 2}",
            "conv2.0": f"Conv.{2 * block + 3}",
        }[inside]
    return {
        "1.": "BatchNorm.0",
        "3.0.0": "Conv.0",
        "3.1.0": "Conv.1",
        "8.0.0": "ShuffleUp.4.Conv.0",
        "11.convpath.0.0": "Conv.10",
        "11.convpath.1.0": "Conv.11",
        "12.0": "Conv.12",
    }[f"{layer}.{inside}"]


def _fill(network: Any, rename: Callable[[str], str]) -> None:
    """Give a torch network the formula's weights for the names that `rename` makes of modules'."""
    import torch

    state = {name: tensor for name, tensor in network.state_dict().items() if tensor.ndim}
    names = {}
    for name in state:
        module, kind = name.rsplit(".", 1)
        names[name] = f"{rename(module)}.{kind}"
    tensors = create_tensors({ours: tuple(state[name].shape) for name, ours in names.items()})
    for ours, tensor in tensors.items():
        if ours.startswith("ShuffleUp"):  # here (row, column, feature), there the feature first
            blocks = np.moveaxis(tensor.reshape(2, 2, -1, *tensor.shape[1:]), 2, 0)
            tensors[ours] = blocks.reshape(tensor.shape)
    filled = {name: torch.from_numpy(tensors[ours]) for name, ours in names.items()}
    network.load_state_dict(filled, strict=False)
    network.eval()


def main() -> None:
    """Pin what torchvision and fastai give."""
    pins = {
        "versions": {name: version(name) for name in ("torch", "torchvision", "fastai")},
        "resnet18": pin_resnet(18),
        "resnet50": pin_resnet(50),
        "dynamic_unet": pin_dynamic_unet(),
    }
    text = json.dumps(pins, indent=1)
    text = re.sub(r"\[([^]]*)\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    PINS.write_text(text + "\n")


if __name__ == "__main__":
    main()
