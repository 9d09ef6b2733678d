"""Feed damaged, odd and whole pictures to colorjax: each must end as it promises.

    python tools/fuzz.py --model checkpoints/wgan-tiny --read 20000 --colorize 2000 --batch 200

A case is a file as a picture is seldom found: any mode, depth, size and format, with strange
metadata, chunks and profiles, with bits flipped, parts cut, doubled or overwritten. Three ways in
are tried: reading (`read_photo`, writing what was read, the reader of training),
`Colorizer.colorize`, and folders of such files under strange names through what `colorjax colorize`
runs. Each case has to end with a result of the right shape or with one sentence, within 10 seconds
of computing and within the memory.

Cases run in a worker process that may not take more than `--memory` beyond what it takes idle. When
it dies, hangs or breaks a promise the case is kept under `--keep` and the next worker goes on.
`--case FILE` tries a kept file again. The same seed makes the same cases.
"""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import resource
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

ROOT = Path(__file__).parents[1]
SECONDS = 10.0  # of computing that a case may take, whatever else the machine does
WAITING = 60.0  # seconds after which a case that takes no computing hangs
LARGE = 4_000_000  # pixels of a picture that is only read: colouring takes its time by right
PREPARATION = 300.0  # seconds in which a worker has to be ready
CASES_OF_A_WORKER = 500
EXTENSIONS = (".jpg", ".png", ".tif", ".webp", ".bmp", ".gif", ".JPEG", ".Tiff")

# What each format is asked for beside its name; the first is the plain one.
FORMATS: dict[str, tuple[dict[str, Any], ...]] = {
    "JPEG": ({}, {"progressive": True}, {"quality": 5, "subsampling": 2}, {"quality": 100}),
    "PNG": ({}, {"compress_level": 0}, {"dpi": (300, 1)}, {"bits": 2}),
    "TIFF": tuple(
        {"compression": name}
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg")
    ),
    "WEBP": ({}, {"lossless": True}, {"quality": 1}),
    "BMP": ({},),
    "GIF": ({}, {"interlace": True}),
    "PPM": ({},),
    "JPEG2000": ({}, {"irreversible": True}),
    "AVIF": ({"speed": 10},),
}
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr", "HSV", "I", "I;16", "F")


@st.composite
def images(draw: st.DrawFn, *modes: str) -> Image.Image:
    """Return an image of one of the modes, of any if none is given, mostly small, noise or flat."""
    width = draw(st.integers(1, 48) | st.sampled_from([1, 2, 257, 1000]))
    height = draw(st.integers(1, 48) | st.sampled_from([1, 2, 257]))
    values = np.random.default_rng(draw(st.integers(0, 2**16)))
    low, high = sorted(draw(st.tuples(st.integers(0, 255), st.integers(0, 255))))
    pixels = values.integers(low, high + 1, (height, width, 4), dtype=np.uint8)
    mode = draw(st.sampled_from(modes or MODES))
    if mode == "F":
        scale = draw(st.sampled_from([1 / 255, 1.0, 257.0, -1.0, 1e30, np.nan, np.inf]))
        with np.errstate(invalid="ignore"):
            return Image.fromarray(pixels[..., 0].astype(np.float32) * np.float32(scale))
    if mode in ("I", "I;16"):
        dtype, scale = (np.int32, draw(st.sampled_from([1, 257, -9, 2**23])))
        deep = pixels[..., 0].astype(np.int32) * scale
        return Image.fromarray(deep.astype(np.uint16 if mode == "I;16" else dtype))
    if mode in ("LAB", "HSV"):
        return Image.fromarray(pixels[..., :3], mode=mode)
    image = Image.fromarray(pixels)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


@st.composite
def exif(draw: st.DrawFn) -> bytes:
    """Return EXIF: of any orientation and often damaged."""
    made = Image.Exif()
    made[0x0112] = draw(st.integers(0, 9))
    made[0x010E] = draw(st.text(max_size=20))
    made.get_ifd(0x8769)[0x9003] = "2001:02:03 04:05:06"
    made.get_ifd(0x8825)[6] = draw(st.floats(0, 1e4))
    return _change(draw, made.tobytes()) if draw(st.booleans()) else made.tobytes()


