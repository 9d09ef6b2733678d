"""Films in, films out: times, sound, size, cuts, damage, interruption."""

import os
import resource
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from colorjax import Colorizer
from colorjax.cli import main
from colorjax.colorize.film import colorize_film
from colorjax.colorize.film_progress import FilmProgress
from colorjax.colorize.film_reading import FilmError, FilmReader, Span, parse_time, to_image
from colorjax.colorize.pictures import Photo
from colorjax.errors import UserError
from conftest import save_picture

HEIGHT, WIDTH = 48, 64
PAN = 2  # pixels a frame
AB = (20, -15)  # what the constant model predicts


@dataclass(frozen=True)
class Sound:
    """Packets of a film's sound, and their times in seconds."""

    codec: str
    packets: list[bytes]
    times: list[Fraction]


def draw(count: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> list[np.ndarray]:
    """Return frames, uint8, of a camera that pans over a gray picture with detail."""
    generator = np.random.default_rng(seed)
    cells = generator.integers(60, 200, (height // 4 + 1, (width + PAN * count) // 4 + 1))
    image = Image.fromarray(cells.astype(np.uint8))
    picture = image.resize((width + PAN * count, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture)[..., None].repeat(3, axis=2)
    return [pixels[:, PAN * index : PAN * index + width].copy() for index in range(count)]


def write_film(
    path: str | Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    sound: str | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    rotation: int = 0,
    aspect: Fraction = Fraction(1),
) -> Path:
    """Write a film of 25 frames a second, or with times of its own, and a tone."""
    rate = Fraction(25)
    options = {"movflags": "faststart"} if Path(path).suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate, options={"g": "100"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p" if codec == "libx264" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        track: Any = container.add_stream(sound, rate=44100, layout="stereo") if sound else None
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = pts[index] if pts else index, time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if track:
            for packet in make_sound(track, len(frames) / rate):
                container.mux(packet)
    return Path(path)


def make_sound(track: Any, seconds: Fraction) -> Iterator[Any]:
    times = np.arange(int(44100 * seconds)) / 44100
    tone = (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16).repeat(2)[None]
    frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
    yield from track.encode(frame)
    yield from track.encode()


def read_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [picture.pts * picture.time_base for picture in container.decode(video=0)]


def read_frames(path: Path) -> list[np.ndarray]:
    with FilmReader(path) as reader:
        return [to_image(frame.picture) for frame in reader.frames()]


def read_sound(path: Path) -> Sound:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        times = [packet.pts * packet.time_base for packet in packets]
        name = container.streams.audio[0].codec_context.name
        return Sound(name, [bytes(packet) for packet in packets], times)


def to_lab(images: Sequence[np.ndarray]) -> np.ndarray:
    return rgb2lab(np.stack(images))


@pytest.fixture(scope="module")
def constant(model_folder: Path) -> Colorizer:
    """Predicts AB everywhere."""
    return Colorizer.load(f"{model_folder}@1")


def colorize(*arguments: object) -> int:
    return main(["colorize", *map(str, arguments)])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"sound": "aac"}),
        ("a.mkv", {"sound": "ac3", "codec": "mpeg4"}),
        (
            "uneven.mp4",
            {
                "pts": [0, 3, 9, 10, 20, 24, 30, 31, 60, 61],
                "time_base": Fraction(1001, 30000),
                "sound": "aac",
            },
        ),
    ],
)
def test_times_sound_size_and_lightness_are_kept(
    work: Path, constant: Colorizer, name: str, options: dict[str, Any]
) -> None:
    frames = draw(10)
    write_film(name, frames, **options)
    counts: list[tuple[int, int | None]] = []
    result = Path("out/film.mp4")
    colorize_film(constant, name, result, progress=lambda *pair: counts.append(pair))
    assert read_times(result) == read_times(Path(name))
    before, after = read_sound(Path(name)), read_sound(result)
    assert (after.codec, after.packets) == (before.codec, before.packets)
    np.testing.assert_allclose(*(np.array(s.times, float) for s in (before, after)), atol=1e-3)
    lab, true = to_lab(read_frames(result)), to_lab(frames)
    assert lab.shape == true.shape
    np.testing.assert_allclose(lab[..., 1:].mean(axis=(0, 1, 2)), AB, atol=1.5)
    assert np.abs(lab[..., 0] - true[..., 0]).mean() < 2.0
    assert [count for count, _ in counts] == list(range(1, 11))
    with av.open(str(result)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_sound_that_mp4_has_no_place_for_becomes_aac(work: Path, constant: Colorizer) -> None:
    write_film("a.avi", draw(10), codec="mpeg4", sound="pcm_s16le")
    colorize_film(constant, "a.avi", "a.mp4", upsample="bicubic")
    with av.open("a.mp4") as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        samples = np.hstack([f.to_ndarray() for f in container.decode(audio=0)])[0]
    assert len(samples) == pytest.approx(44100 * 10 / 25, abs=2048)
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert power.argmax() * 44100 / len(samples) == pytest.approx(440, abs=5)


def test_films_are_upright_at_odd_sizes_and_with_pixels_that_are_not_square(
    work: Path, constant: Colorizer
) -> None:
    frames = draw(3, height=31, width=47)
    write_film("a.mp4", frames, rotation=90, aspect=Fraction(4, 3))  # to the left
    colorize_film(constant, "a.mp4", "out.mp4", upsample="bicubic")
    with av.open("out.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.height, stream.codec_context.width) == (47, 31)
        assert stream.sample_aspect_ratio == Fraction(3, 4)
        assert next(container.decode(stream)).rotation == 0
    upright = [np.rot90(frame) for frame in frames]
    lightness, true = to_lab(read_frames(Path("out.mp4")))[..., 0], to_lab(upright)[..., 0]
    assert np.abs(lightness - true).mean() < 2.0


def test_a_part_has_its_own_frames_and_sound(work: Path, constant: Colorizer) -> None:
    frames = draw(30)
    write_film("a.mp4", frames, sound="aac")
    colorize_film(constant, "a.mp4", "part.mp4", start=0.4, end=Fraction("0.8"), upsample="bicubic")
    assert read_times(Path("part.mp4")) == [Fraction(index, 25) for index in range(10)]
    lightness = to_lab(read_frames(Path("part.mp4")))[..., 0]
    assert np.abs(lightness - to_lab(frames[10:20])[..., 0]).mean() < 2.0
    whole, part = read_sound(Path("a.mp4")), read_sound(Path("part.mp4"))
    first = whole.packets.index(part.packets[0])
    assert part.packets == whole.packets[first : first + len(part.packets)]
    assert float(whole.times[first] - part.times[0]) == pytest.approx(0.4, abs=1e-3)
    assert 0 <= part.times[0] < Fraction(1024, 44100)
    with pytest.raises(FilmError, match="before --start"):
        colorize_film(constant, "a.mp4", "none.mp4", start=1.2)
    assert not Path("none.mp4").exists()


def test_a_film_of_one_frame(work: Path, constant: Colorizer) -> None:
    write_film("one.mp4", draw(1))
    colorize_film(constant, "one.mp4", "out.mp4")
    assert read_times(Path("out.mp4")) == [0]


class Unsteady(Colorizer):
    """A model whose predictions change from frame to frame, or from scene to scene."""

    taken = 0
    spread = 0.0
    by_scene = False

    def predict_many(
        self, photos: Iterable[Photo], *, size: int | None = None
    ) -> Iterator[np.ndarray]:
        """Return what the model predicts, plus what changes."""
        generator = np.random.default_rng(0)

        def counted() -> Iterator[Photo]:
            for photo in photos:
                self.taken += 1
                bright.append(bool(photo.pixels.mean() > 128))
                yield photo

        bright: list[bool] = []
        for index, ab in enumerate(super().predict_many(counted(), size=size)):
            change = generator.normal(0, self.spread, 2)
            if self.by_scene:
                change += (40, 30) if bright[index] else (-40, -30)
            yield (ab + change).astype(np.float32)


def color_both_ways(colorizer: Colorizer) -> None:
    """Colour a.mp4 frame by frame and steadied; it has no edges to enlarge colour along."""
    colorize_film(colorizer, "a.mp4", "alone.mp4", frame_by_frame=True, upsample="bicubic")
    colorize_film(colorizer, "a.mp4", "steady.mp4", upsample="bicubic")


def measure_flicker(path: Path) -> float:
    """Return the mean change of ab along the pan."""
    ab = to_lab(read_frames(path))[..., 1:]
    return float(np.linalg.norm(ab[1:, :, :-PAN] - ab[:-1, :, PAN:], axis=-1).mean())


def test_flicker_is_halved_and_colour_is_not_bleached(work: Path, model_folder: Path) -> None:
    unsteady = Unsteady.load(f"{model_folder}@1")
    assert isinstance(unsteady, Unsteady)
    unsteady.spread = 12.0
    write_film("a.mp4", draw(24))
    color_both_ways(unsteady)
    assert measure_flicker(Path("alone.mp4")) > 8.0
    assert measure_flicker(Path("steady.mp4")) < 0.5 * measure_flicker(Path("alone.mp4"))
    ab = to_lab(read_frames(Path("steady.mp4")))[12:, ..., 1:]
    np.testing.assert_allclose(ab.mean(axis=(0, 1, 2)), AB, atol=5.0)


def test_nothing_is_carried_over_a_cut(work: Path, model_folder: Path) -> None:
    unsteady = Unsteady.load(f"{model_folder}@1")
    assert isinstance(unsteady, Unsteady)
    unsteady.by_scene = True
    dark = [frame // 2 for frame in draw(5)]
    bright = [128 + frame // 3 for frame in draw(5, seed=1)]
    write_film("a.mp4", [*dark, *bright, *dark])
    color_both_ways(unsteady)
    alone, steady = (to_lab(read_frames(Path(name))) for name in ("alone.mp4", "steady.mp4"))
    np.testing.assert_allclose(steady.mean(axis=(1, 2)), alone.mean(axis=(1, 2)), atol=1.0)


def test_memory_does_not_grow_with_the_film(work: Path, model_folder: Path) -> None:
    unsteady = Unsteady.load(f"{model_folder}@1")
    assert isinstance(unsteady, Unsteady)
    write_film("a.mp4", draw(60, height=16, width=16))
    waiting = []

    def count(written: int, total: int | None) -> None:
        waiting.append(unsteady.taken - written)

    colorize_film(unsteady, "a.mp4", "b.mp4", upsample="bicubic", progress=count)
    assert len(waiting) == 60
    assert max(waiting) <= 24


def damage(name: str, at: float = 0.5) -> None:
    """Overwrite the packet that lies so far in a film."""
    with av.open(name) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        packet = packets[int(at * len(packets))]
        place, size = packet.pos, packet.size
    content = bytearray(Path(name).read_bytes())
    content[place + 4 : place + size] = np.random.default_rng(0).bytes(size - 4)
    Path(name).write_bytes(content)


def make_broken() -> dict[str, str]:
    """Make films that can't be coloured in ./in, and return why not."""
    write_film("in/cut.mp4", draw(40))
    content = Path("in/cut.mp4").read_bytes()
    Path("in/cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    Path("in/headless.mp4").write_bytes(content[len(content) // 2 :])
    write_film("in/cut.mkv", draw(40))
    content = Path("in/cut.mkv").read_bytes()
    Path("in/cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    Path("in/text.mp4").write_text("This is no film.\n" * 20)
    Path("in/empty.mov").touch()
    with av.open("in/sound.mp4", "w") as container:
        for packet in make_sound(container.add_stream("aac", rate=44100), Fraction(1)):
            container.mux(packet)
    write_film("in/damaged.mp4", draw(40), codec="mpeg4")
    damage("in/damaged.mp4")
    write_film("in/huge.mkv", draw(2), codec="ffv1")
    content = Path("in/huge.mkv").read_bytes()
    # PixelWidth and PixelHeight of Matroska, an id, a length and a number each.
    for number, tag in ((WIDTH, b"\xb0\x81"), (HEIGHT, b"\xba\x81")):
        content = content.replace(tag + bytes([number]), tag[:1] + b"\x82\x3e\x80", 1)
    Path("in/huge.mkv").write_bytes(content)
    return {
        "in/cut.mp4": "it breaks off",
        "in/cut.mkv": "it breaks off",
        "in/headless.mp4": "it is damaged, or no film that FFmpeg knows",
        "in/text.mp4": "it is damaged, or no film that FFmpeg knows",
        "in/empty.mov": "it is damaged, or no film that FFmpeg knows",
        "in/sound.mp4": "it has no moving pictures",
        "in/damaged.mp4": "damaged",
        "in/huge.mkv": "its frames of 16000x16000 pixels have more than 40 million",
        "in/missing.mp4": "there is no such file",
    }


def test_broken_films_are_named_and_the_others_done(
    work: Path, model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    reasons = make_broken()
    write_film("in/good.mp4", draw(4))
    save_picture("in/good.png")
    model = f"{model_folder}@1"
    assert colorize("in", "in/missing.mp4", "--model", model, "--output", "out") == 1
    output = capfd.readouterr()
    assert sorted(output.out.splitlines()) == [
        "in/good.mp4 -> out/good.mp4",
        "in/good.png -> out/good.png",
    ]
    lines = dict(line.split(": failed, ") for line in output.err.splitlines())
    assert lines.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in lines[name]
    assert sorted(path.name for path in Path("out").iterdir()) == ["good.mp4", "good.png"]
    # What is done is left as it is.
    assert colorize("in/good.mp4", "--model", model, "--output", "out") == 0
    assert "skipped" in capfd.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing_behind(
    work: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    status: int,
) -> None:
    def interrupt(self: FilmProgress, count: int, total: int | None) -> None:
        if count == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(FilmProgress, "update", interrupt)
    write_film("a.mp4", draw(16), sound="aac")
    arguments = ("--model", f"{model_folder}@1", "--upsample", "bicubic")
    handler = signal.getsignal(signal.SIGTERM)
    assert colorize("a.mp4", *arguments) == status
    assert list(work.iterdir()) == [work / "a.mp4"]
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_result_that_cannot_be_written_is_named(work: Path, constant: Colorizer) -> None:
    write_film("a.mp4", draw(2))
    Path("file").touch()
    with pytest.raises(FilmError, match=r"file/b\.mp4 can't be written"):
        colorize_film(constant, "a.mp4", "file/b.mp4")
    # First as it should be, so that everything is compiled, and kept on the disk.
    colorize_film(constant, "a.mp4", "out/b.mp4")
    Path("out/b.mp4").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(FilmError, match=r"out/b\.mp4 can't be written: file too large"):
            colorize_film(constant, "a.mp4", "out/b.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(Path("out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "--hint", "1,1,#ff0000"], "leave --hint out"),
        (["a.mp4", "--lightness", "network"], "leave --lightness network out"),
        (["a.mp4", "--start", "soon"], "'soon' is no time"),
        (["a.mp4", "--start", "2", "--end", "1"], "ends after its start"),
        (["a.mp4", "--size", "7"], "can't see pictures at 7"),
        (["a.mp4", "--saturation", "-1"], "A saturation of -1.0"),
        (["a.png", "--start", "1"], "--start and --end cut films"),
    ],
)
def test_calls_that_films_make_no_sense_of(
    work: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write_film("a.mp4", draw(1))
    save_picture("a.png")
    assert colorize(*arguments, "--model", f"{model_folder}@1") == 2
    assert message in capsys.readouterr().err
    assert not Path("colorized").exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90.5", 90.5), ("1:30", 90), ("0:01:30.5", 90.5), ("2:00:00", 7200), ("0", 0)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == Fraction(seconds)


@pytest.mark.parametrize(
    "text", ["", "-1", "1:2:3:4", "1/2", "1:-2", "nan", "1e999999999", "1h", ":"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no time"):
        parse_time(text)


def test_a_part_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(UserError, match="ends after its start"):
        Span(Fraction(2), Fraction(1))
