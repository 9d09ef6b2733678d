"""Exported programs: what the Flax model gives, at any size, in one file, for jax alone."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from colorjax import Colorizer, color
from colorjax.colorize import export, export_onnx
from colorjax.colorize.export import export_model, make_onnx, make_stablehlo
from colorjax.errors import UserError
from colorjax.models import GENERATORS, Networks, create_networks, generator_shapes

DOCS = Path(__file__).parents[2] / "docs/export.md"
LOADER, _, ONNX_LOADER = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)

# Of each generator: its smallest kind, and the codec of its recipe.
SMALL: dict[str, tuple[dict[str, Any], str]] = {
    "block_unet": ({"widths": (4, 4)}, "lab_centered"),
    "celeba_autoencoder": ({}, "lab_unit"),
    "demo_autoencoder": ({"widths": (4, 4)}, "rgb"),
    "pix2pix": ({"widths": (4, 4)}, "lab_centered"),
    "plain_autoencoder": ({"layers": 5, "width": 4, "skips": True}, "rgb"),
    "residual_autoencoder": ({"widths": (4, 4, 4, 4)}, "rgb"),
    "residual_unet": (
        {"widths": (4, 8), "blocks": (1, 1), "stem_stride": 4, "guided": True},
        "lab_centered",
    ),
    "resnet_transfer": ({}, "lab_unit"),
    "resnet_unet": ({"encoder_end": "layer1"}, "lab_centered"),
    "unet": ({"widths": (4, 8), "context": True, "softening": 0.4, "classes": 3}, "lab_centered"),
}


def create(name: str) -> tuple[Networks, Any]:
    """Return a generator's smallest kind, and variables that let every part of it count."""
    options, codec = SMALL[name]
    config = ConfigDict({"codec": codec, "dtype": "float32", "image_size": 32})
    config.generator = ConfigDict({"name": name, **options})
    config.critic = ConfigDict({"name": ""})
    networks = create_networks(config)
    generator = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        values = generator.standard_normal(leaf.shape).astype(np.float32)
        if len(leaf.shape) == 1:  # biases, scales, means and variances, which are positive
            return 1 + 0.1 * np.abs(values)
        return values * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))

    return networks, jax.tree.map(draw, generator_shapes(networks))


def colorize(networks: Networks, variables: Any, rgb: np.ndarray) -> np.ndarray:
    """Return what the Flax model makes of pictures."""

    @jax.jit  # as a whole, since each part of its own costs a compilation
    def colorize(rgb):
        network_input, _ = networks.codec.encode(rgb)
        prediction = networks.generator.apply(variables, network_input, train=False)
        lab = (
            color.rgb_to_lab(rgb)
            .at[..., 1:]
            .set(networks.codec.predicted_ab(network_input, prediction))
        )
        return color.lab_to_rgb_keeping_lightness(lab)

    return np.asarray(colorize(rgb))


def draw_pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(*shape, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def load() -> Any:
    names: dict[str, Any] = {}
    exec(LOADER, names)
    return names["load"]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_exports_with_any_batch_height_and_width(
    name: str, load: Any, tmp_path: Path
) -> None:
    networks, variables = create(name)
    stride = networks.generator.stride
    rgb = draw_pictures(2, 3 * stride, 2 * stride)
    expected = colorize(networks, variables, rgb)
    assert np.ptp(expected, axis=-1).max() > 0.1  # there is colour
    path = tmp_path / "model.stablehlo"
    path.write_bytes(make_stablehlo(networks, variables))
    np.testing.assert_allclose(load(path)(rgb), expected, atol=1e-5)
    run = export_onnx.make_runner(make_onnx(networks, variables))
    np.testing.assert_allclose(run(rgb), expected, atol=1e-4)
    assert run(rgb[:1, :-1, 1:]).shape == (1, 3 * stride - 1, 2 * stride - 1, 3)


def test_an_export_is_what_the_colorizer_shows_at_the_networks_size(
    model_folder: Path, load: Any, tmp_path: Path
) -> None:
    program = export_model(model_folder, "stablehlo")
    path = tmp_path / "model.stablehlo"
    path.write_bytes(program.content)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    shown = Colorizer.load(model_folder).colorize(image, upsample="bicubic")
    [colored] = np.asarray(load(path)(np.float32(image[None] / 255)))
    assert np.abs(np.round(255 * colored) - shown).max() <= 1
    assert program.shape == "(b, 2 h, 2 w, 3)"
    assert program.difference < 1e-5


LOAD_WITHOUT_COLORJAX = """
import sys
for name in ("colorjax", "flax", "orbax", "ml_collections"):
    sys.modules[name] = None  # an import of it fails
{loader}
import numpy as np
rgb = np.load("rgb.npy")
np.save("colored.npy", load("model.stablehlo")(rgb))
"""


def test_the_documented_loader_needs_jax_alone(model_folder: Path, load: Any, work: Path) -> None:
    Path("model.stablehlo").write_bytes(export_model(f"{model_folder}@1", "stablehlo").content)
    rgb = np.full((2, 7, 9, 3), 0.5, np.float32)
    np.save("rgb.npy", rgb)
    code = LOAD_WITHOUT_COLORJAX.format(loader=LOADER)
    # -I: neither this folder nor the tests' variables lead it to colorjax.
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=120)
    colored = np.load("colored.npy")
    np.testing.assert_allclose(colored, load("model.stablehlo")(rgb), atol=1e-6)
    lab = np.asarray(color.rgb_to_lab(colored))
    expected = np.broadcast_to((color.rgb_to_lab(rgb)[0, 0, 0, 0], 20, -15), lab.shape)
    np.testing.assert_allclose(lab, expected, atol=0.01)


