"""How a prediction is shown: depth, alpha, lightness and upsampling."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from colorjax import Colorizer, configuration
from colorjax.colorize.pictures import Photo
from colorjax.errors import UserError
from colorjax.models import create_networks, generator_shapes

CONSTANT = (20.0, -15.0)  # ab of step 1 of `model_folder`
ORANGE = (0.8, 0.5, 0.3)


@pytest.fixture(scope="module")
def constant_colorizer(model_folder: Path) -> Colorizer:
    return Colorizer.load(f"{model_folder}@1")


@pytest.fixture(scope="module")
def orange_colorizer(model_folder: Path) -> Colorizer:
    """A network of RGB that predicts orange everywhere."""
    config = configuration.read_config(model_folder)
    config.codec = "rgb"
    networks = create_networks(config)
    variables = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), generator_shapes(networks))
    variables["params"]["Conv_0"]["bias"] = jnp.array(ORANGE)
    return Colorizer(networks, variables)


@pytest.mark.parametrize("upsample", ["guided", "bicubic"])
def test_sixteen_bits_keep_their_depth(constant_colorizer: Colorizer, upsample: str) -> None:
    ramp = np.linspace(20_000, 30_000, 4096).astype(np.uint16)
    image = np.repeat(ramp[None], 3, axis=0)
    result = constant_colorizer.colorize(image, upsample=upsample)
    assert result.dtype == np.uint16
    lab = rgb2lab(np.stack([image] * 3, axis=-1))
    lab[..., 1:] = CONSTANT
    # 8 bits would be off by up to 128.
    assert np.abs(65535 * lab2rgb(lab) - result).max() < 8


def test_alpha_hides_from_the_network_and_not_from_the_result(model_folder: Path) -> None:
    colorizer = Colorizer.load(model_folder)
    pixels = np.random.default_rng(0).integers(90, 150, (40, 40, 3), dtype=np.uint8)
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, :20] = 255
    hidden = pixels.copy()
    hidden[:, 20:] = 7
    results = [colorizer.colorize(Photo(p, alpha), upsample="bicubic") for p in (pixels, hidden)]
    np.testing.assert_array_equal(results[0][:, :20], results[1][:, :20])
    assert results[1][:, 20:].max() < 40  # not laid on white


def test_the_networks_own_lightness_is_shown_on_request(
    orange_colorizer: Colorizer, constant_colorizer: Colorizer
) -> None:
    image = np.random.default_rng(0).integers(100, 160, (30, 50), dtype=np.uint8)
    own = orange_colorizer.colorize(image, lightness="network")
    assert np.abs(own - 255 * np.array(ORANGE)).max() <= 1
    kept = rgb2lab(orange_colorizer.colorize(image))
    true = rgb2lab(np.stack([image] * 3, axis=-1))[..., 0]
    assert np.abs(kept[..., 0] - true).max() < 0.5
    np.testing.assert_allclose(
        kept[..., 1:].mean(axis=(0, 1)), rgb2lab(np.array(ORANGE))[1:], atol=1.5
    )
    np.testing.assert_array_equal(
        constant_colorizer.colorize(image, lightness="network"), constant_colorizer.colorize(image)
    )


def test_saturation_and_upsampling_agree_where_the_prediction_is_flat(
    constant_colorizer: Colorizer,
) -> None:
    image = np.random.default_rng(0).integers(100, 160, (30, 50), dtype=np.uint8)
    guided, bicubic = (
        constant_colorizer.colorize(image, saturation=0.5, upsample=name).astype(int)
        for name in ("guided", "bicubic")
    )
    assert np.abs(guided - bicubic).max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"upsample": "nearest"}, "guided or bicubic"), ({"lightness": "own"}, "input or network")],
)
def test_unknown_ways(constant_colorizer: Colorizer, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        constant_colorizer.colorize(np.zeros((4, 4), np.uint8), **options)
