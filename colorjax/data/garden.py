"""The `garden` source: flowers drawn by the program, whose colors follow from shape and texture.

A picture is a function of (index, seed) in continuous coordinates, sampled on any grid: the
frame is the unit square, lengths are fractions of its side, y points down. A kind of flower
fixes the outline, the marking and the hue together, so a network can learn the hue from the
gray picture; light, exposure and pose vary, so brightness alone tells little.
"""

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from colorjax.errors import UserError

Color = tuple[float, float, float]  # hue in degrees, saturation and value in [0, 1]

GOLD: Color = (46, 0.9, 0.95)
CREAM: Color = (52, 0.25, 1.0)
WHITE: Color = (50, 0.04, 1.0)
BROWN: Color = (24, 0.7, 0.3)


@dataclass(frozen=True)
class Kind:
    """A kind of flower: outline, texture and colors.

    A petal has length 1 and the half width `width * t^base * (1 - t)^tip` (scaled to peak at
    `width`) at the fraction t of its length: a small `base` is a broad foot, `tip` 0.5 a round
    end and 1 a pointed one.
    """

    name: str
    petal: Color
    petals: int
    form: str = "rosette"  # or "trumpet", "cup", "bell"
    whorls: int = 1  # rings of petals, each smaller and higher than the one before
    width: float = 0.3
    base: float = 0.7
    tip: float = 0.5
    notch: float = 0.0  # depth of the cut in the petal's end, as a fraction of its length
    frill: float = 0.0  # height of the teeth along the petal's end, as a fraction of its length
    marking: str = "plain"  # a key of MARKINGS; a trumpet always has a star
    marking_color: Color = BROWN
    center: str = "disk"  # a key of CENTERS
    center_color: Color = GOLD
    center_size: float = 0.2  # radius of the center, as a fraction of the flower's


