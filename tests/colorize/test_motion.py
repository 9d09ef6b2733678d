"""Motion between frames, colour carried along it, and cuts."""

import numpy as np
import pytest
from PIL import Image

from colorjax.colorize.motion import SIDE, Motion, Stabilizer, find_motion, shrink_gray

STEP = 8  # pixels of motion, a whole pixel of a map of 32


def texture(seed: int, shape: tuple[int, int] = (SIDE, SIDE + 4 * STEP)) -> np.ndarray:
    """Smooth random gray with detail at several sizes, float (H, W) in 0..255."""
    generator = np.random.default_rng(seed)
    total = np.zeros(shape)
    for cells in (8, 24, 64):
        noise = Image.fromarray(generator.random((cells, cells)).astype(np.float32))
        total += np.asarray(noise.resize(shape[::-1], Image.Resampling.BICUBIC)) / 3
    return np.clip(total * 255, 0, 255)


def gray(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def pan(frame: int, seed: int = 0) -> np.ndarray:
    """A frame of a camera that moves to the right."""
    return gray(texture(seed)[:, frame * STEP : frame * STEP + SIDE])


def test_motion_is_that_of_the_picture() -> None:
    motion = find_motion(pan(0), pan(1))
    assert motion is not None
    inside = motion.flow[16:-16, 16 : -16 - STEP]
    np.testing.assert_allclose(inside[..., 0].mean(), STEP, atol=0.1)
    np.testing.assert_allclose(inside[..., 1].mean(), 0.0, atol=0.1)
    assert motion.trust[16:-16, 16 : -16 - STEP].mean() > 0.95
    assert motion.trust[:, -STEP:].max() == 0  # came into sight


def test_grain_and_brightness_are_not_motion() -> None:
    generator = np.random.default_rng(0)
    scene = texture(0)[:, :SIDE]
    frames = [gray(scene * gain + generator.normal(0, 4, scene.shape)) for gain in (1.0, 1.06)]
    motion = find_motion(*frames)
    assert motion is not None
    assert motion.trust.mean() > 0.9
    assert np.abs(motion.flow).mean() < 0.3


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(pan(0, seed=1), id="another scene"),
        pytest.param(np.full((SIDE, SIDE), 5, np.uint8), id="black"),
        pytest.param(255 - pan(0), id="negative"),
    ],
)
def test_a_cut_has_no_motion(after: np.ndarray) -> None:
    assert find_motion(pan(0), after) is None
    assert find_motion(after, pan(0)) is None


def test_what_comes_from_behind_is_not_trusted() -> None:
    background, disc = texture(0), texture(1)

    def frame(left: int) -> np.ndarray:
        picture = background[:, :SIDE].copy()
        picture[80:176, left : left + 96] = 255 - 0.5 * disc[80:176, :96]
        return gray(picture)

    motion = find_motion(frame(64), frame(64 + STEP))
    assert motion is not None
    assert motion.trust[90:166, 64 : 64 + STEP].mean() < 0.2  # uncovered
    assert motion.trust[90:166, 64 + 24 : 64 + 80].mean() > 0.9  # the moving part itself
    assert motion.trust[:60].mean() > 0.95  # the background far from it


def shift(right: float) -> Motion:
    """Return a motion of the whole picture, trusted everywhere."""
    flow = np.zeros((SIDE, SIDE, 2), np.float32)
    flow[..., 0] = right
    return Motion(flow, np.ones((SIDE, SIDE), np.float32))


def test_a_translation_carries_colour_exactly() -> None:
    """Told nothing new, the mean of what was predicted for a thing is what was predicted for it."""
    ab = np.random.default_rng(0).normal(0, 30, (32, 40, 2)).astype(np.float32)
    stabilizer = Stabilizer()
    for frame in range(4):
        view = ab[:, frame : frame + 32].copy()
        steadied = stabilizer.steady(view, shift(STEP) if frame else None)
        np.testing.assert_allclose(steadied[:, :-4], view[:, :-4], atol=1e-4)


def test_predictions_of_one_thing_are_averaged() -> None:
    stabilizer = Stabilizer(memory=4.0)
    shown = [
        stabilizer.steady(np.full((32, 32, 2), value, np.float32), shift(0) if index else None)
        for index, value in enumerate((0.0, 12.0, 3.0, 9.0, 2.0))
    ]
    # Means of 1, 2, 3 and 4 predictions, then 3 / 4 of the last mean and 1 / 4 of the new one.
    np.testing.assert_allclose([ab.mean() for ab in shown], [0, 6, 5, 6, 5], rtol=1e-6)


def test_what_is_not_trusted_is_as_predicted() -> None:
    trust = np.ones((SIDE, SIDE), np.float32)
    trust[:, : SIDE // 2] = 0
    stabilizer = Stabilizer()
    stabilizer.steady(np.full((32, 32, 2), 50, np.float32), None)
    motion = Motion(np.zeros((SIDE, SIDE, 2), np.float32), trust)
    steadied = stabilizer.steady(np.zeros((32, 32, 2), np.float32), motion)
    np.testing.assert_array_equal(steadied[:, :16], 0)
    np.testing.assert_allclose(steadied[:, 16:], 25)


def test_a_cut_forgets_everything() -> None:
    stabilizer = Stabilizer()
    for _ in range(3):
        stabilizer.steady(np.full((8, 8, 2), 50, np.float32), shift(0))
    new = np.full((8, 8, 2), -20, np.float32)
    np.testing.assert_array_equal(stabilizer.steady(new, None), new)
    np.testing.assert_array_equal(stabilizer.steady(new, shift(0)), new)


def test_frames_of_any_shape_shrink_to_one_square() -> None:
    for height, width in ((1, 1), (1, 900), (3, 2), (1080, 1920)):
        image = np.full((height, width, 3), 99, np.uint8)
        np.testing.assert_array_equal(shrink_gray(image), np.full((SIDE, SIDE), 99))
