import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from colorjax import color
from colorjax.errors import UserError

LEVELS = np.arange(256) / 255


def grid(levels: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)


def faces() -> np.ndarray:
    u, v = (axis.ravel() for axis in np.meshgrid(LEVELS, LEVELS))
    ends = [np.full_like(u, end) for end in (0, 1)]
    return np.concatenate(
        [np.stack(np.roll([end, u, v], shift, 0), -1) for shift in range(3) for end in ends]
    )


# The whole cube coarsely, its faces (and so its edges) at 8 bits, and the dark corner, where both
# curves change their formula, more finely than 8 bits.
REGIONS = {
    "cube": grid(np.linspace(0, 1, 41)),
    "faces": faces(),
    "dark": grid(np.linspace(0, 0.15, 41)),
    "grays": np.repeat(LEVELS[:, None], 3, -1),
    "between": np.random.default_rng(0).random((50_000, 3)),
}


@pytest.mark.parametrize("region", REGIONS)
def test_lab_matches_scikit_image(region: str) -> None:
    rgb = REGIONS[region]
    assert np.abs(jax.jit(color.rgb_to_lab)(rgb) - rgb2lab(rgb)).max() < 1e-3


@pytest.mark.parametrize("region", REGIONS)
def test_round_trip(region: str) -> None:
    rgb = REGIONS[region]
    back = jax.jit(lambda rgb: color.lab_to_rgb(color.rgb_to_lab(rgb)))(rgb)
    assert np.abs(back - rgb).max() < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(jax.devices()[0].platform != "gpu", reason="JAX sees no GPU")
@pytest.mark.parametrize("region", REGIONS)
def test_on_gpu(region: str) -> None:
    test_lab_matches_scikit_image(region)
    test_round_trip(region)


@pytest.mark.filterwarnings("ignore:.*negative Z")
def test_inverse_matches_scikit_image() -> None:
    low, high = (0, -60, -60), (100, 60, 60)
    lab = np.random.default_rng(1).uniform(low, high, (20_000, 3))
    np.testing.assert_allclose(color.lab_to_rgb(lab), lab2rgb(lab), atol=1e-4)