# A new kind is one more entry. Only `petal` colors it; the rest is what its gray picture shows.
KINDS: tuple[Kind, ...] = (
    Kind("poppy", (3, 0.92, 0.92), 4, width=0.66, base=0.6, tip=0.33, frill=0.03,
         marking="blotch", marking_color=(300, 0.4, 0.1), center="stamens",
         center_color=(280, 0.3, 0.2), center_size=0.24),
    Kind("tiger lily", (17, 0.9, 1.0), 6, width=0.23, base=0.75, tip=0.85, marking="spots",
         marking_color=(8, 0.9, 0.25), center="stamens", center_color=(22, 0.8, 0.45),
         center_size=0.4),
    Kind("marigold", (29, 0.97, 1.0), 13, whorls=4, width=0.25, base=0.9, tip=0.3, frill=0.05,
         marking="edge", marking_color=(37, 0.85, 1.0), center="eye", center_color=(26, 0.95, 0.8),
         center_size=0.1),
    Kind("sunflower", (46, 0.95, 0.98), 17, whorls=2, width=0.16, base=0.6, tip=0.8,
         marking="veins", marking_color=(40, 0.97, 0.85), center="disk", center_color=BROWN,
         center_size=0.42),
    Kind("buttercup", (56, 0.93, 0.95), 5, width=0.5, base=0.75, tip=0.42, marking="gloss",
         marking_color=CREAM, center="stamens", center_color=(58, 0.85, 0.8), center_size=0.28),
    Kind("hellebore", (80, 0.55, 0.8), 5, width=0.46, base=0.6, tip=0.8, marking="veins",
         marking_color=(95, 0.75, 0.4), center="stamens", center_color=CREAM, center_size=0.34),
    Kind("blue poppy", (192, 0.75, 0.88), 6, width=0.52, base=0.7, tip=0.36, frill=0.035,
         marking="plain", center="stamens", center_color=GOLD, center_size=0.3),
    Kind("forget-me-not", (211, 0.68, 0.95), 5, width=0.42, base=1.1, tip=0.5, marking="throat",
         marking_color=WHITE, center="eye", center_color=GOLD, center_size=0.15),
    Kind("cornflower", (227, 0.8, 0.92), 11, whorls=2, width=0.26, base=1.8, tip=0.3, frill=0.16,
         marking="plain", center="stamens", center_color=(275, 0.7, 0.5), center_size=0.3),
    Kind("morning glory", (246, 0.72, 0.9), 5, form="trumpet",
         marking_color=(260, 0.12, 1.0), center="eye", center_color=CREAM, center_size=0.1),
    Kind("bellflower", (262, 0.62, 0.88), 5, form="bell", width=0.3, base=0.35, tip=0.6,
         marking="veins", marking_color=(265, 0.8, 0.5), center="none"),
    Kind("clematis", (281, 0.72, 0.82), 8, width=0.27, base=0.8, tip=0.75, marking="stripe",
         marking_color=(300, 0.4, 1.0), center="stamens", center_color=CREAM, center_size=0.26),
    Kind("cosmos", (314, 0.72, 0.92), 8, width=0.27, base=0.95, tip=0.2, frill=0.055,
         marking="veins", marking_color=(318, 0.9, 0.6), center="disk", center_color=GOLD,
         center_size=0.17),
    Kind("dahlia", (334, 0.85, 0.88), 14, whorls=5, width=0.21, base=0.8, tip=0.65,
         marking="plain", center="eye", center_color=(338, 0.9, 0.5), center_size=0.08),
    Kind("tulip", (350, 0.8, 0.92), 3, form="cup", width=0.36, base=0.4, tip=0.55,
         marking="edge", marking_color=(350, 0.2, 1.0), center="none"),
    Kind("cherry blossom", (342, 0.34, 0.98), 5, width=0.42, base=0.75, tip=0.42, notch=0.16,
         marking="throat", marking_color=(336, 0.75, 0.85), center="stamens", center_color=CREAM,
         center_size=0.36),
    Kind("daisy", WHITE, 21, whorls=2, width=0.09, base=0.45, tip=0.3, marking="plain",
         center="disk", center_color=GOLD, center_size=0.27),
    Kind("narcissus", (54, 0.5, 1.0), 6, width=0.34, base=0.6, tip=0.62, marking="plain",
         center="corona", center_color=(28, 0.95, 0.97), center_size=0.36),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Small tools


def _rgb(color: Color) -> np.ndarray:
    """Return `color` as float32 RGB of shape (3, 1, 1)."""
    hue, saturation, value = color
    rgb = colorsys.hsv_to_rgb(hue % 360 / 360, min(saturation, 1.0), min(value, 1.0))
    return np.array(rgb, np.float32).reshape(3, 1, 1)


def _shaded(color: Color, shade: np.ndarray) -> np.ndarray:
    """Return RGB (3, ...) of a surface of `color` under `shade`: 0 deep, 0.6 itself, 1 bright."""
    hue, saturation, value = color
    deep = _rgb((hue, 0.25 * (saturation > 0.1) + 0.85 * saturation, 0.36 * value))
    light = _rgb((hue, 0.6 * saturation, 0.7 * value + 0.32))
    rising = np.clip(shade * (1 / 0.6), 0, 1)
    glow = np.clip((shade - 0.6) * 2.5, 0, 1)
    body = _rgb(color)
    return deep + rising * (body - deep) + glow * (light - body)


def _step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Return a smooth step of `x`: 0 below `low`, 1 above `high` (or falling, if low > high)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _coverage(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Return how much of a pixel of width `pixel` lies inside, from a signed distance."""
    return np.clip(0.5 - distance / pixel, 0, 1)


def _detail(wavelength: float, pixel: float) -> float:
    """Return the contrast that a texture of `wavelength` keeps when averaged over a pixel."""
    return float(np.exp(-1.6 * (pixel / wavelength) ** 2))


@lru_cache(maxsize=64)
def _spline(size: int, knots: int) -> np.ndarray:
    """Return the (size, knots) matrix that samples a cubic B-spline at `size` pixel centers."""
    x = (np.arange(size, dtype=np.float32)[:, None] + 0.5) / size * (knots - 3) + 1
    distance = np.abs(x - np.arange(knots, dtype=np.float32))
    near = 2 / 3 - distance**2 * (1 - distance / 2)
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far)


def _noise(rng: np.random.Generator, size: int, rows: int, columns: int) -> np.ndarray:
    """Return smooth noise (size, size), about standard normal, with `rows` x `columns` bumps."""
    knots = rng.standard_normal((rows + 3, columns + 3), np.float32)
    return 2.0 * (_spline(size, rows + 3) @ knots @ _spline(size, columns + 3).T)


@dataclass(frozen=True)
class Canvas:
    """A square picture under work: `rgb` is float32 (3, size, size) in [0, 1]."""

    rgb: np.ndarray

    @property
    def pixel(self) -> float:
        """The width of a pixel, in frame sides."""
        return 1 / self.rgb.shape[-1]

    def window(self, x: float, y: float, radius: float) -> tuple["Canvas", np.ndarray, np.ndarray]:
        """Return the part within `radius` of (x, y), a view, and coordinates from (x, y)."""
        size = self.rgb.shape[-1]
        columns, rows = (
            slice(
                int(np.clip((c - radius) * size, 0, size)),
                int(np.clip((c + radius) * size + 1, 0, size)),
            )
            for c in (x, y)
        )
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size
        view = Canvas(self.rgb[:, rows, columns])
        return view, axis[columns] - x, axis[rows, None] - y

    def paint(self, coverage: np.ndarray, rgb: np.ndarray) -> None:
        """Lay `rgb`, (3, ...), over the picture where `coverage` in [0, 1] says."""
        self.rgb[...] += coverage * (rgb - self.rgb)


# ---------------------------------------------------------------------------------------------
# Petals. A petal's frame: x along it from 0 to 1, y across.


def _petal_distance(kind: Kind, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signed distance to a petal's outline and the position across it, about -1..1."""
    t = x
    if kind.notch:
        t = t * (1 + kind.notch * np.exp(-((y / (0.3 * kind.width)) ** 2)))
    if kind.frill:
        t = t * (1 + kind.frill * (1 + np.cos(y * (9.4 / kind.width))))
    inside = np.clip(t, 0.004, 0.996)
    peak = kind.base / (kind.base + kind.tip)
    scale = kind.width / (peak**kind.base * (1 - peak) ** kind.tip)
    half = scale * np.exp(kind.base * np.log(inside) + kind.tip * np.log1p(-inside))
    slope = half * (kind.base / inside - kind.tip / (1 - inside))
    distance = (np.abs(y) - half) / np.sqrt(1 + slope * slope)
    return np.maximum(distance, np.abs(t - 0.5) - 0.5), y / (half + 0.02)


@dataclass(frozen=True)
class Surface:
    """Points of a petal: `x` along it, `y` and `across` (-1 to 1 at the outline) over it.

    `pixel` is the width of a pixel in the same unit, so that a texture can fade with size.
    """

    x: np.ndarray
    y: np.ndarray
    across: np.ndarray
    pixel: float


def _plain(kind: Kind, at: Surface) -> np.ndarray:
    return np.zeros_like(at.x)


def _blotch(kind: Kind, at: Surface) -> np.ndarray:
    return _step(0.46, 0.36, at.x + 0.12 * at.across * at.across)


def _spots(kind: Kind, at: Surface) -> np.ndarray:
    u = at.x / 0.1
    row = np.floor(u)
    v = at.y / 0.085 + 0.5 * (row % 2)
    distance = np.hypot(u - row - 0.5, v - np.floor(v) - 0.5) * 0.09
    return _coverage(distance - 0.028, max(at.pixel, 0.012)) * _step(0.72, 0.62, at.x)


def _veins(kind: Kind, at: Surface) -> np.ndarray:
    waves = 0.5 + 0.5 * np.cos(at.across * 11)
    return 0.6 * _detail(0.55 * kind.width, at.pixel) * waves * _step(1.05, 0.2, at.x)


def _stripe(kind: Kind, at: Surface) -> np.ndarray:
    return 0.85 * np.exp(-((at.across / 0.3) ** 2)) * _step(1.0, 0.75, at.x)


def _edge(kind: Kind, at: Surface) -> np.ndarray:
    return 0.9 * _step(0.6, 1.0, np.maximum(np.abs(at.across), at.x * at.x))


def _throat(kind: Kind, at: Surface) -> np.ndarray:
    return 0.95 * _step(0.42, 0.18, at.x)


def _gloss(kind: Kind, at: Surface) -> np.ndarray:
    return 0.55 * _step(1.0, 0.2, np.hypot((at.x - 0.72) / 0.22, (at.across - 0.2) / 0.6))


MARKINGS: dict[str, Callable[[Kind, Surface], np.ndarray]] = {
    "plain": _plain,
    "blotch": _blotch,
    "spots": _spots,
    "veins": _veins,
    "stripe": _stripe,
    "edge": _edge,
    "throat": _throat,
    "gloss": _gloss,
}


@dataclass(frozen=True)
class Layer:
    """Scalar fields of a flower's surface while its petals are stacked.

    `fields` is (3, h, w): coverage, shade (0 deep, 1 bright) and amount of the marking.
    Color is mixed in once, at the end, which keeps stacking cheap.
    """

    fields: np.ndarray

    def stack(
        self,
        distance: np.ndarray,
        pixel: float,
        shade: np.ndarray,
        mark: np.ndarray,
        shadow: np.ndarray | float = 0.5,
    ) -> None:
        """Lay a petal on top and let it darken, by `shadow`, what lies just outside its outline."""
        self.fields[1] *= 1 - shadow * np.exp(np.clip(distance, 0, 0.5) * -18)
        coverage = _coverage(distance, pixel)
        for field, value in zip(self.fields, (1.0, shade, mark), strict=True):
            field += coverage * (value - field)

    def paint_on(self, canvas: Canvas, body: Color, marking: Color, strength: float = 1.0) -> None:
        """Lay the finished petals over `canvas`, the marking mixed in with `strength`."""
        coverage, shade, mark = self.fields
        rgb = _shaded(body, shade)
        canvas.paint(coverage, rgb + strength * mark * (_shaded(marking, shade) - rgb))


def _petal_shade(
    x: np.ndarray,
    across: np.ndarray,
    side_light: np.ndarray | float,
    lift: np.ndarray | float,
    depth: float = 0.44,
) -> np.ndarray:
    """Return a petal's brightness: a convex sheet with a crease, darker by `depth` at its foot."""
    bend = np.clip(across, -1.2, 1.2)
    crease = np.exp(-((across / 0.16) ** 2))
    return (
        0.85
        - depth * (1 - np.minimum(x, 1))
        + lift
        + bend * side_light
        - 0.14 * bend**2
        - 0.09 * crease
    )


def _whorl(
    layer: Layer, kind: Kind, r: np.ndarray, theta: np.ndarray, pixel: float, ring: int,
    light: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Stack one ring of petals, each over its neighbor as in a pinwheel.

    The angle is folded, so the cost does not grow with the number of petals: a pixel can only
    lie on the petals to its left and right, and the left one is drawn last.
    """
    count = kind.petals
    spin = 2 * math.pi * (ring * 0.5 + 0.06 * rng.uniform(-1, 1)) / count
    length = 0.86**ring if kind.whorls < 3 else 1 - 0.74 * ring / kind.whorls
    turn = (theta - spin) * (count / (2 * math.pi))
    left = np.floor(turn)
    lengths = (length * rng.uniform(0.92, 1.0, count + 1)).astype(np.float32)
    lifts = rng.uniform(-0.06, 0.06, count + 1).astype(np.float32)
    swings = (rng.uniform(-0.08, 0.08, count + 1)).astype(np.float32)
    depth = 0.44 + 0.14 * (kind.whorls - 1)  # inner rings hide all but the ends
    for neighbor in (1, 0):
        number = (left + neighbor).astype(np.int64) % count
        angle = (turn - left - neighbor + swings[number]) * (2 * math.pi / count)
        scaled = r / lengths[number]
        x, y = scaled * np.cos(angle), scaled * np.sin(angle)
        distance, across = _petal_distance(kind, x, y)
        shadow = 0.5 * np.clip(1.4 - 1.4 * (turn - left - neighbor) ** 2, 0, 1)  # none at the fold
        facing = (left + neighbor) * (2 * math.pi / count) + (spin - light)
        lift = lifts[number] + 0.12 * np.cos(facing) + 0.05 * ring / kind.whorls
        shade = _petal_shade(x, across, -0.14 * np.sin(facing), lift, depth)
        mark = MARKINGS[kind.marking](kind, Surface(x, y, across, pixel))
        layer.stack(distance, pixel / length, shade, mark, shadow)


def _petal_at(
    layer: Layer, kind: Kind, x: np.ndarray, y: np.ndarray, pixel: float, angle: float, side: float,
    lift: float,
) -> None:  # fmt: skip
    """Stack one upright petal that grows from the origin at `angle` from straight up."""
    along = -y * math.cos(angle) + x * math.sin(angle)
    aside = x * math.cos(angle) + y * math.sin(angle)
    distance, across = _petal_distance(kind, along, aside)
    mark = MARKINGS[kind.marking](kind, Surface(along, aside, across, pixel))
    layer.stack(distance, pixel, _petal_shade(along, across, side, lift), mark)


# ---------------------------------------------------------------------------------------------
# Centers. Each paints over the finished petals.


@dataclass(frozen=True)
class Plane:
    """Polar coordinates in a flower's plane: `r` in its radii, `theta` in radians.

    `pixel` is the width of a pixel in radii, `light` the direction that the light comes from.
    """

    r: np.ndarray
    theta: np.ndarray
    pixel: float
    light: float


def _dots(
    canvas: Canvas, at: Plane, color: Color, ring: float, count: int, dot: float, turn: float = 0.0
) -> None:
    """Paint `count` round anthers on a ring."""
    step = 2 * math.pi / count
    angle = at.theta + turn
    angle -= step * np.round(angle / step)
    distance = np.hypot(at.r * np.cos(angle) - ring, at.r * np.sin(angle)) - dot
    canvas.paint(0.4 * _step(1.2 * dot, 0, distance), _rgb((color[0], color[1], 0.2 * color[2])))
    canvas.paint(_coverage(distance, at.pixel), _shaded(color, 0.75 - distance * (0.3 / dot) - 0.2))


def _stamens(canvas: Canvas, kind: Kind, at: Plane) -> None:
    size, count = kind.center_size, max(5, min(3 * kind.petals, 14))
    step = 2 * math.pi / count
    thread = at.r * np.sin(at.theta - step * np.round(at.theta / step))
    reach = _coverage(np.abs(thread) - 0.012, max(at.pixel, 0.02)) * _step(size, 0.9 * size, at.r)
    canvas.paint(0.75 * reach, _shaded((kind.center_color[0], 0.3, 0.9), at.r / size))
    _dots(canvas, at, kind.center_color, 0.62 * size, count, 0.036, 0.5 * step)
    _dots(canvas, at, kind.center_color, size, count, 0.042)
    knob = _shaded(
        (75, 0.5, 0.7), 0.75 - 0.5 * at.r / (0.3 * size) + 0.15 * np.cos(at.theta - at.light)
    )
    canvas.paint(_coverage(at.r - 0.28 * size, at.pixel), knob)


def _disk(canvas: Canvas, kind: Kind, at: Plane) -> None:
    """Paint a dome of florets on two families of spirals, as in phyllotaxis."""
    size = kind.center_size
    canvas.paint(
        0.55 * _step(1.35 * size, 0.95 * size, at.r), _rgb((kind.petal[0] - 15, 0.9, 0.25))
    )
    winding = 7.5 * np.log(at.r + 0.05 * size)
    seeds = np.cos(13 * at.theta + winding) * np.cos(13 * at.theta - 1.6 * winding)
    seeds *= 0.2 * _detail(0.33 * size, at.pixel) * _step(0.1, 0.5, at.r / size)
    dome = (
        0.52
        + 0.22 * (at.r / size) * np.cos(at.theta - at.light)
        - 0.3 * _step(0.55, 0, at.r / size)
    )
    edge = -0.2 * _step(0.8, 1.0, at.r / size)
    canvas.paint(_coverage(at.r - size, at.pixel), _shaded(kind.center_color, dome + seeds + edge))


def _eye(canvas: Canvas, kind: Kind, at: Plane) -> None:
    size = kind.center_size
    shade = (
        0.6 + 0.2 * (at.r / size) * np.cos(at.theta - at.light) - 0.5 * _step(0.5, 0.2, at.r / size)
    )
    canvas.paint(0.4 * _step(1.5 * size, 0.9 * size, at.r), _rgb((kind.petal[0], 0.9, 0.3)))
    canvas.paint(_coverage(at.r - size, at.pixel), _shaded(kind.center_color, shade))


def _corona(canvas: Canvas, kind: Kind, at: Plane) -> None:
    """Paint a narcissus's trumpet: a frilled rim around a deep, dark throat."""
    size = kind.center_size
    rim = size * (1 + 0.05 * np.cos(12 * at.theta) + 0.025 * np.cos(5 * at.theta + 1))
    canvas.paint(0.5 * _step(1.4, 0.9, at.r / rim), _rgb((40, 0.9, 0.3)))
    depth = np.clip(at.r / rim, 0, 1)
    pleats = 0.1 * np.cos(24 * at.theta) * depth**2 * _detail(0.26 * size, at.pixel)
    shade = 0.12 + 0.62 * depth**1.5 + pleats - 0.16 * (1 - depth) * np.cos(at.theta - at.light)
    canvas.paint(_coverage(at.r - rim, at.pixel), _shaded(kind.center_color, shade))
    _dots(canvas, at, GOLD, 0.25 * size, 5, 0.035)


def _no_center(canvas: Canvas, kind: Kind, at: Plane) -> None:
    """Leave the petals as they are: the flower is seen from the side."""


CENTERS: dict[str, Callable[[Canvas, Kind, Plane], None]] = {
    "stamens": _stamens,
    "disk": _disk,
    "eye": _eye,
    "corona": _corona,
    "none": _no_center,
}


# ---------------------------------------------------------------------------------------------
# Flowers


@dataclass(frozen=True)
class Pose:
    """Where a flower is and how it is lit: frame sides, radians; `petal` is its own color."""

    x: float
    y: float
    radius: float
    roll: float
    tilt: float  # 0 faces the viewer
    lean: float  # direction of the tilt
    light: float
    petal: Color


def _rosette(layer: Layer, kind: Kind, r: np.ndarray, theta: np.ndarray, pixel: float,
             pose: Pose, rng: np.random.Generator) -> None:  # fmt: skip
    for ring in range(kind.whorls):
        _whorl(layer, kind, r, theta, pixel, ring, pose.light - pose.roll, rng)


def _trumpet(layer: Layer, kind: Kind, r: np.ndarray, theta: np.ndarray, pixel: float,
             pose: Pose, rng: np.random.Generator) -> None:  # fmt: skip
    """Stack one fused, funnel-shaped corolla with a star of pale rays."""
    lobe = np.cos(kind.petals * theta)
    distance = r - (0.93 + 0.05 * lobe - 0.02 * np.cos(2 * kind.petals * theta))
    folded = theta - (2 * math.pi / kind.petals) * np.round(theta * kind.petals / (2 * math.pi))
    ray = _coverage(np.abs(r * np.sin(folded)) - 0.1 * (1.05 - r), 0.05)
    mark = np.maximum(0.75 * ray * _step(0.95, 0.6, r), _step(0.42, 0.12, r))
    toward = np.cos(theta - pose.light + pose.roll)
    shade = 0.4 + 0.42 * _step(0.2, 0.95, r) - 0.16 * lobe * r
    shade += 0.16 * toward * (r - 1.6 * _step(0.75, 0.2, r)) + 0.16 * _step(-0.07, -0.02, distance)
    layer.stack(distance, pixel, shade, mark)


def _cup(layer: Layer, kind: Kind, x: np.ndarray, y: np.ndarray, pixel: float,
         pose: Pose, rng: np.random.Generator) -> None:  # fmt: skip
    """Stack a tulip seen from the side: three petals behind, three in front."""
    x, y, pixel, side = x / 1.75, (y - 0.85) / 1.75, pixel / 1.75, 0.16 * math.cos(pose.light)
    spread = rng.uniform(0.9, 1.15)
    for angle, lift in ((0.27, -0.16), (-0.27, -0.16), (0.0, -0.2)):
        _petal_at(layer, kind, x, y, pixel, angle * spread, side, lift)
    for angle, lift in ((0.17, 0.0), (-0.17, 0.0)):
        _petal_at(layer, kind, x, y * 1.04, pixel, angle * spread, side, lift)
    _petal_at(layer, kind, x * 1.1, y * 1.1, pixel, 0.02 * spread, side, 0.05)


def _bell(layer: Layer, kind: Kind, x: np.ndarray, y: np.ndarray, pixel: float,
          pose: Pose, rng: np.random.Generator) -> None:  # fmt: skip
    """Stack a hanging bell: a fused tube that flares into pointed, curled lobes."""
    depth = (y + 0.8) / 1.6
    t = np.clip(depth, 0, 1)
    dome = np.clip(1 - t * 2.2, 0, 1)
    half = 0.47 * np.sqrt(1 - dome * dome) + 0.12 * t + 0.24 * t**5
    across = x / (half + 0.02)
    turn = np.arcsin(np.clip(across, -0.999, 0.999))
    rim = 0.84 + 0.16 * np.abs(np.cos(turn * 2.5)) ** 0.8
    side = 0.22 * math.cos(pose.light)
    for sign, lift in ((-1, -0.3), (1, 0.0)):  # the inside behind, then the outside
        low = rim if sign > 0 else 0.96 - 0.5 * (rim - 0.84)
        distance = np.maximum((np.abs(x) - half) * 0.8, np.maximum(depth - low, -depth) * 1.6)
        ribs = np.cos(turn * 5)
        shade = 0.5 + 0.25 * t + lift + side * across - 0.16 * across**2 - 0.08 * ribs
        mark = MARKINGS[kind.marking](kind, Surface(t, x, turn * 1.2, pixel))
        layer.stack(distance, pixel, shade + 0.12 * _step(0.1, 0, low - depth), 0.8 * mark)


FORMS: dict[str, Callable[..., None]] = {
    "rosette": _rosette,
    "trumpet": _trumpet,
    "cup": _cup,
    "bell": _bell,
}


def _flower(canvas: Canvas, kind: Kind, pose: Pose, rng: np.random.Generator) -> None:
    """Paint one flower of `kind`."""
    view, dx, dy = canvas.window(pose.x, pose.y, 1.12 * pose.radius)
    if 0 in view.rgb.shape:
        return
    pixel = canvas.pixel / pose.radius
    layer = Layer(np.zeros(view.rgb.shape, np.float32))
    x, y = dx / pose.radius, dy / pose.radius
    if kind.form in ("cup", "bell"):
        cos, sin = math.cos(pose.tilt * 0.5), math.sin(pose.tilt * 0.5)
        x, y = cos * x + sin * y, cos * y - sin * x
        r = theta = x + y
        FORMS[kind.form](layer, kind, x, y, pixel, pose, rng)
    else:
        r, theta = _flower_plane(x, y, pose)
        FORMS[kind.form](layer, kind, r, theta, pixel, pose, rng)
    layer.paint_on(view, pose.petal, kind.marking_color)
    CENTERS[kind.center](view, kind, Plane(r, theta, pixel, pose.light - pose.roll))


def _flower_plane(x: np.ndarray, y: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Return polar coordinates in the plane of a tilted flower, angles turned by its roll."""
    cos, sin = math.cos(pose.lean), math.sin(pose.lean)
    along = (cos * x + sin * y) / math.cos(pose.tilt)
    aside = cos * y - sin * x
    theta = np.arctan2(aside, along) + pose.lean - pose.roll
    return np.hypot(along, aside), theta


LEAF = Kind("leaf", (112, 0.6, 0.5), 1, width=0.2, base=0.6, tip=0.9, marking="veins",
            marking_color=(88, 0.4, 0.72))  # fmt: skip


def _leaves(canvas: Canvas, pose: Pose, hanging: bool, rng: np.random.Generator) -> None:
    """Paint the stem and one to three leaves behind the flower."""
    green = (rng.uniform(100, 122), rng.uniform(0.5, 0.7), rng.uniform(0.46, 0.64))
    _stem(canvas, pose, hanging, green, rng.uniform(-0.3, 0.3))
    for side in rng.permutation([-1.0, 1.0, -0.6])[: rng.integers(1, 4)]:
        _leaf(canvas, pose, side * rng.uniform(1.2, 2.4), green, rng)


def _stem(canvas: Canvas, pose: Pose, hanging: bool, green: Color, bend: float) -> None:
    """Paint a stem that bends down from the flower or, if `hanging`, arches over its top."""
    view, dx, dy = canvas.window(pose.x, pose.y, 1.5)
    if hanging:
        top = 0.78 * pose.radius
        dx, dy = dx - top * math.sin(0.5 * pose.tilt), dy + top * math.cos(0.5 * pose.tilt)
        arch = math.copysign(0.09, bend)
        dx = np.where(dy < 0, np.hypot(dx - arch, dy) - 0.09, dx - 2 * arch)
    bow = dx - bend * np.clip(dy, 0, 2) ** 2
    thick = 0.042 * pose.radius
    stem = _coverage(np.abs(bow) - thick, canvas.pixel) * (hanging | (dy > 0))
    view.paint(stem, _shaded(green, 0.5 + (0.25 * math.cos(pose.light) / thick) * bow))


def _leaf(canvas: Canvas, pose: Pose, angle: float, green: Color, rng: np.random.Generator) -> None:
    length = pose.radius * rng.uniform(1.15, 1.45)
    view, dx, dy = canvas.window(pose.x, pose.y + 0.2 * pose.radius, length)
    if 0 in view.rgb.shape:
        return
    layer = Layer(np.zeros(view.rgb.shape, np.float32))
    x, y = dx / length, dy / length
    _petal_at(layer, LEAF, x, y, canvas.pixel / length, angle, 0.12, -0.04)
    layer.paint_on(view, green, LEAF.marking_color, 0.5)


# ---------------------------------------------------------------------------------------------
# Backgrounds, painted on a coarse grid: what is out of focus needs no more.

COARSE = 96
FINEST = 64  # a smaller picture is the mean of one of at least this many pixels


def _grass(rng: np.random.Generator) -> np.ndarray:
    """Return blurred upright blades: green."""
    blades = _noise(rng, COARSE, 3, 26) * 0.2 + _noise(rng, COARSE, 2, 11) * 0.16
    haze = np.linspace(0.14, -0.1, COARSE, dtype=np.float32)[:, None]
    hue = rng.uniform(86, 102)
    return _shaded((hue, 0.68, rng.uniform(0.6, 0.8)), 0.48 + blades + haze)


def _foliage(rng: np.random.Generator) -> np.ndarray:
    """Return dark leaves with round lights shining through: deep green."""
    green = (rng.uniform(112, 130), 0.6, rng.uniform(0.4, 0.56))
    canvas = Canvas(_shaded(green, 0.38 + 0.24 * _noise(rng, COARSE, 4, 4)).astype(np.float32))
    for _ in range(9):
        x, y, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.12)
        view, dx, dy = canvas.window(x, y, radius * 1.3)
        disk = _coverage(np.hypot(dx, dy) - radius, 0.02)
        view.paint(rng.uniform(0.15, 0.65) * disk, _rgb((rng.uniform(84, 112), 0.5, 0.85)))
    return canvas.rgb


def _sky(rng: np.random.Generator) -> np.ndarray:
    """Return a smooth sky with soft clouds: blue."""
    height = np.linspace(0.42, 0.85, COARSE, dtype=np.float32)[:, None]
    blue = _shaded((rng.uniform(204, 214), 0.62, rng.uniform(0.7, 0.95)), height + 0.1)
    puffs = _noise(rng, COARSE, 4, 3) + 0.5 * _noise(rng, COARSE, 9, 7)
    return blue + 0.75 * _step(0.1, 1.9, puffs) * (_rgb((40, 0.02, 1.0)) - blue)


def _soil(rng: np.random.Generator) -> np.ndarray:
    """Return speckled crumbs of earth: brown."""
    crumbs = 0.26 * _noise(rng, COARSE, 48, 48) + 0.06 * _noise(rng, COARSE, 9, 9)
    far = np.linspace(0.16, -0.1, COARSE, dtype=np.float32)[:, None]
    return _shaded((rng.uniform(22, 30), 0.52, rng.uniform(0.5, 0.66)), 0.48 + crumbs + far)


BACKGROUNDS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
    _grass,
    _foliage,
    _sky,
    _soil,
)


# ---------------------------------------------------------------------------------------------
# The picture


def kind_of(index: int, seed: int = 0) -> str:
    """Return the name of the kind of flower in picture `index`.

    Every run of `len(KINDS)` pictures that starts at a multiple of it holds each kind once.

    Raises:
      UserError: if `index` or `seed` is negative.

    """
    return _kind(index, seed).name


def _kind(index: int, seed: int) -> Kind:
    if index < 0 or seed < 0:
        raise UserError(f"garden has no picture {index} of seed {seed}; both must be 0 or more.")
    block, place = divmod(index, len(KINDS))
    return KINDS[_deal(block, seed)[place]]


@lru_cache(maxsize=1024)
def _deal(block: int, seed: int) -> tuple[int, ...]:
    order = np.random.default_rng((seed, block, 1)).permutation(len(KINDS))
    return tuple(int(place) for place in order)


def _main_pose(kind: Kind, rng: np.random.Generator) -> Pose:
    hue, saturation, value = kind.petal
    petal = (
        hue + rng.uniform(-6, 6),
        saturation * rng.uniform(0.88, 1.08),
        value * rng.uniform(0.84, 1.06),
    )
    return Pose(
        x=0.5 + rng.uniform(-0.09, 0.09),
        y=0.47 + rng.uniform(-0.07, 0.07),
        radius=rng.uniform(0.36, 0.46),
        roll=rng.uniform(0, 2 * math.pi),
        tilt=rng.uniform(-0.75, 0.75),
        lean=rng.uniform(0, math.pi),
        light=-math.pi / 2 + rng.uniform(-1.0, 1.0),
        petal=petal,
    )


def _distant_pose(main: Pose, rng: np.random.Generator) -> Pose:
    """Return a smaller flower near the frame's edge, out of focus."""
    angle, radius = rng.uniform(0, 2 * math.pi), rng.uniform(0.13, 0.2)
    return Pose(
        x=0.5 + 0.52 * math.cos(angle),
        y=0.5 + 0.52 * math.sin(angle),
        radius=radius,
        roll=rng.uniform(0, 2 * math.pi),
        tilt=rng.uniform(-0.9, 0.9),
        lean=rng.uniform(0, math.pi),
        light=main.light,
        petal=main.petal,
    )


def _blur(rgb: np.ndarray) -> np.ndarray:
    """Return `rgb` (3, COARSE, COARSE) out of focus: a B-spline through fewer knots."""
    knots = COARSE // 2 + 3
    halve = _spline(COARSE, knots)
    halve = halve / halve.sum(axis=0)
    return (halve.T @ rgb @ halve).astype(np.float32)


def _scene(rng: np.random.Generator, kind: Kind, pose: Pose, size: int) -> Canvas:
    """Return the background, distant flowers of the same kind included."""
    paint = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    coarse = Canvas(np.ascontiguousarray(paint(rng), np.float32))
    for _ in range(rng.integers(0, 3)):
        _flower(coarse, kind, _distant_pose(pose, rng), rng)
    knots = _blur(coarse.rgb)
    rows = _spline(size, knots.shape[-1])
    return Canvas(rows @ knots @ rows.T)


def _finish(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """Darken the corners, add a slant of light and set the exposure."""
    view, dx, dy = canvas.window(0.5, 0.5, 1.0)
    slant = 0.14 * (dx * math.cos(pose.light) + dy * math.sin(pose.light))
    exposure = rng.uniform(0.82, 1.1)
    view.rgb[...] *= exposure * (1.03 + slant - 0.42 * (dx * dx + dy * dy))


def draw(index: int, size: int, seed: int = 0) -> np.ndarray:
    """Draw picture `index` of the garden.

    Args:
      index: which picture, 0 or more.
      size: side of the square picture, in pixels, 1 or more. The picture (composition and
        colors) is the same at every size.
      seed: of the garden; another seed is another garden.

    Returns:
      uint8 RGB, (size, size, 3).

    Raises:
      UserError: if `size` is below 1, or `index` or `seed` negative.

    """
    if size < 1:
        raise UserError(f"garden cannot draw at size {size}; give a size of at least 1.")
    kind = _kind(index, seed)
    rng = np.random.default_rng((seed, index, 0))
    finer = -(-FINEST // size)
    pose = _main_pose(kind, rng)
    canvas = _scene(rng, kind, pose, size * finer)
    _leaves(canvas, pose, kind.form == "bell", rng)
    _flower(canvas, kind, pose, rng)
    _finish(canvas, pose, rng)
    rgb = np.clip(canvas.rgb, 0, 1).reshape(3, size, finer, size, finer).mean(axis=(2, 4))
    return (rgb * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