@st.composite
def profiles(draw: st.DrawFn) -> bytes:
    """Return an ICC profile, often damaged."""
    name = draw(st.sampled_from(["sRGB", "LAB", "XYZ"]))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()  # type: ignore[arg-type]
    if draw(st.booleans()):  # so that it is not taken for sRGB's, and converted
        profile = profile.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    return _change(draw, profile) if draw(st.booleans()) else profile


@st.composite
def chunks(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return a PNG chunk's type and content, seldom one that belongs there."""
    known = (
        b"tRNS",
        b"PLTE",
        b"iCCP",
        b"eXIf",
        b"zTXt",
        b"iTXt",
        b"tEXt",
        b"gAMA",
        b"cHRM",
        b"sRGB",
    )
    known += (b"acTL", b"fcTL", b"fdAT", b"IHDR", b"IDAT", b"IEND", b"pHYs", b"sBIT", b"cICP")
    content = draw(st.binary(max_size=60))
    wrapped = (b"name\0\0" + zlib.compress(content), b"name\0\0" + zlib.compress(b"\0" * 2**22))
    return draw(st.sampled_from(known)), draw(st.sampled_from([content, *wrapped]))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Return the content of a picture's file."""
    if draw(st.integers(0, 19)) == 0:
        start = draw(
            st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*"])
        )
        return start + draw(st.binary(max_size=200))
    content = draw(_whole_files())
    if content.startswith(b"\x89PNG"):
        content = _with_chunks(content, draw(st.lists(chunks(), max_size=2)))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 4]))):
        content = _change(draw, content)
    if content.startswith(b"\x89PNG") and draw(st.booleans()):
        content = _with_chunks(content, [])  # of right checksums again
    return content


@st.composite
def _whole_files(draw: st.DrawFn) -> bytes:
    """Return a picture as Pillow or, with 16 bits a channel, as colorjax writes it."""
    format_name = draw(st.sampled_from(sorted(FORMATS)))
    options = dict(draw(st.sampled_from(FORMATS[format_name])))
    # Pillow corrupts its memory where libtiff refuses to write a mode with these compressions.
    safe_modes = {"group4": ("1",), "jpeg": ("L", "RGB")}.get(options.get("compression", ""), ())
    image = draw(images(*safe_modes))
    if draw(st.integers(0, 9)) == 0:
        return _deep_png(draw, draw(images("RGBA")))
    if draw(st.booleans()):
        options["icc_profile"] = draw(profiles())
    if format_name != "TIFF" and draw(st.booleans()):  # which ends in libtiff if EXIF is damaged
        options["exif"] = draw(exif())
    if format_name in ("GIF", "PNG", "TIFF", "WEBP") and draw(st.integers(0, 4)) == 0:
        options |= {"save_all": True, "append_images": [image]}
    if format_name == "PNG" and image.mode in ("1", "L", "RGB", "P") and draw(st.booleans()):
        options["transparency"] = (1, 2, 3) if image.mode == "RGB" else 1
    file = io.BytesIO()
    try:
        image.save(file, format_name, **options)
    except Exception:  # not every format takes every mode and option
        file = io.BytesIO()
        Image.new("RGB", image.size, "gray").save(file, format_name)
    return file.getvalue()


def _deep_png(draw: st.DrawFn, image: Image.Image) -> bytes:
    from colorjax.colorize.png import write_deep_png

    pixels = np.asarray(image).astype(np.uint16) * draw(st.sampled_from([1, 200, 257]))
    with tempfile.NamedTemporaryFile() as file:
        write_deep_png(pixels[..., : draw(st.integers(3, 4))], Path(file.name))
        return Path(file.name).read_bytes()


