"""How much a film's colours flicker, frame by frame and steadied along the motion.

    python benchmarks/flicker.py ../shared/data/flowers --model checkpoints/wgan-tiny
    python benchmarks/flicker.py ../shared/data/flowers --model truth

`truth` stands for a network that sees the colours, at 64x64 pixels, and predicts them with patches
of error that change from frame to frame.

The clip is made of photos that move in a known way: scenes that pan, zoom and turn, in every other
one a cut-out of a second photo crosses the picture; over it lie grain and a jitter of brightness,
as film has. It is coloured twice, through `colorize_film`, and the results are decoded again.

- flicker: mean distance of ab from where the same thing was in the frame before, in CIE units,
  along the true motion, without what was hidden or outside then, and without cuts;
- error: mean distance of ab from the photo's own;
- chroma: mean length of ab (colour that is bleached would be steady, too);
- uncovered: the error where the background comes from behind the cut-out: trails would be here;
- cut: mean distance of the first frame's ab after a cut from that of frame by frame: so would
  ghosts.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from colorjax import Colorizer, color
from colorjax.colorize.film import colorize_film
from colorjax.colorize.film_reading import FilmReader
from colorjax.colorize.film_reading import to_image as to_pixels
from colorjax.colorize.painting import squash
from colorjax.colorize.pictures import Photo

HEIGHT, WIDTH = 288, 384
RATE = 25
SIDE, ERROR, PATCHES = 64, 8.0, 6  # of `truth`: pixels, CIE units, patches a side
GRAIN, JITTER = 3.0, 0.02  # standard deviations: levels of gray, and share of brightness
# Of a scene, by frame: pixels to the right and down, factor, degrees.
MOTIONS = (
    (2.0, 0.7, 1.0, 0.0),
    (0.0, 0.0, 1.006, 0.0),
    (-1.0, 0.5, 1.0, 0.4),
    (-2.5, -0.6, 0.997, -0.15),
)
CUT_OUT_MOTION = (-3.5, 0.8, 1.0, 0.3)


@dataclass
class Layer:
    """A photo that moves, and the part of it that is seen.

    Attributes:
      image: uint8 (H, W, 3).
      shape: float32 (H, W), 0 to 1.
      motion: see MOTIONS.
    """

    image: np.ndarray
    shape: np.ndarray
    motion: tuple[float, float, float, float]

    def place(self, time: float) -> np.ndarray:
        """Return the matrix (3, 3) from the photo's pixels to the frame's; 0 is mid-scene."""
        right, down, factor, degrees = self.motion
        height, width, _ = self.image.shape
        scale = 1.3 * max(HEIGHT / height, WIDTH / width) * factor**time
        center = (width - 1) / 2, (height - 1) / 2
        matrix = cv2.getRotationMatrix2D(center, degrees * time, scale)
        matrix[:, 2] += (WIDTH - 1) / 2 + right * time - center[0], 0
        matrix[1, 2] += (HEIGHT - 1) / 2 + down * time - center[1]
        return np.vstack([matrix, (0, 0, 1)])


@dataclass
class View:
    """A frame of the clip.

    Attributes:
      image: uint8 (H, W, 3), with grain and jitter.
      truth: uint8 (H, W, 3), without.
      label: (H, W), which layer is seen.
      places: of the layers.
      scene: its number.
    """

    image: np.ndarray
    truth: np.ndarray
    label: np.ndarray
    places: list[np.ndarray]
    scene: int


class TrueColors:
    """Takes the place of a Colorizer whose predictions are true but for noise."""

    def predict_many(self, photos: Iterable[Photo], *, size: int | None = None) -> Iterator:
        """Yield the ab of each photo, (SIDE, SIDE, 2), with noise."""
        generator = np.random.default_rng(0)
        for photo in photos:
            noise = generator.normal(0, ERROR, (PATCHES, PATCHES, 2)).astype(np.float32)
            ab = to_ab(squash(photo, SIDE))
            yield ab + cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def main() -> None:
    """Make the clip, colour it twice, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--model", required=True, help="a run's or model's folder, or truth")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--frames", type=int, default=30, help="of a scene")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photos")
    parser.add_argument("--keep", type=Path, help="a folder for the clips")
    parser.add_argument("--sheet", type=Path, help="a picture of some frames")
    arguments = parser.parse_args()
    views = list(make_views(arguments))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_clip(folder / "clip.mp4", views)
        results, seconds = color_clip(folder, arguments.model)
    report(views, results, seconds)
    if arguments.sheet:
        save_sheet(arguments.sheet, views, results)