@pytest.mark.parametrize("lab", [(50.0, 300.0, -300.0), (0.0, 90.0, 90.0), (120.0, 0.0, 0.0)])
def test_colors_outside_srgb_are_clipped(lab: tuple[float, float, float]) -> None:
    rgb = color.lab_to_rgb(jnp.array(lab))
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_gradients_are_finite_everywhere() -> None:
    thresholds = [0.0, 0.0031308, 0.008856, 0.04045, 0.5, 1.0]
    rgb = jnp.asarray(grid(np.array(thresholds)), jnp.float32)
    outside = jnp.array([[0.0, 0, 0], [100, 0, 0], [50, 300, -300], [-5, 0, 0], [8, 0, 0]])
    lab = jnp.concatenate([color.rgb_to_lab(rgb), outside])
    for function, points in ((color.rgb_to_lab, rgb), (color.lab_to_rgb, lab)):
        gradients = jax.jit(jax.vmap(jax.jacobian(function)))(points)
        assert np.isfinite(np.asarray(gradients)).all()


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (color.rgb_to_lab, rgb2lab, (0.1, 0.1, 0.1), (0.9, 0.9, 0.9)),
        (color.lab_to_rgb, lab2rgb, (40, -15, -15), (60, 15, 15)),
    ],
)
def test_gradients_match_central_differences(ours, theirs, low, high) -> None:  # type: ignore
    points = np.random.default_rng(2).uniform(low, high, (50, 3))
    step = 1e-5
    expected = np.stack(
        [(theirs(points + step * e) - theirs(points - step * e)) / (2 * step) for e in np.eye(3)],
        -1,
    )
    gradients = jax.jit(jax.vmap(jax.jacobian(ours)))(jnp.asarray(points, jnp.float32))
    np.testing.assert_allclose(gradients, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_lower_precision_is_computed_in_float32(dtype: jnp.dtype) -> None:
    rgb = jnp.asarray(REGIONS["between"][:100], dtype)
    lab = color.rgb_to_lab(rgb)
    assert lab.dtype == color.lab_to_rgb(lab.astype(dtype)).dtype == jnp.float32
    np.testing.assert_allclose(lab, rgb2lab(np.asarray(rgb, np.float64)), atol=1e-3)


def test_leading_axes_and_vmap() -> None:
    rgb = jnp.asarray(REGIONS["between"][:24].reshape(2, 3, 4, 3), jnp.float32)
    flat = color.rgb_to_lab(rgb.reshape(-1, 3)).reshape(rgb.shape)
    np.testing.assert_allclose(color.rgb_to_lab(rgb), flat, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(color.rgb_to_lab)(rgb), flat, atol=1e-5)


def test_images_come_back_exactly() -> None:
    image = np.arange(256, dtype=np.uint8)
    rgb = color.to_rgb(image)
    assert rgb.dtype == jnp.float32
    assert (rgb[0], rgb[-1]) == (0, 1)
    back = color.to_image(rgb)
    assert back.dtype == jnp.uint8
    np.testing.assert_array_equal(back, image)


def test_to_image_rounds_and_clips() -> None:
    values = jnp.array([-0.3, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.7])
    np.testing.assert_array_equal(color.to_image(values), [0, 0, 1, 255, 255])


@pytest.fixture(scope="module")
def pictures() -> jax.Array:
    return jnp.asarray(np.random.default_rng(3).random((2, 4, 5, 3)), jnp.float32)


@pytest.mark.parametrize("name", color.CODECS)
def test_codec_shapes_and_way_back(name: str, pictures: jax.Array) -> None:
    codec = color.get_codec(name)
    network_input, target = jax.jit(codec.encode)(pictures)
    assert network_input.shape == (2, 4, 5, codec.input_channels)
    assert target.shape == (2, 4, 5, codec.output_channels)
    assert codec.critic_image(network_input, target).shape == pictures.shape
    np.testing.assert_allclose(codec.decode(network_input, target), pictures, atol=1e-4)
    lab = rgb2lab(np.asarray(pictures, np.float64))
    np.testing.assert_allclose(codec.predicted_ab(network_input, target), lab[..., 1:], atol=1e-3)
    np.testing.assert_allclose(codec.target_from_lab(lab), target, atol=1e-4)
    from_lightness = codec.input_from_lightness(lab[..., :1])
    np.testing.assert_allclose(from_lightness, network_input, atol=1e-5)


@pytest.mark.parametrize("name", color.CODECS)
def test_codec_is_a_value(name: str) -> None:
    assert jax.jit(lambda codec: codec.input_channels, static_argnums=0)(color.CODECS[name]) > 0


@pytest.mark.parametrize("name", color.CODECS)
def test_codec_promotes_predictions_of_low_precision(name: str, pictures: jax.Array) -> None:
    codec = color.get_codec(name)
    network_input, target = codec.encode(pictures)
    low = target.astype(jnp.bfloat16)
    for method in (codec.decode, codec.critic_image, codec.predicted_ab):
        result = method(network_input, low)
        assert result.dtype == jnp.float32
        np.testing.assert_array_equal(result, method(network_input, low.astype(jnp.float32)))


@pytest.mark.parametrize(
    ("name", "gray", "ab_scale"),
    [
        ("lab_centered", lambda lightness: lightness / 50 - 1, 110),
        ("lab_unit", lambda lightness: lightness / 100, 128),
    ],
)
def test_lab_codecs_normalise_as_published(name, gray, ab_scale, pictures) -> None:  # type: ignore
    lab = rgb2lab(np.asarray(pictures, np.float64))
    expected = np.concatenate([gray(lab[..., :1]), lab[..., 1:] / ab_scale], -1)
    codec = color.get_codec(name)
    network_input, target = codec.encode(pictures)
    np.testing.assert_allclose(network_input, expected[..., :1], atol=1e-5)
    np.testing.assert_allclose(target, expected[..., 1:], atol=1e-5)
    np.testing.assert_allclose(codec.critic_image(network_input, target), expected, atol=1e-5)


def test_rgb_codec_reads_a_gray_picture_of_the_same_lightness(pictures: jax.Array) -> None:
    codec = color.get_codec("rgb")
    gray, target = codec.encode(pictures)
    np.testing.assert_array_equal(target, pictures)
    lab = rgb2lab(np.asarray(pictures, np.float64))
    neutral = lab2rgb(lab * [1, 0, 0])
    np.testing.assert_allclose(gray, neutral, atol=1e-4)
    assert np.ptp(gray, axis=-1).max() == 0


def test_rgb_codec_clips_predictions_but_shows_the_critic_all() -> None:
    codec = color.get_codec("rgb")
    gray, wild = jnp.zeros((1, 1, 3)), jnp.array([[[-1.0, 0.5, 2.0]]])
    np.testing.assert_array_equal(codec.decode(gray, wild), [[[0, 0.5, 1]]])
    np.testing.assert_array_equal(codec.critic_image(gray, wild), wild)


def test_unknown_codec_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"'lab'.*lab_centered, lab_unit, rgb"):
        color.get_codec("lab")