def _change(draw: st.DrawFn, content: bytes) -> bytes:
    """Return bytes damaged in one way; places near the start, where headers are, are likely."""
    if not content:
        return content
    # Not drawn from as many places as there are: encoders give a byte more or less at times, and
    # Hypothesis wants the same choices for the same case.
    place = draw(st.integers(0, 128) | st.integers(0, 2**20)) % len(content)
    length = 1 + draw(st.integers(0, 15) | st.integers(0, 2**20)) % len(content)
    part, after = content[place : place + length], content[place + length :]
    numbers = [
        b"\0",
        b"\xff",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\xff\xff",
    ]
    ways: dict[str, Callable[[], bytes]] = {
        "flip": lambda: bytes([part[0] ^ 1 << draw(st.integers(0, 7))]) + part[1:] + after,
        "overwrite": lambda: (
            (number := draw(st.sampled_from(numbers))) + content[place + len(number) :]
        ),
        "cut": lambda: b"",
        "remove": lambda: after,
        "double": lambda: part + part + after,
        "insert": lambda: draw(st.binary(min_size=1, max_size=8)) + part + after,
        "clear": lambda: bytes(len(part)) + after,
    }
    return content[:place] + ways[draw(st.sampled_from(sorted(ways)))]()


def _with_chunks(content: bytes, added: list[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG with chunks added behind its header, every checksum right as far as it goes."""
    found, rest = [], content[8:]
    while len(rest) >= 12:
        (length,) = struct.unpack(">I", rest[:4])
        found.append((rest[4:8], rest[8 : 8 + length]))
        rest = rest[12 + length :]
    parts = [*found[:1], *added, *found[1:]]
    return (
        content[:8]
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        )
        + rest
    )


def names() -> st.SearchStrategy[bytes]:
    """Return names of files as an odd disk holds them, without extensions."""
    texts = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=40)
    odd = st.sampled_from(["-dash", "[x]", "*", "new\nline", "\x1b[31m", "~", "%s{0}", "a" * 240])
    raw = st.binary(max_size=20).map(lambda name: name.replace(b"/", b"").replace(b"\0", b""))
    return (texts | odd).map(os.fsencode).filter(lambda name: len(name) < 246) | raw


def check_reading(path: Path) -> bool:
    """Check that a file is read, and what was read is written, or that a sentence says why not.

    Returns:
      Whether it could be read, here and in the other checks.
    """
    from colorjax.colorize.pictures import LONGEST_JPEG, count_pixels, read_photo, save_picture
    from colorjax.data.decode import decode, explain
    from colorjax.errors import UserError

    assert count_pixels(path) >= 0
    try:
        assert decode(path, (8, 8)).shape == (8, 8, 3)
    except Exception as error:  # whatever Pillow raises; explained by who calls
        _check_sentence(explain(error))
    try:
        photo = read_photo(path)
    except UserError as error:
        _check_sentence(str(error).removeprefix(str(path)))
        return False
    check_photo(photo)
    height, width, _ = photo.pixels.shape
    if height * width > LARGE or max(height, width) > LONGEST_JPEG:
        return True
    for extension in (".png", ".jpg"):
        target = path.with_name(f"written{extension}")
        save_picture(photo.pixels, target, photo.alpha, photo.metadata)
        again = read_photo(target)
        assert again.pixels.shape == photo.pixels.shape
        target.unlink()
    return True


def check_photo(photo: Any) -> None:
    """Check that a photo is one, and that on white it is as well."""
    height, width, channels = photo.pixels.shape
    assert height * width > 0
    assert channels == 3
    assert photo.pixels.dtype in (np.uint8, np.uint16)
    if photo.alpha is not None:
        assert photo.alpha.shape == (height, width)
        assert photo.alpha.dtype == photo.pixels.dtype
    assert photo.on_white().shape == photo.pixels.shape


def make_check_colorize(model: str) -> Callable[[Path], bool]:
    """Return what checks that a file's picture is coloured, or that a sentence says why not."""
    from colorjax import Colorizer
    from colorjax.colorize.pictures import read_photo
    from colorjax.errors import UserError

    colorizer = Colorizer.load(model)

    def check(path: Path) -> bool:
        try:
            photo = read_photo(path)
        except UserError as error:
            _check_sentence(str(error).removeprefix(str(path)))
            return False
        if photo.pixels[..., 0].size > LARGE:
            return True
        result = colorizer.colorize(photo)
        assert result.shape == photo.pixels.shape
        assert result.dtype == photo.pixels.dtype
        (second,) = colorizer.colorize_many([path])
        assert second.shape == photo.pixels.shape
        with Image.open(path) as image:
            assert colorizer.colorize(image).shape == photo.pixels.shape
        return True

    check(_plain_picture())
    return check


def make_check_batch(model: str) -> Callable[[Path], bool]:
    """Return what checks that a folder is coloured and whatever can't be is named, each once."""
    from colorjax.cli import main
    from colorjax.colorize.pictures import count_pixels

    def check(folder: Path) -> bool:
        output = folder.with_name("colorized")
        arguments = ["colorize", str(folder), "--model", model, "--output", str(output)]
        for path in folder.iterdir():
            if count_pixels(path) > LARGE:
                path.unlink()
        count = sum(not name.startswith(".") for name in os.listdir(folder))
        if not count:
            return False
        said, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            status = main(arguments)
        done = said.getvalue().splitlines()
        failed = [line for line in complained.getvalue().splitlines() if ": failed, " in line]
        written = [path for path in output.rglob("*") if path.is_file()]
        assert status == (1 if failed else 0), complained.getvalue()
        assert len(done) + len(failed) == count, (done, failed)
        assert len(written) == len(done)
        for path in written:
            with Image.open(path) as image:
                image.load()
        shutil.rmtree(output, ignore_errors=True)
        return bool(written)

    check(_plain_picture().parent)
    return check


def _plain_picture() -> Path:
    path = Path(tempfile.mkdtemp(prefix="colorjax-fuzz-")) / "plain.png"
    Image.new("RGB", (20, 10), "gray").save(path)
    return path


def _check_sentence(text: str) -> None:
    assert text.strip()
    assert "\n" not in text
    assert len(text) < 500, text


def write_case(draw: st.DrawFn, kind: str, place: Path) -> Path:
    """Write a case of a kind (`read`, `colorize` or `batch`) into a folder and return its path."""
    if kind != "batch":
        path = place / f"case{draw(st.sampled_from(EXTENSIONS))}"
        path.write_bytes(draw(files()))
        return path
    folder = place / "case"
    folder.mkdir()
    for name in draw(st.lists(names(), min_size=1, max_size=6)):
        suffix = os.fsencode(draw(st.sampled_from(EXTENSIONS)))
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name + suffix)).write_bytes(draw(files()))
    return folder