def make_views(arguments: argparse.Namespace) -> Iterator[View]:
    """Yield the frames of the clip."""
    generator = np.random.default_rng(arguments.seed)
    paths = sorted(arguments.photos.rglob("*.jpg"))
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in generator.choice(paths, 40)]
    photos = [photo for photo in photos if photo.shape[1] > photo.shape[0]]
    for scene in range(arguments.scenes):
        motion = MOTIONS[scene % len(MOTIONS)]
        back = photos[2 * scene]
        layers = [Layer(back, np.ones(back.shape[:2], np.float32), motion)]
        if scene % 2:
            front = photos[2 * scene + 1]
            layers.append(Layer(front, make_cut_out(*front.shape[:2]), CUT_OUT_MOTION))
        for frame in range(arguments.frames):
            yield make_view(layers, frame - arguments.frames / 2, scene, generator)


def make_cut_out(height: int, width: int) -> np.ndarray:
    """Return the shape of a disc in the middle of a photo, where flowers mostly are."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    return np.clip(0.24 * height - radius + 0.5, 0.0, 1.0).astype(np.float32)


def make_view(layers: list[Layer], time: float, scene: int, generator: np.random.Generator) -> View:
    """Return a frame of a scene."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    label = np.zeros((HEIGHT, WIDTH), int)
    places = [layer.place(time) for layer in layers]
    for index, (layer, place) in enumerate(zip(layers, places, strict=True)):
        picture = warp(layer.image.astype(np.float32), place, cv2.BORDER_REFLECT)
        shape = warp(layer.shape, place, cv2.BORDER_REFLECT if index == 0 else cv2.BORDER_CONSTANT)
        frame += shape[..., None] * (picture - frame)
        label[shape > 0.5] = index
    noisy = frame * (1.0 + JITTER * generator.standard_normal())
    noisy += GRAIN * generator.standard_normal((HEIGHT, WIDTH, 1))
    return View(to_image(noisy), to_image(frame), label, places, scene)


def warp(values: np.ndarray, place: np.ndarray, border: int) -> np.ndarray:
    """Return values seen in the frame."""
    size = (WIDTH, HEIGHT)
    return cv2.warpAffine(values, place[:2], size, flags=cv2.INTER_CUBIC, borderMode=border)


