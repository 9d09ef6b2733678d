import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from resnet_pins import create_tensors
from safetensors.numpy import save_file
from test_resnet import load, torch_shapes, variable_shapes

from colorjax.errors import UserError
from colorjax.models.pretrained import load_encoder
from colorjax.models.resnet import ResNet
from conftest import ROOT

DATA = ROOT.parent / "shared/data"
FOLDED = DATA / "resnet18/resnet18_imagenet_to_layer3.npz"
PHOTO = DATA / "flowers/001/image_06734.jpg"
SMALL = ResNet(encoder_end="layer1.0")


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    """What a file of torchvision's has for the first block of ResNet-18, and more."""
    tensors = create_tensors(torch_shapes(variable_shapes(SMALL)))
    tensors["fc.weight"] = np.zeros((1000, 512), np.float32)
    tensors["layer1.1.conv1.weight"] = np.zeros((1, 2), np.float32)
    tensors["bn1.num_batches_tracked"] = np.array(7)
    return tensors


def save(tensors: dict[str, np.ndarray], path: Path) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        save_file(tensors, path)
    return path


def test_folded_norms_want_running_statistics(tensors, tmp_path):
    folded = {name: tensor for name, tensor in tensors.items() if "running" not in name}
    path = save(folded, tmp_path / "folded.npz")
    shapes = variable_shapes(SMALL)
    variables = [{"encoder": shapes[kind]} for kind in ("params", "batch_stats")]
    with pytest.raises(UserError, match=r"set config\.generator\.running_norms=True"):
        load_encoder(str(path), *variables, running_norms=False)


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors"])
def test_each_tensor_is_found_where_flax_wants_it(name, tensors, tmp_path):
    variables = load(SMALL, save(tensors, tmp_path / name))
    block, statistics = (variables[kind]["layer1_0"] for kind in ("params", "batch_stats"))
    kernel = tensors["layer1.0.conv2.weight"]
    np.testing.assert_array_equal(block["conv2"]["kernel"][2, 0, 5, 9], kernel[9, 5, 2, 0])
    np.testing.assert_array_equal(block["bn2"]["scale"], tensors["layer1.0.bn2.weight"])
    np.testing.assert_array_equal(block["bn2"]["bias"], tensors["layer1.0.bn2.bias"])
    np.testing.assert_array_equal(statistics["bn2"]["mean"], tensors["layer1.0.bn2.running_mean"])
    np.testing.assert_array_equal(statistics["bn2"]["var"], tensors["layer1.0.bn2.running_var"])


def test_only_the_encoder_changes_and_the_tree_stays_the_same(tensors, tmp_path):
    shapes = variable_shapes(SMALL)
    decoder = {"kernel": jnp.ones((3, 3))}
    params = {"encoder": shapes["params"], "decoder": decoder}
    batch_stats = {"encoder": shapes["batch_stats"], "BatchNorm_0": {"mean": jnp.ones(3)}}
    path = save(tensors, tmp_path / "weights.npz")
    loaded = load_encoder(str(path), params, batch_stats)
    chex.assert_trees_all_equal_shapes_and_dtypes((params, batch_stats), loaded)
    assert loaded[0]["decoder"] is decoder
    chex.assert_trees_all_equal(loaded[1]["BatchNorm_0"], batch_stats["BatchNorm_0"])


def test_one_channel_sees_what_three_equal_channels_see(tensors, tmp_path):
    path = save(tensors, tmp_path / "weights.npz")
    gray = jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    from_gray = SMALL.apply(load(SMALL, path, channels=1), gray, False)
    from_rgb = SMALL.apply(load(SMALL, path), jnp.repeat(gray, 3, -1), False)
    chex.assert_trees_all_close(from_gray, from_rgb, atol=1e-5)


def test_convolutions_with_a_bias_load_as_those_without(tensors, tmp_path):
    path = save(tensors, tmp_path / "weights.npz")
    image = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    biased = ResNet(encoder_end="layer1.0", conv_bias=True)
    variables = load(biased, path)
    assert not variables["params"]["layer1_0"]["conv1"]["bias"].any()
    chex.assert_trees_all_equal(
        biased.apply(variables, image, False), SMALL.apply(load(SMALL, path), image, False)
    )


def test_biases_of_convolutions_are_kept_where_the_network_has_them(tensors, tmp_path):
    for name in ("conv1", "layer1.0.conv1", "layer1.0.conv2"):
        tensors[f"{name}.bias"] = np.arange(64, dtype=np.float32)
    path = save(tensors, tmp_path / "weights.npz")
    params = load(ResNet(encoder_end="layer1.0", conv_bias=True), path)["params"]
    np.testing.assert_array_equal(params["layer1_0"]["conv2"]["bias"], np.arange(64))
    with pytest.raises(UserError, match="biases on its convolutions"):
        load(SMALL, path)


@pytest.mark.parametrize("depth", [18, 50])
def test_folded_norms_give_what_they_were_folded_from(depth, tmp_path):
    network = ResNet(depth=depth, encoder_end="layer1.0")
    tensors = create_tensors(torch_shapes(variable_shapes(network)))
    folded = {}
    for name, kernel in tensors.items():
        if kernel.ndim == 4:
            conv = name.removesuffix(".weight")
            norm = conv.replace("conv", "bn").replace("downsample.0", "downsample.1")
            scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + 1e-5)
            folded[name] = kernel * scale[:, None, None, None]
            shift = tensors[f"{norm}.running_mean"] * scale
            folded[f"{conv}.bias"] = tensors[f"{norm}.bias"] - shift
    image = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    features = [
        network.apply(load(network, save(each, tmp_path / f"{name}.npz")), image, False)
        for name, each in (("plain", tensors), ("folded", folded))
    ]
    chex.assert_trees_all_close(*features, rtol=1e-4, atol=1e-4)