def make_check(kind: str, model: str) -> Callable[[Path], bool]:
    """Return the check of a kind of case, warmed up."""
    if kind == "read":
        check_reading(_plain_picture())
        return check_reading
    return make_check_colorize(model) if kind == "colorize" else make_check_batch(model)


def work(kind: str, model: str, first_seed: int, cases: int, memory: int) -> None:
    """Try cases, and tell of each on stdout in lines of JSON: its start and its end."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    check = make_check(kind, model)
    idle = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (idle + memory, idle + memory))
    print(json.dumps({"ready": _status("VmRSS")}), file=pipe)

    @seed(first_seed)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def try_each(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory(prefix="colorjax-fuzz-") as place:
            path = write_case(data.draw, kind, Path(place))
            print(json.dumps({"start": str(path)}), file=pipe)
            print(json.dumps(_try(check, path)), file=pipe)

    try_each()
    print(json.dumps({"end": True}), file=pipe)


def _try(check: Callable[[Path], bool], path: Path) -> dict[str, Any]:
    """Return what came of a case, and what it took."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    began = time.process_time()
    outcome: dict[str, Any] = {}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # the signal ends the process, in C as well
    try:
        outcome["done"] = check(path)
    except Exception:
        outcome["failure"] = traceback.format_exc()
    signal.setitimer(signal.ITIMER_PROF, 0)
    return outcome | {"seconds": time.process_time() - began, "peak": _status("VmHWM")}


