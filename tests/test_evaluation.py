import jax
import numpy as np
import pytest
from skimage.color import rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from colorjax import color, data, evaluation, models, parallel
from colorjax.colorize.upsampling import resize_guided
from colorjax.errors import UserError
from configs import common


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Seven smooth pictures of 16 pixels."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def evaluator() -> tuple[evaluation.Evaluator, dict]:
    codec = color.get_codec("lab_centered")
    generator = models.UNet(widths=(4, 8))
    variables = generator.init(jax.random.key(0), np.zeros((1, 16, 16, 1)), False)
    return evaluation.Evaluator(codec, generator, parallel.create_mesh()), variables


def make_batches(images: np.ndarray, batch_size: int):
    return data.make_evaluation_batches(images, np.arange(len(images)), batch_size=batch_size)


def test_every_picture_counts_once_whatever_the_batch(evaluator, images):
    measure, variables = evaluator
    by_three, whole = (
        measure.evaluate(variables, make_batches(images, size), {}) for size in (3, 7)
    )
    assert by_three.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(by_three[name], value, rtol=1e-5, err_msg=name)


def test_intervals_are_those_of_the_mean_of_normal_values():
    values = np.random.default_rng(1).normal(20.0, 3.0, 900)
    [(low, high)] = evaluation.bootstrap_intervals({"psnr": values}).values()
    margin = 1.96 * values.std() / 30  # by the central limit theorem
    np.testing.assert_allclose(
        [low, high], values.mean() + np.array([-margin, margin]), atol=margin / 10
    )
    assert evaluation.bootstrap_intervals({"psnr": values[:1]})["psnr"] == (values[0], values[0])


def test_coloured_pictures_are_those_that_are_measured(evaluator, images):
    measure, variables = evaluator
    colored = measure.colorize(variables, images)
    pairs = zip(images, colored, strict=True)
    psnr = np.mean([peak_signal_noise_ratio(true, guess) for true, guess in pairs])
    measured = measure.evaluate(variables, make_batches(images, 7), {})["psnr"]
    np.testing.assert_allclose(psnr, measured, atol=0.05)  # uint8 rounds


def test_a_network_of_rgb_gives_its_colour_alone_at_another_size(images):
    codec = color.get_codec("rgb")
    generator = models.UNet(widths=(4, 8), output_channels=3)
    variables = generator.init(jax.random.key(0), np.zeros((1, 8, 8, 3)), False)
    resizing = evaluation.Resizing(8, jax.vmap(resize_guided))
    measure = evaluation.Evaluator(codec, generator, parallel.create_mesh(), resizing=resizing)
    colored = measure.colorize(variables, images)
    figures = measure.evaluate(variables, make_batches(images, 7), {})
    pairs = list(zip(images, colored, strict=True))
    psnr = np.mean([peak_signal_noise_ratio(true, guess) for true, guess in pairs])
    l1 = np.mean([np.abs(true / 255.0 - guess / 255.0) for true, guess in pairs])
    assert figures["psnr"] == pytest.approx(psnr, abs=0.05)  # uint8 rounds
    assert figures["l1"] == pytest.approx(l1, abs=2e-3)
    changes = np.abs(rgb2lab(colored)[..., 0] - rgb2lab(images)[..., 0])
    assert np.median(changes) < 0.5  # but where clipped


def test_a_grey_photo_does_not_make_the_mean_infinite(images):
    gray = np.repeat(images[..., :1], 3, axis=-1)
    both = np.concatenate([images, gray])
    mesh = parallel.create_mesh()
    baselines = evaluation.evaluate_baselines(lambda: make_batches(both, 7), mesh)
    assert all(np.isfinite(value) for value in baselines.values())
    assert baselines["gray_psnr"] <= 100.0


def test_gray_images_keep_lightness_and_lose_colour(images):
    lab = np.asarray(color.rgb_to_lab(color.to_rgb(evaluation.gray_images(images))))
    original = np.asarray(color.rgb_to_lab(color.to_rgb(images)))
    assert np.abs(lab[..., 1:]).max() < 0.02
    assert np.abs(lab[..., 0] - original[..., 0]).max() < 0.5  # uint8 rounds


@pytest.mark.parametrize(("wanted", "pictures", "expected"), [(8, 100, 8), (8, 5, 5), (8, 8, 8)])
def test_batch_size_shrinks_to_the_pictures(wanted, pictures, expected):
    assert parallel.fit_batch_size(wanted, pictures, parallel.create_mesh()) == expected


def test_a_batch_that_cannot_be_shared_is_an_error():
    with pytest.raises(UserError, match="can't be shared by 1 device"):
        parallel.fit_batch_size(0, 10, parallel.create_mesh())


def test_figures_are_of_the_prepared_pictures(evaluator, images):
    whole, variables = evaluator
    framed = np.pad(images, [(0, 0), (3, 3), (1, 2), (0, 0)], constant_values=200)
    fields = common.data()
    fields.crop_size = 16
    prepare = data.make_prepare(fields, 16)
    mesh = parallel.create_mesh()
    generator = models.UNet(widths=(4, 8))
    codec = color.get_codec("lab_centered")
    cut = evaluation.Evaluator(codec, generator, mesh, prepare=prepare)
    figures, expected = (
        each.evaluate(variables, make_batches(pictures, 7), {})
        for each, pictures in ((cut, framed), (whole, images))
    )
    assert figures == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(
        cut.colorize(variables, framed), whole.colorize(variables, images)
    )
    baselines = evaluation.evaluate_baselines(lambda: make_batches(framed, 7), mesh, prepare)
    plain = evaluation.evaluate_baselines(lambda: make_batches(images, 7), mesh)
    assert baselines == pytest.approx(plain, rel=1e-5)