def test_half_precision_is_read_as_float32(tensors, tmp_path):
    halved = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    for name in ("weights.npz", "weights.safetensors"):
        kernel = load(SMALL, save(halved, tmp_path / name))["params"]["conv1"]["kernel"]
        assert kernel.dtype == np.float32
        np.testing.assert_array_equal(kernel[0, 0, 0], halved["conv1.weight"][:, 0, 0, 0])


def test_negative_zeros_become_zeros(tensors, tmp_path):
    tensors["bn1.bias"] = np.full(64, -0.0, np.float32)
    bias = load(SMALL, save(tensors, tmp_path / "weights.npz"))["params"]["bn1"]["bias"]
    assert not np.signbit(bias).any()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (None, r"has no tensor layer1\.0\.bn2\.bias"),
        (np.zeros(3, np.float32), r"layer1\.0\.bn2\.bias has the shape \(3,\).*needs \(64,\)"),
        (np.zeros(64, np.int64), r"layer1\.0\.bn2\.bias is stored as (int64|I64)"),
        (np.full(64, np.nan, np.float32), r"layer1\.0\.bn2\.bias holds values .* not finite"),
        (np.full(64, 1e300), r"layer1\.0\.bn2\.bias holds values .* not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_bad_tensor_is_named(suffix, tensor, message, tensors, tmp_path):
    del tensors["layer1.0.bn2.bias"]
    if tensor is not None:
        tensors["layer1.0.bn2.bias"] = tensor
    with pytest.raises(UserError, match=message):
        load(SMALL, save(tensors, tmp_path / f"weights{suffix}"))


def test_an_array_of_objects_is_never_unpickled(tensors, tmp_path):
    tensors["conv1.weight"] = np.empty((64, 3, 7, 7), object)
    with pytest.raises(UserError, match=r"conv1\.weight is stored as object"):
        load(SMALL, save(tensors, tmp_path / "weights.npz"))


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 200_000])
def test_a_damaged_file_is_an_error(name, keep, tensors, tmp_path):
    path = save(tensors, tmp_path / name)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="can't be read as weights"):
        load(SMALL, path)


def test_a_flipped_byte_of_an_archive_is_an_error(tensors, tmp_path):
    path = save({"conv1.weight": tensors["conv1.weight"], **tensors}, tmp_path / "weights.npz")
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="can't be read as weights"):
        load(SMALL, path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.npz", "There is no file"),
        ("absent.safetensors", "There is no file"),
        ("weights.pth", "neither a .npz nor a .safetensors"),
        ("hf://owner", "names no file on the hub"),
        ("hf://owner/name/pytorch_model.bin", "neither a .npz nor a .safetensors"),
    ],
)
def test_a_source_that_can_not_be_had_is_an_error(name, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_encoder(name, {"encoder": {}}, {"encoder": {}})


def test_a_generator_without_an_encoder_takes_no_weights():
    with pytest.raises(UserError, match=r"config\.pretrained"):
        load_encoder("weights.npz", {"Conv_0": {}}, {})


def test_the_hub_is_read_through_its_cache(tensors, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--timm--resnet18"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save(tensors, snapshot / "model.safetensors")
    save({**tensors, "bn1.bias": np.ones(64, np.float32)}, snapshot / "other.npz")
    bias = load(SMALL, "hf://timm/resnet18")["params"]["bn1"]["bias"]
    np.testing.assert_array_equal(bias, tensors["bn1.bias"])
    assert load(SMALL, "hf://timm/resnet18/other.npz")["params"]["bn1"]["bias"].all()
    with pytest.raises(UserError, match="can't be had from the Hugging Face hub"):
        load(SMALL, "hf://timm/resnet50")


def test_the_hub_is_not_imported_before_it_is_asked():
    code = "import sys, colorjax.models; print('huggingface_hub' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[-1] == "False"


@pytest.mark.photos
@pytest.mark.skipif(not FOLDED.exists(), reason="no ImageNet weights in ../shared/data/resnet18")
def test_the_imagenet_weights_load_into_a_gray_encoder():
    variables = load(ResNet(encoder_end="layer3"), FOLDED, channels=1)
    chex.assert_tree_all_finite(variables)
    with np.load(FOLDED) as tensors:
        expected = tensors["conv1.weight"].sum(axis=1)
    kernel = variables["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :, 0], expected.transpose(1, 2, 0))


@pytest.mark.photos
@pytest.mark.skipif(not FOLDED.exists(), reason="no ImageNet weights in ../shared/data/resnet18")
def test_the_imagenet_weights_end_at_layer3():
    with pytest.raises(UserError, match=r"has no tensor layer4\.0\."):
        load(ResNet(), FOLDED)


@pytest.mark.photos
@pytest.mark.skipif(
    not (FOLDED.exists() and PHOTO.exists()), reason="no weights or photos in ../shared/data"
)
def test_imagenet_features_of_a_photo_are_torchvisions():
    """The means and deviations are those of torchvision 0.28.0 on torch 2.13.0.

    Its ResNet-18 had the file's weights and biases in its convolutions and no norms. Only another
    photo or other weights would change them.
    """
    rgb = np.asarray(Image.open(PHOTO), np.float32)[None, 64:128, 64:128] / 255
    image = (rgb - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    network = ResNet(encoder_end="layer3")
    features = network.apply(load(network, FOLDED), jnp.asarray(image, jnp.float32), False)
    moments = [(float(stage.mean()), float(stage.std())) for stage in features]
    expected = [(0.28113, 0.33866), (0.51945, 0.55249), (0.24104, 0.35807), (0.17251, 0.26724)]
    np.testing.assert_allclose(moments, expected, rtol=1e-3)