def _status(name: str) -> int:
    """Return a figure of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@dataclass
class Tally:
    """What came of the cases of one kind."""

    cases: int = 0
    done: int = 0
    idle: int = 0
    peak: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        megabytes = self.peak / 2**20, self.idle / 2**20
        return (
            f"{self.cases} cases, {self.done} coloured or read, {self.cases - self.done} refused; "
            f"slowest {self.slowest:.2f} s; at most {megabytes[0]:.0f} MB (idle {megabytes[1]:.0f} "
            f"MB); {len(self.failures)} failures"
        )

    def add(self, outcome: dict[str, Any]) -> None:
        """Count a case that ended."""
        self.cases += 1
        self.done += outcome.get("done", False)
        self.slowest = max(self.slowest, outcome["seconds"])
        self.peak = max(self.peak, outcome["peak"])


def run_kind(kind: str, cases: int, options: argparse.Namespace) -> Tally:
    """Try cases of a kind, in one worker after another."""
    tally, number = Tally(), 0
    while tally.cases < cases:
        count = min(CASES_OF_A_WORKER, cases - tally.cases)
        _run_worker(kind, options.seed + number, count, options, tally)
        number += 1
        print(f"{kind}, up to seed {options.seed + number - 1}: {tally}", flush=True)
    return tally


def _run_worker(
    kind: str, number: int, cases: int, options: argparse.Namespace, tally: Tally
) -> None:
    command = [sys.executable, __file__, "--worker", kind, "--seed", str(number)]
    command += ["--cases", str(cases), "--model", options.model, "--memory", str(options.memory)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    path: Path | None = None
    ended = False
    options.keep.mkdir(parents=True, exist_ok=True)
    log = (options.keep / "worker.log").open("ab")  # what libraries complain of, and last words
    with (
        log,
        subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=log, env=environment
        ) as process,
    ):
        for line in _lines(process):
            if "start" in line:
                path = Path(line["start"])
            elif "seconds" in line:
                tally.add(line)
                if "failure" in line and path:
                    _keep(kind, number, path, line["failure"], options.keep, tally)
                path = None
            tally.idle = max(tally.idle, line.get("ready", 0))
            ended = ended or "end" in line
        process.kill()
    if not ended:
        tally.cases += 1
        name = signal.Signals(-process.returncode).name if process.returncode < 0 else "its end"
        reason = {
            "SIGPROF": f"more than {SECONDS:g} s of computing",
            "SIGKILL": f"no end within {WAITING:g} s",
        }.get(name, f"the worker died ({name})")
        _keep(kind, number, path, reason, options.keep, tally)


def _lines(process: subprocess.Popen) -> Iterator[dict[str, Any]]:
    """Yield what a worker tells, until it ends or says nothing for too long."""
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        rest, limit = b"", PREPARATION
        while selector.select(limit):
            data = os.read(process.stdout.fileno(), 2**16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in map(json.loads, lines):
                limit = WAITING if "start" in line else PREPARATION
                yield line


def _keep(
    kind: str, number: int, path: Path | None, reason: str, folder: Path, tally: Tally
) -> None:
    """Keep a case that broke a promise, and say so."""
    tally.failures.append(reason)
    kept = folder / f"{kind}-{number}-{len(tally.failures)}{path.suffix if path else ''}"
    if path and path.is_dir():
        shutil.copytree(path, kept)
    elif path and path.exists():
        shutil.copy(path, kept)
    print(f"FAILED, seed {number}, kept as {kept}: {reason}", flush=True)


def main() -> int:
    """Run the program; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="", help="for all but reading")
    parser.add_argument("--read", type=int, default=20_000, help="cases; default: %(default)s")
    parser.add_argument("--colorize", type=int, default=0, help="cases, which need a model")
    parser.add_argument("--batch", type=int, default=0, help="folders of 1 to 6 cases")
    parser.add_argument("--seed", type=int, default=0, help="of the first worker")
    parser.add_argument("--memory", type=int, default=2**32, help="bytes; default: 4 GB")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="where failures are kept")
    parser.add_argument("--case", type=Path, help="a kept case to try again")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.model, options.seed, options.cases, options.memory)
        return 0
    if options.case:
        kind = options.case.name.partition("-")[0]
        print("done" if make_check(kind, options.model)(options.case) else "refused")
        return 0
    counts = {"read": options.read, "colorize": options.colorize, "batch": options.batch}
    tallies = {kind: run_kind(kind, count, options) for kind, count in counts.items() if count}
    for kind, tally in tallies.items():
        print(f"{kind}: {tally}")
    return int(any(tally.failures for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
