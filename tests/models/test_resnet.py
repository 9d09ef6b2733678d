"""ResNets beside torchvision's.

resnet_pins.json holds what torchvision 0.28.0 on torch 2.13.0 gives for weights by formula;
resnet_pins.py tells when and how to change it.
"""

import json
from functools import partial
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resnet_pins import PINS, create_image, create_tensors, describe

from colorjax.errors import UserError
from colorjax.models.pretrained import load_encoder
from colorjax.models.resnet import ResNet, max_pool_3x3


def variable_shapes(network: nn.Module, channels: int = 3) -> dict:
    image = jnp.zeros((1, 64, 64, channels))
    return jax.eval_shape(lambda key: network.init(key, image, False), jax.random.key(0))


def torch_shapes(variables: dict) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's variables by PyTorch's names, in PyTorch's layout."""
    return {
        torch_name(path): tuple(leaf.shape[axis] for axis in (3, 2, 0, 1))
        if leaf.ndim == 4
        else leaf.shape
        for path, leaf in jax.tree.leaves_with_path(variables)
    }


def torch_name(path: tuple) -> str:
    *modules, kind = (entry.key for entry in path[1:])
    kinds = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    return f"{'.'.join(modules).replace('_', '.')}.{kinds.get(kind, kind)}"


def fill(variables: dict) -> dict:
    """Return the formula's weights and statistics in a network's tree."""
    tensors = create_tensors(torch_shapes(variables))

    def find(path: tuple, leaf: jax.Array) -> np.ndarray:
        tensor = tensors[torch_name(path)]
        return tensor.transpose(2, 3, 1, 0) if leaf.ndim == 4 else tensor

    return jax.tree.map_with_path(find, variables)


def load(network: nn.Module, path: Path, channels: int = 3) -> dict:
    variables = variable_shapes(network, channels)
    params, batch_stats = load_encoder(
        str(path), {"encoder": variables["params"]}, {"encoder": variables["batch_stats"]}
    )
    return {"params": params["encoder"], "batch_stats": batch_stats["encoder"]}


def check(features: np.ndarray, pinned: dict, name: str) -> None:
    found = describe(features)
    assert found["shape"] == pinned["shape"]
    for kind in ("mean_std", "values"):
        np.testing.assert_allclose(found[kind], pinned[kind], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("depth", [18, 50])
def test_every_stage_agrees_with_torchvision(depth, tmp_path):
    network = ResNet(depth=depth)
    np.savez(tmp_path / "weights.npz", **create_tensors(torch_shapes(variable_shapes(network))))
    variables = load(network, tmp_path / "weights.npz")
    features = jax.jit(network.apply, static_argnums=2)(variables, create_image(), False)
    pins = json.loads(PINS.read_text())[f"resnet{depth}"]
    for (name, pinned), stage in zip(pins.items(), features, strict=True):
        check(np.asarray(stage), pinned, name)


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (50, 25_557_032)])
def test_parameter_count_is_torchvisions_without_its_classifier(depth, parameters):
    params = variable_shapes(ResNet(depth=depth))["params"]
    classifier = (512 if depth == 18 else 2048) * 1000 + 1000
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters - classifier


@pytest.mark.parametrize(
    ("encoder_end", "last_block", "stride", "shapes"),
    [
        ("layer1.0", "layer1_0", 4, [(32, 64), (16, 256)]),
        ("layer1", "layer1_2", 4, [(32, 64), (16, 256)]),
        ("layer3.1", "layer3_1", 16, [(32, 64), (16, 256), (8, 512), (4, 1024)]),
        ("layer4", "layer4_2", 32, [(32, 64), (16, 256), (8, 512), (4, 1024), (2, 2048)]),
    ],
)
def test_encoder_ends_where_it_is_told_to(encoder_end, last_block, stride, shapes):
    network = ResNet(depth=50, encoder_end=encoder_end)
    image = jnp.zeros((1, 64, 64, 3))
    features, variables = jax.eval_shape(
        lambda key: network.init_with_output(key, image, False), jax.random.key(0)
    )
    assert [(stage.shape[1], stage.shape[3]) for stage in features] == shapes
    assert max(name for name in variables["params"] if name.startswith("layer")) == last_block
    assert network.stride == stride


def test_conv_bias_gives_every_convolution_a_bias():
    params = variable_shapes(ResNet(depth=50, encoder_end="layer1.0", conv_bias=True))["params"]
    convolutions = [params["conv1"]]
    convolutions += [params["layer1_0"][f"conv{index}"] for index in (1, 2, 3)]
    convolutions += [params["layer1_0"]["downsample_0"]]
    assert all(leaves.keys() == {"kernel", "bias"} for leaves in convolutions)


def updated_statistics(network: nn.Module) -> dict[str, bool]:
    """Return whether a step of training changes a norm's statistics, by the norm's name."""
    image = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))
    variables = fill(variable_shapes(network, channels=1))
    apply = jax.jit(partial(network.apply, mutable=["batch_stats"]), static_argnums=2)
    _, updated = apply(variables, image, True)
    changed = jax.tree.map(
        lambda before, after: bool(jnp.any(before != after)),
        variables["batch_stats"],
        updated["batch_stats"],
    )
    leaves = jax.tree.leaves_with_path(changed)
    return {".".join(entry.key for entry in path[:-1]): leaf for path, leaf in leaves}


def test_frozen_norms_keep_their_statistics_in_training():
    changed = updated_statistics(ResNet(encoder_end="layer1", frozen=("bn1", "layer1.0.bn1")))
    assert changed == {
        "bn1": False,
        "layer1_0.bn1": False,
        "layer1_0.bn2": True,
        "layer1_1.bn1": True,
        "layer1_1.bn2": True,
    }


def test_running_norms_keep_all_statistics_in_training():
    assert not any(updated_statistics(ResNet(encoder_end="layer1", running_norms=True)).values())


def test_a_frozen_norm_normalises_by_its_running_statistics():
    network = ResNet(encoder_end="layer1.0", frozen=("bn1",))
    image = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))
    variables = fill(variable_shapes(network, channels=1))
    apply = jax.jit(partial(network.apply, mutable=["batch_stats"]), static_argnums=2)
    stems = [apply(variables, image, train)[0][0] for train in (True, False)]
    chex.assert_trees_all_close(*stems, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 34}, r"config\.generator\.depth is 34"),
        ({"encoder_end": "layer5"}, r"config\.generator\.encoder_end is 'layer5'"),
        ({"encoder_end": "layer1.2"}, r"config\.generator\.encoder_end is 'layer1\.2'"),
    ],
)
def test_impossible_encoders_are_errors(fields, message):
    with pytest.raises(UserError, match=message):
        variable_shapes(ResNet(**fields))


def test_max_pool_and_its_gradient_agree_with_flax():
    # All values differ: where they tie, ours shares the gradient.
    values = np.random.default_rng(0).permutation(2 * 6 * 8 * 3).reshape(2, 6, 8, 3)
    x = jnp.asarray(values, jnp.float32) - 100.0
    weights = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    padding = [(1, 1), (1, 1)]
    pools = (max_pool_3x3, lambda y: nn.max_pool(y, (3, 3), (2, 2), padding))
    ours, theirs = (
        jax.value_and_grad(lambda y, pool=pool: jnp.sum(pool(y) * weights))(x) for pool in pools
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)
