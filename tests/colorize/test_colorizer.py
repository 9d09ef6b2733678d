"""Colorizer: pictures of any kind in, their lightness kept, the model's colour put on it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from skimage.color import lab2rgb, rgb2lab

from colorjax import Colorizer, Hint, configuration
from colorjax.errors import UserError

CONSTANT = (20.0, -15.0)  # ab of step 1 of `model_folder`


@pytest.fixture(scope="module")
def constant_colorizer(model_folder: Path) -> Colorizer:
    return Colorizer.load(f"{model_folder}@1")


@pytest.fixture(scope="module")
def colorizer(model_folder: Path) -> Colorizer:
    return Colorizer.load(model_folder)


@pytest.fixture
def copied_model(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def draw(height: int, width: int, low: int = 0, high: int = 256) -> np.ndarray:
    generator = np.random.default_rng(height * 10_000 + width)
    return generator.integers(low, high, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 300), (300, 1), (17, 23), (411, 701), (1, 140_000), (2, 3)]
)
def test_any_shape_gets_the_colour_that_the_model_predicts(
    constant_colorizer: Colorizer, height: int, width: int
) -> None:
    image = draw(height, width, 90, 150)
    result = constant_colorizer.colorize(image)
    assert result.dtype == np.uint8
    assert result.shape == (height, width, 3)
    # Independent: scikit-image joins the same lightness with the constant.
    lab = rgb2lab(image)
    lab[..., 1:] = CONSTANT
    expected = np.round(255 * lab2rgb(lab)).astype(int)
    assert np.abs(expected - result).max() <= 1


def test_predicted_ab_is_the_networks_own(constant_colorizer: Colorizer) -> None:
    ab = constant_colorizer.predict_ab(draw(30, 50), size=32)
    assert ab.shape == (32, 32, 2)
    np.testing.assert_allclose(ab, np.broadcast_to(CONSTANT, ab.shape), rtol=1e-5)


@pytest.mark.parametrize("size", [16, 136])  # of few pixels, and of more
def test_fast_convolutions_predict_as_xlas_own_do(colorizer, model_folder, monkeypatch, size):
    ab = colorizer.predict_ab(draw(30, 50), size=size)
    monkeypatch.setenv("COLORJAX_FOLDED_CONVOLUTIONS", "0")
    expected = Colorizer.load(model_folder).predict_ab(draw(30, 50), size=size)
    np.testing.assert_allclose(ab, expected, atol=1e-3)
    assert np.ptp(expected) > 1.0


def test_lightness_is_kept_where_the_colour_can_not_be_shown(
    constant_colorizer: Colorizer,
) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 3, axis=0)
    vivid = constant_colorizer.colorize(ramp, saturation=8.0)
    difference = rgb2lab(vivid)[..., 0] - rgb2lab(np.stack([ramp] * 3, axis=-1))[..., 0]
    assert np.abs(difference).max() < 0.5
    assert np.ptp(vivid[0, 128].astype(int)) > 150


def test_saturation_scales_the_colour(constant_colorizer: Colorizer) -> None:
    image = np.full((5, 4), 130, np.uint8)
    assert (constant_colorizer.colorize(image, saturation=0.0) == 130).all()
    lab = rgb2lab(constant_colorizer.colorize(image, saturation=2.0))
    np.testing.assert_allclose(lab[..., 1:], np.broadcast_to((40, -30), (5, 4, 2)), atol=0.6)


def test_colours_of_the_picture_itself_do_not_come_through(colorizer: Colorizer) -> None:
    image = draw(40, 30)
    gray = np.stack([rgb2lab(image)[..., 0], *np.zeros((2, 40, 30))], axis=-1)
    gray = np.round(255 * lab2rgb(gray)).astype(np.uint8)
    # Squashing a gray picture and squashing a coloured one give slightly different lightness.
    assert np.abs(colorizer.colorize(image).astype(int) - colorizer.colorize(gray)).mean() < 3


def test_many_pictures_come_out_in_order_and_as_one_by_one(colorizer: Colorizer) -> None:
    images = [draw(8 + index, 60 - 3 * index) for index in range(11)]
    results = list(colorizer.colorize_many(iter(images)))
    assert len(results) == len(images)
    for image, result in zip(images, results, strict=True):
        assert np.abs(colorizer.colorize(image).astype(int) - result).max() <= 1
    assert np.ptp(rgb2lab(results[0])[..., 1:]) > 1  # this model has something to say


def test_many_pictures_are_read_when_their_batch_comes(colorizer: Colorizer) -> None:
    taken = []

    def images():
        for index in range(100):
            taken.append(index)
            yield draw(4, 4)

    next(colorizer.colorize_many(images()))
    assert len(taken) < 20


def test_path_image_and_array_give_the_same(colorizer: Colorizer, tmp_path: Path) -> None:
    image = draw(20, 31)
    path = tmp_path / "picture.png"
    Image.fromarray(image).save(path)
    expected = colorizer.colorize(image)
    for picture in (path, str(path), Image.fromarray(image)):
        np.testing.assert_array_equal(colorizer.colorize(picture), expected)


def test_another_size_is_another_prediction(colorizer: Colorizer) -> None:
    image = draw(64, 64)
    assert (colorizer.colorize(image, size=32) != colorizer.colorize(image)).any()
    np.testing.assert_array_equal(colorizer.colorize(image, size=16), colorizer.colorize(image))


@contextmanager
def counting_compilations() -> Iterator[list[str]]:
    """Provide a list that gets an entry for each program that JAX compiles, or finds on disk."""
    compiled: list[str] = []
    is_open = True

    def listen(event: str, duration: float, **details: object) -> None:
        if is_open and event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(details))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        is_open = False  # JAX has no public way to take away one listener


def test_compilations_are_counted() -> None:
    with counting_compilations() as compiled:
        jax.jit(lambda x: x * 3.0 + 41.0)(np.ones(7))
    assert len(compiled) == 1


SHAPES = [(60, 90), (300, 7)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"upsample": "bicubic", "saturation": 1.5},
        {"hints": [Hint(0, 0, "#c03028")]},
        {"hints": [Hint(0, 0, "#2080a0")], "upsample": "bicubic"},
        {"reference": np.full((9, 5), 128, np.uint8)},
        {"size": 32, "lightness": "network"},
    ],
    ids=["guided", "bicubic", "hint", "bicubic-hint", "reference", "size"],
)
def test_pictures_of_other_sizes_compile_nothing(colorizer: Colorizer, options: dict) -> None:
    colorizer.colorize(draw(20, 30), **options)
    colorizer.colorize(draw(20, 30).astype(np.uint16), **options)
    with counting_compilations() as compiled:
        for height, width in SHAPES:
            colorizer.colorize(draw(height, width), **options)
        colorizer.colorize(draw(31, 17).astype(np.uint16), **options)
    assert compiled == []


def test_batches_of_other_sizes_compile_nothing(colorizer: Colorizer) -> None:
    for count in (2, 1):  # a batch, which is filled up, and a picture alone
        list(colorizer.colorize_many([draw(20, 30)] * count))
    with counting_compilations() as compiled:
        for count in (3, 1):
            list(colorizer.colorize_many(draw(7 + count, 9 * index + 1) for index in range(count)))
    assert compiled == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 15}, "multiple of 2"),
        ({"size": 0}, "multiple of 2"),
        ({"saturation": -1.0}, "0 or more"),
        ({"saturation": float("nan")}, "0 or more"),
    ],
)
def test_arguments_out_of_range(colorizer: Colorizer, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        colorizer.colorize(draw(4, 4), **options)
    with pytest.raises(UserError, match=message):
        colorizer.colorize_many([], **options)


def test_a_model_is_config_and_generator(model_folder: Path, tmp_path: Path) -> None:
    shutil.copy(model_folder / "config.json", tmp_path)
    shutil.copytree(model_folder / "best/2/generator", tmp_path / "generator")
    shutil.copy(model_folder / "best/2/checksums.json", tmp_path)
    image = draw(9, 9)
    expected = Colorizer.load(model_folder).colorize(image)
    np.testing.assert_array_equal(Colorizer.load(tmp_path).colorize(image), expected)


def test_every_flipped_byte_is_noticed(copied_model: Path) -> None:
    files = [path for path in (copied_model / "best/2/generator").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        Colorizer.load(copied_model)


def test_a_missing_file_is_noticed_without_checksums(copied_model: Path) -> None:
    (copied_model / "best/2/checksums.json").unlink()
    files = [path for path in (copied_model / "best/2/generator").rglob("*") if path.is_file()]
    max(files, key=lambda path: path.stat().st_size).unlink()
    with pytest.raises(UserError, match="restore it from a copy"):
        Colorizer.load(copied_model)


def test_weights_of_another_network_are_refused(copied_model: Path) -> None:
    config = configuration.read_config(copied_model)
    config.generator.widths = (4, 16)
    configuration.save_config(config, copied_model)
    with pytest.raises(UserError, match="doesn't fit the network"):
        Colorizer.load(copied_model)


def test_weights_that_are_not_finite_are_refused(model_folder: Path) -> None:
    broken = Colorizer.load(model_folder)
    broken._variables["params"]["Conv_0"]["bias"] = np.full(2, np.nan, np.float32)
    with pytest.raises(UserError, match="no finite colours"):
        broken.colorize(draw(4, 4))


def test_models_that_are_none(model_folder: Path, tmp_path: Path, nothing_shipped: None) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/config.json").write_text(json.dumps({"hidden_size": 768}))
    (tmp_path / "foreign/generator").mkdir()
    (tmp_path / "list").mkdir()
    (tmp_path / "list/config.json").write_text("[1]")
    for model, message in {
        None: "No model is shipped",
        tmp_path / "nowhere": "There is no model",
        tmp_path / "file": "is a file",
        tmp_path: "no config.json",
        tmp_path / "foreign": "not that of a colorjax model",
        tmp_path / "list": "damaged",
        f"{model_folder}@3": "no checkpoint of step 3",
    }.items():
        with pytest.raises(UserError, match=message):
            Colorizer.load(model)


@pytest.mark.photos
def test_a_real_photo_keeps_its_lightness(colorizer: Colorizer) -> None:
    photos = Path(__file__).parents[3] / "shared/data/flowers"
    if not photos.is_dir():
        pytest.skip("the photos of ../shared/data are not here")
    photo = min(photos.rglob("*.jpg"))
    before = rgb2lab(np.asarray(Image.open(photo).convert("RGB")))[..., 0]
    after = rgb2lab(colorizer.colorize(photo))[..., 0]
    assert np.abs(before - after).mean() < 0.25