@pytest.fixture(scope="module")
def small_program() -> bytes:
    return make_stablehlo(*create("unet"))


def test_the_loader_refuses_what_is_not_whole(
    load: Any, small_program: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.stablehlo"
    generator = np.random.default_rng(0)
    damaged = [b"", b"text", bytes(1000), generator.bytes(5000)]
    damaged += [small_program[:length] for length in (31, 32, 100, len(small_program) - 1)]
    for place in generator.integers(0, len(small_program), 50):
        flipped = bytearray(small_program)
        flipped[place] ^= 1 << generator.integers(0, 8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no colorjax export, or damaged"):
            load(path)
    path.write_bytes(small_program)
    load(path)


def test_the_loader_refuses_programs_that_call_what_is_outside(load: Any, tmp_path: Path) -> None:
    # An inverse calls LAPACK in the process it runs in, by the same way as a call of Python.
    pictures = jax.ShapeDtypeStruct((1, 3, 3), np.float32)
    program = bytes(jax.export.export(jax.jit(jnp.linalg.inv))(pictures).serialize())
    path = tmp_path / "model.stablehlo"
    path.write_bytes(program + hashlib.sha256(program).digest())
    with pytest.raises(ValueError, match="calls functions from outside"):
        load(path)


def test_an_onnx_file_holds_all_and_standard_operators_alone(work: Path) -> None:
    import onnx

    content = make_onnx(*create("unet"))
    model = onnx.load_from_string(content)
    assert [opset.domain for opset in model.opset_import] == [""]
    assert not model.functions
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    [given], [returned] = model.graph.input, model.graph.output
    for value, name in ((given, "rgb"), (returned, "colored")):
        assert value.name == name
        dims = value.type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["b", "h", "w", 3]
    Path("wgan.onnx").write_bytes(content)
    names: dict[str, Any] = {"rgb": draw_pictures(2, 5, 7)}
    exec(ONNX_LOADER, names)
    expected = export_onnx.make_runner(content)(names["rgb"])
    np.testing.assert_array_equal(names["colored"], expected)


@pytest.mark.parametrize("place", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
def test_an_onnx_file_loaded_as_documented_reads_no_other(place: str, work: Path) -> None:
    from onnx import TensorProto, helper

    for folder in (work, work.parent):
        (folder / "weights.bin").write_bytes(bytes(16))
    weights = TensorProto(
        name="weights", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    weights.external_data.add(key="location", value=place.format(folder=work))
    rgb, colored = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("rgb", "colored")
    )
    add = helper.make_node("Add", ["rgb", "weights"], ["colored"])
    graph = helper.make_graph([add], "graph", [rgb], [colored], [weights])
    opset = helper.make_opsetid("", export_onnx.OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    Path("wgan.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Exception, match=r"model_path must not be empty|External data path"):
        exec(ONNX_LOADER, {"rgb": np.zeros(4, np.float32)})


def test_a_program_that_does_something_else_is_not_written(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = dict(export.FORMATS)
    make, _, shape = formats["stablehlo"]
    formats["stablehlo"] = (make, lambda content: lambda rgb: np.full_like(rgb, np.nan), shape)
    monkeypatch.setattr(export, "FORMATS", formats)
    with pytest.raises(UserError, match="differ from the model's by nan"):
        export_model(model_folder, "stablehlo")


def test_an_unknown_format_is_an_error(model_folder: Path) -> None:
    with pytest.raises(UserError, match="choose stablehlo or onnx"):
        export_model(model_folder, "tflite")
