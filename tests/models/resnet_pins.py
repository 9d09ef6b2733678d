"""What PyTorch's ResNets give for weights by formula: the formula, and the program that pins it.

`python tests/models/resnet_pins.py` rewrites resnet_pins.json; it alone needs torch and
torchvision. Run it again only when the formula below changes: another reason for other numbers
would be a network that no longer is torchvision's.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

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


def main() -> None:
    """Pin what torchvision gives."""
    import torch
    import torchvision

    pins: dict = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    for depth in (18, 50):
        network = getattr(torchvision.models, f"resnet{depth}")().eval()
        state = {
            name: tensor
            for name, tensor in network.state_dict().items()
            if not name.startswith("fc") and tensor.ndim
        }
        tensors = create_tensors({name: tuple(tensor.shape) for name, tensor in state.items()})
        network.load_state_dict(
            {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, strict=False
        )
        with torch.no_grad():
            x = torch.from_numpy(create_image().transpose(0, 3, 1, 2).copy())
            features = {"stem": network.relu(network.bn1(network.conv1(x)))}
            x = network.maxpool(features["stem"])
            for stage in ("layer1", "layer2", "layer3", "layer4"):
                x = features[stage] = getattr(network, stage)(x)
        pins[str(depth)] = {
            name: describe(tensor.numpy().transpose(0, 2, 3, 1))
            for name, tensor in features.items()
        }
    text = json.dumps(pins, indent=1)
    PINS.write_text(re.sub(r"\[[^]]*\]", lambda list_: " ".join(list_[0].split()), text) + "\n")


if __name__ == "__main__":
    main()