def to_image(values: np.ndarray) -> np.ndarray:
    """Return levels of gray as uint8."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def write_clip(path: Path, views: list[View]) -> None:
    """Write a film of high quality."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, view in enumerate(views):
            picture = av.VideoFrame.from_ndarray(view.image, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def color_clip(folder: Path, model: str) -> tuple[dict[str, list[np.ndarray]], dict[str, float]]:
    """Return the decoded results of each way, and the seconds that each took."""
    colorizer: Any = TrueColors() if model == "truth" else Colorizer.load(model)
    source = folder / "clip.mp4"
    colorize_film(colorizer, source, folder / "warm-up.mp4")  # compiles
    (folder / "warm-up.mp4").unlink()
    results, seconds = {}, {}
    for name, alone in (("frame by frame", True), ("steadied", False)):
        target = folder / f"{name.replace(' ', '-')}.mp4"
        start = time.perf_counter()
        colorize_film(colorizer, source, target, frame_by_frame=alone)
        seconds[name] = time.perf_counter() - start
        results[name] = read_clip(target)
    return results, seconds


def read_clip(path: Path) -> list[np.ndarray]:
    """Return a film's frames."""
    with FilmReader(path) as reader:
        return [to_pixels(frame.picture) for frame in reader.frames()]


def report(
    views: list[View], results: dict[str, list[np.ndarray]], seconds: dict[str, float]
) -> None:
    """Print a line of figures for each way, and for the photos themselves."""
    truth = [to_ab(view.truth) for view in views]
    colors = {name: [to_ab(frame) for frame in frames] for name, frames in results.items()}
    for name, ab in {**colors, "the photos": truth}.items():
        errors = [distance(*pair) for pair in zip(ab, truth, strict=True)]
        chroma = np.mean([np.linalg.norm(values, axis=-1).mean() for values in ab])
        speed = f", {len(views) / seconds[name]:.1f} frames/s" if name in seconds else ""
        print(
            f"{name}: flicker {measure_flicker(views, ab):.2f}, error {np.mean(errors):.2f}, "
            f"uncovered {average_uncovered(views, errors):.2f}, chroma {chroma:.1f}{speed}"
        )
    alone, steadied = colors["frame by frame"], colors["steadied"]
    apart = [distance(*pair).mean() for pair in zip(alone, steadied, strict=True)]
    cuts = [i for i in range(1, len(views)) if views[i].scene != views[i - 1].scene]
    print(f"apart: everywhere {np.mean(apart):.2f}, cut {np.mean([apart[i] for i in cuts]):.2f}")


def average_uncovered(views: list[View], values: list[np.ndarray]) -> float:
    """Return the mean of values (H, W) where the background comes from behind the cut-out."""
    found = [
        values[index][find_uncovered(views[index - 1], views[index])]
        for index in range(1, len(views))
        if views[index].scene == views[index - 1].scene
    ]
    return float(np.concatenate(found).mean())


def to_ab(image: np.ndarray) -> np.ndarray:
    """Return the a and b of an image, (H, W, 2) in CIE units."""
    return np.asarray(color.rgb_to_lab(color.to_rgb(image)))[..., 1:]


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the distance of colours at each pixel."""
    return np.linalg.norm(first - second, axis=-1)


def measure_flicker(views: list[View], ab: list[np.ndarray]) -> float:
    """Return the mean change of ab along the true motion."""
    changes = []
    for index in range(1, len(views)):
        before, now = views[index - 1], views[index]
        if before.scene == now.scene:
            places, is_seen = trace(before, now)
            carried = sample(ab[index - 1], places)
            changes.append(distance(ab[index], carried)[is_seen])
    return float(np.concatenate(changes).mean())


def trace(before: View, now: View) -> tuple[np.ndarray, np.ndarray]:
    """Return where each pixel was in the frame before, (H, W, 2), and whether it was seen there."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    points = np.dstack([x, y, np.ones_like(x)]).astype(np.float64)
    places = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    for index, (old, new) in enumerate(zip(before.places, now.places, strict=True)):
        moved = points @ (old @ np.linalg.inv(new)).T
        places[now.label == index] = moved[now.label == index][:, :2]
    limit = np.array([WIDTH - 1, HEIGHT - 1])
    is_seen = np.all((places >= 0) & (places <= limit), axis=-1)
    nearest = np.clip(np.round(places).astype(int), 0, limit)
    return places, is_seen & (before.label[nearest[..., 1], nearest[..., 0]] == now.label)


def find_uncovered(before: View, now: View) -> np.ndarray:
    """Return which pixels come from behind the cut-out."""
    places, is_seen = trace(before, now)
    limit = np.array([WIDTH - 1, HEIGHT - 1])
    return ~is_seen & np.all((places >= 0) & (places <= limit), axis=-1) & (now.label == 0)


def sample(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return values (H, W, C) at places."""
    x, y = np.moveaxis(places, -1, 0)
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def save_sheet(path: Path, views: list[View], results: dict[str, list[np.ndarray]]) -> None:
    """Save frames of the second scene and the cut after it: the photos, and each way's."""
    frames = len(views) // (views[-1].scene + 1)
    columns = [frames + place for place in (frames - 13, frames - 9, frames - 5, frames - 1)]
    columns += [2 * frames, 2 * frames + 1, 2 * frames + 4]
    strips = [[view.truth for view in views], *results.values()]
    rows = [np.hstack([strip[column] for column in columns]) for strip in strips]
    sheet = Image.fromarray(np.vstack(rows))
    sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS).save(path)


if __name__ == "__main__":
    main()
