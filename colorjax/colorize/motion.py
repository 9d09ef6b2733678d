"""Motion between the frames of a film, and predicted colour carried along it.

A network colours each frame by itself, and what it predicts for one thing changes from frame to
frame: the film flickers. Here the colour of the frames before is carried to where its things have
moved (as Lai and others do, Learning Blind Video Temporal Consistency, 2018, and Lei and others,
Blind Video Temporal Consistency via Deep Video Prior, 2020, but without training), and the mean is
shown of what was predicted for a thing lately. Where the motion can't be trusted, as on what comes
into sight, the frame's own prediction stands; a cut forgets everything.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Pixels a side of the square on which motion is found. Squashed frames will do, as the network's
# are, and flow of half a pixel here is far below a pixel of predicted colour.
SIDE = 256

# Forward and backward flow contradict each other where their squared sum is above
# _SHARE * (squared lengths) + _SLACK: Sundaram, Brox, Keutzer, Dense Point Trajectories by
# GPU-Accelerated Large Displacement Optical Flow, 2010.
_SHARE, _SLACK = 0.01, 0.5
# Levels of gray by which the carried picture may be wrong, blurred by so many pixels against grain,
# after a change of brightness of the whole by a factor of at the most _GAIN.
_RESIDUAL, _BLUR, _GAIN = 12.0, 1.5, 1.3
# Pixels beside what can't be trusted that aren't either: predicted colour lies on a coarser grid,
# and flow is wrong beside what comes into sight.
_BESIDE = 3
# A cut: less of the picture than this share is trusted (above 0.45 within scenes, below 0.04 across
# cuts, in photos that were moved), or gray changes by so many levels on average, sorted.
_TRUSTED, _LEVELS = 0.2, 50.0


@dataclass(frozen=True)
class Motion:
    """From where in the frame before each pixel of a frame comes.

    Attributes:
      flow: float32 (SIDE, SIDE, 2), x and y in pixels, from a pixel to where it was before.
      trust: float32 (SIDE, SIDE), 1 where that is so, 0 where it was not to be seen before.
    """

    flow: np.ndarray
    trust: np.ndarray


class Stabilizer:
    """Steadies the predicted colour of a film's frames, one after the other.

    Args:
      memory: how many frames a prediction counts for, at the least 1: the carried mean of so many
        and a new prediction are averaged with the weights `memory - 1` and 1.
    """

    def __init__(self, memory: float = 12.0) -> None:
        self._memory = memory
        self._ab: np.ndarray | None = None
        self._count = np.zeros(0, np.float32)

    def steady(self, ab: np.ndarray, motion: Motion | None) -> np.ndarray:
        """Return the colour to show for a frame.

        Args:
          ab: float32 (S, S, 2), as predicted for the frame.
          motion: from the frame before; None after a cut, and for the first frame.

        Returns:
          float32 (S, S, 2): where motion is trusted, the mean of what was predicted for the same
          thing in this frame and the last ones; elsewhere `ab`.
        """
        if motion is None or self._ab is None or self._ab.shape != ab.shape:
            self._ab, self._count = ab, np.ones(ab.shape[:2], np.float32)
            return ab
        carried, count = _carry(self._ab, self._count, motion)
        count = np.minimum(count, self._memory - 1.0)
        self._ab = carried + (ab - carried) / (count + 1.0)[..., None]
        self._count = count + 1.0
        return self._ab


def shrink_gray(image: np.ndarray) -> np.ndarray:
    """Return a frame, uint8 (H, W, 3), as the gray square on which motion is found.

    The result is uint8 (SIDE, SIDE).
    """
    import cv2

    square = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)


def find_motion(before: np.ndarray, now: np.ndarray) -> Motion | None:
    """Return the motion between frames, or None if there is a cut between them.

    Optical flow by dense inverse search (Kroeger and others, Fast Optical Flow using Dense Inverse
    Search, 2016), both ways.

    Args:
      before: the earlier frame, from `shrink_gray`.
      now: the later one.
    """
    import cv2

    if _compare_levels(before, now) > _LEVELS:
        return None
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = search.calc(now, before, None)
    back = search.calc(before, now, None)
    places = _grid(SIDE) + flow
    trust = _agreement(flow, _sample(back, places)) * _likeness(before, now, places)
    trust *= np.all((places > -0.5) & (places < SIDE - 0.5), axis=-1)
    if trust.mean() < _TRUSTED:
        return None
    window = np.ones((2 * _BESIDE + 1, 2 * _BESIDE + 1), np.uint8)
    return Motion(flow, cv2.erode(trust.astype(np.float32), window))


def _compare_levels(before: np.ndarray, now: np.ndarray) -> float:
    """Return the mean change of gray if each frame's pixels were sorted (the earth mover's)."""
    counts = [np.bincount(frame.ravel(), minlength=256) for frame in (before, now)]
    return float(np.abs(np.cumsum(counts[0] - counts[1])).sum() / before.size)


def _agreement(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Return 1 where the flow back undoes the flow, 0 where it contradicts it."""
    mismatch = np.square(flow + back).sum(axis=-1)
    lengths = np.square(flow).sum(axis=-1) + np.square(back).sum(axis=-1)
    return _fade(mismatch / (_SHARE * lengths + _SLACK))


def _likeness(before: np.ndarray, now: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return 1 where the frame before, carried along, looks as the frame does, 0 where not."""
    import cv2

    carried = _sample(before.astype(np.float32), places)
    gain = np.clip((now.mean() + 1.0) / (carried.mean() + 1.0), 1.0 / _GAIN, _GAIN)
    residual = cv2.GaussianBlur(now - gain * carried, (0, 0), _BLUR)
    return _fade(np.abs(residual) / _RESIDUAL)


def _fade(ratio: np.ndarray) -> np.ndarray:
    """Return 1 up to a ratio of 1, falling to 0 at 2."""
    return np.clip(2.0 - ratio, 0.0, 1.0)


def _carry(ab: np.ndarray, count: np.ndarray, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Return ab and how many predictions it is the mean of, moved to where things are now."""
    side = len(ab)
    places = _grid(side) + _resize(motion.flow, side) * (side / SIDE)
    trust = _resize(motion.trust, side)
    # Cubic, as linear sampling would blur what is carried on and on.
    return _sample(ab, places, smooth=True), _sample(count, places) * trust


def _resize(values: np.ndarray, side: int) -> np.ndarray:
    import cv2

    way = cv2.INTER_AREA if side < len(values) else cv2.INTER_LINEAR
    return cv2.resize(values, (side, side), interpolation=way)


def _sample(values: np.ndarray, places: np.ndarray, smooth: bool = False) -> np.ndarray:
    """Return values (H, W) or (H, W, C) at places (h, w, 2), x and y; the border is repeated."""
    import cv2

    way = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
    x, y = np.moveaxis(places.astype(np.float32), -1, 0)
    return cv2.remap(values, x, y, way, borderMode=cv2.BORDER_REPLICATE)


def _grid(side: int) -> np.ndarray:
    """Return the x and y of each pixel, float32 (side, side, 2)."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    return np.dstack([x, y])
