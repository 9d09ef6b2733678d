"""Whatever bad luck brings: each file is named with its reason, and the others are done."""

import errno
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorjax.cli import main
from colorjax.colorize import batch
from colorjax.colorize.links import Limits
from conftest import ROOT, save_picture

NOT_A_PICTURE = "not a picture that Pillow can read"
NOT_A_FILE = "a pipe or a device"
MORE = "the first of several frames or pages is coloured"

# What of the folder fails, and a part of the reason.
FAILING = {
    "cut.jpg": "truncated",
    "cut.png": "truncated",
    "text.jpg": NOT_A_PICTURE,
    "empty.jpg": "empty",
    "huge.png": "more than 178,956,970 pixels",
    "none.bmp": NOT_A_PICTURE,
    "postscript.jpg": NOT_A_PICTURE,
    "text-bomb.png": "too large",
    "profile-bomb.png": "too large",
    "dangling.jpg": "no such file",
    "loop.jpg": "symbolic links",
    "pipe.jpg": NOT_A_FILE,
    "device.jpg": NOT_A_FILE,
    r"bytes-\udcff.jpg": NOT_A_PICTURE,
    r"escape-\x1b[31m.jpg": NOT_A_PICTURE,
    r"new\nline.jpg": NOT_A_PICTURE,
}
# What of it is odd but done, with the size of the result.
WHOLE = {
    "good.png": (20, 12),
    "strip.png": (5000, 1),
    "upright.png": (1, 5000),
    "-dash.png": (20, 12),
    "flower 🌸.png": (20, 12),
    "[glob]*.png": (20, 12),
    r"good-\udcff.png": (20, 12),
    "x" * 251 + ".png": (20, 12),
    "moving.gif": (8, 8),
    "moving.webp": (8, 8),
    "pages.tif": (8, 8),
    "one-bit.tif": (20, 12),
    "gray.tif": (20, 12),
    "gray-alpha.tif": (20, 12),
    "palette.tif": (20, 12),
    "cmyk.tif": (20, 12),
    "deep.tif": (20, 12),
    "integers.tif": (20, 12),
    "floats.tif": (20, 12),
    "exif.jpg": (20, 12),
    "exif.png": (20, 12),
    "profile.jpg": (20, 12),
    "folder.jpg/inside.png": (20, 12),
}


def write_odd_pictures(folder: Path) -> None:
    save_picture(str(folder / "good.png"))
    good = Image.open(folder / "good.png")
    Image.new("RGB", (5000, 1), "gray").save(folder / "strip.png")
    Image.new("RGB", (1, 5000), "gray").save(folder / "upright.png")
    (folder / "folder.jpg").mkdir()
    for name in ("-dash.png", "flower 🌸.png", "[glob]*.png", "x" * 251 + ".png"):
        shutil.copy(folder / "good.png", folder / name)
    shutil.copy(folder / "good.png", folder / "folder.jpg/inside.png")
    shutil.copy(folder / "good.png", os.fsencode(folder) + b"/good-\xff.png")
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    for name in ("moving.gif", "moving.webp", "pages.tif"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    modes = {"one-bit": "1", "gray": "L", "gray-alpha": "LA", "palette": "P", "cmyk": "CMYK"}
    for name, mode in modes.items():
        good.convert(mode).save(folder / f"{name}.tif")
    values = np.asarray(good.convert("L"))
    for name, kind in {"deep": np.uint16, "integers": np.int32, "floats": np.float32}.items():
        Image.fromarray(values.astype(kind)).save(folder / f"{name}.tif")
    endless = b"\x12\x01\x03\0" + b"\xff\xff\xff\x7f" * 2  # a tag of 2 billion values
    good.save(folder / "exif.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0" + endless)
    good.save(folder / "exif.png", exif=b"Exif\0\0no EXIF")
    good.save(folder / "profile.jpg", icc_profile=b"no profile at all")


def write_failing_files(folder: Path) -> None:
    good = (folder / "good.png").read_bytes()
    Image.open(folder / "good.png").save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-200])
    (folder / "cut.png").write_bytes(good[:-200])
    (folder / "text.jpg").write_text("text")
    (folder / "empty.jpg").touch()
    for name in (b"bytes-\xff.jpg", b"escape-\x1b[31m.jpg", b"new\nline.jpg"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("text")
    (folder / "postscript.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "huge.png").write_bytes(with_header(good, struct.pack(">II", 60_000, 60_000)))
    Image.new("RGB", (9, 9)).save(folder / "none.bmp")
    bitmap = (folder / "none.bmp").read_bytes()
    (folder / "none.bmp").write_bytes(bitmap[:18] + bytes(8) + bitmap[26:])
    bomb = zlib.compress(bytes(10_000_000))
    (folder / "text-bomb.png").write_bytes(with_chunk(good, b"zTXt", b"Comment\0\0" + bomb))
    (folder / "profile-bomb.png").write_bytes(with_chunk(good, b"iCCP", b"icc\0\0" + bomb))
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")


def with_header(png: bytes, size: bytes) -> bytes:
    header = png[12:16] + size + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    chunk = struct.pack(">I", len(content)) + kind + content
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(kind + content)) + png[33:]


@dataclass
class Outcome:
    """What came of a command."""

    status: int
    said: list[str]
    complained: list[str]
    written: dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def outcome(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A folder of good, odd and bad files, coloured in one go."""
    folder = tmp_path_factory.mktemp("odd")
    write_odd_pictures(folder)
    write_failing_files(folder)
    output = tmp_path_factory.mktemp("results")
    # A program of its own has stdout as users have it: strict about what isn't text.
    command = [sys.executable, "-m", "colorjax", "colorize", str(folder)]
    command += ["--model", str(model_folder), "--output", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    written = {}
    for path in output.rglob("*"):
        if path.is_file():
            name = os.fsencode(path.relative_to(output)).decode("utf-8", "backslashreplace")
            written[name.replace(r"\xff", r"\udcff")] = Image.open(path).size
    cut = slice(len(str(folder)) + 1, None)
    lines = [text.splitlines() for text in (result.stdout, result.stderr)]
    return Outcome(result.returncode, *([x[cut] for x in each] for each in lines), written)


def test_what_fails_is_named_with_its_reason_in_a_line(outcome: Outcome) -> None:
    assert outcome.status == 1
    reasons = dict(line.split(": failed, ") for line in outcome.complained if ": failed," in line)
    assert set(reasons) == set(FAILING)
    for name, reason in FAILING.items():
        assert reason.lower() in reasons[name].lower()


def test_what_is_odd_is_done(outcome: Outcome) -> None:
    assert {line.partition(" -> ")[0] for line in outcome.said} == set(WHOLE)
    stems = [name.rpartition(".")[0] for name in (*WHOLE, *FAILING)]
    for name, size in WHOLE.items():
        stem = name.rpartition(".")[0]
        result = f"{stem}.png" if stems.count(stem) == 1 else f"{name}.png"
        assert outcome.written.pop(result) == size
    assert not outcome.written  # neither half files nor results of what failed


def test_left_out_frames_are_told(outcome: Outcome) -> None:
    others = [line for line in outcome.complained if ": failed," not in line]
    expected = [f"{name}: {MORE}" for name in ("moving.gif", "moving.webp", "pages.tif")]
    assert sorted(others) == expected


def test_a_second_run_tries_the_failed_alone(
    outcome: Outcome, work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture("in/a.png")
    Path("in/b.png").write_text("text")
    for count in (1, 0):
        assert main(["colorize", "in", "--model", str(model_folder)]) == 1
        output = capsys.readouterr()
        assert len(output.out.splitlines()) == count
        assert "in/b.png: failed" in output.err


def without_privileges(command: list[str]) -> list[str]:
    """Return a command for which permissions hold although root runs it."""
    if os.geteuid() != 0:
        return command
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and setpriv, which changes that, is missing")
    dropped = "-dac_override,-dac_read_search"
    return ["setpriv", f"--inh-caps={dropped}", f"--bounding-set={dropped}", *command]


def test_what_may_not_be_read_or_written_is_named(work: Path, model_folder: Path) -> None:
    for name in ("good", "locked/a", "in/good", "in/closed/a", "in/mine", "in/kept/b", "in/new/c"):
        save_picture(f"{name}.png")
    for name in ("colorized/kept", "colorized/new"):
        Path(name).mkdir(parents=True)
    Path("in/mine.png").chmod(0)
    closed = [Path(name) for name in ("locked", "in/closed", "colorized/kept")]
    for path in closed:
        path.chmod(0o500 if path.name == "kept" else 0)
    command = [sys.executable, "-m", "colorjax", "colorize", "locked", "in", "locked/a.png"]
    command += ["good.png", "--model", str(model_folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        result = subprocess.run(
            without_privileges(command),
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    finally:
        for path in closed:
            path.chmod(0o700)
    assert result.returncode == 1
    assert sorted(result.stderr.splitlines()) == [
        "in/closed: failed, permission denied",
        "in/kept/b.png: failed, colorized/kept/b.png can't be written: permission denied",
        "in/mine.png: failed, permission denied",
        "locked/a.png: failed, permission denied",
        "locked: failed, permission denied",
    ]
    assert result.stdout.count(" -> ") == 3
    assert [path.name for path in Path("colorized/kept").iterdir()] == []


FULL_DISK = """
import json, os, sys
from colorjax.cli import main
status = main(["colorize", "in", "--model", sys.argv[1], "--output", "full"])
print(json.dumps([status, sorted(os.listdir("full"))]))
"""


def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(work: Path, model_folder: Path) -> None:
    for index in range(3):
        save_picture(f"in/large{index}.png", 300, 300)  # some 200 kB
    save_picture("in/small.png")
    Path("full").mkdir()
    mount = "mount -t tmpfs -o size=64k tmpfs full"
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, mount], check=False).returncode
    ):
        pytest.skip("a disk of 64 kB needs a namespace of its own, which is not allowed here")
    command = [*namespace, f'{mount} && exec "$@"', "sh"]
    command += [sys.executable, "-c", FULL_DISK, str(model_folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    status, names = json.loads(result.stdout.splitlines()[-1])
    assert status == 1
    # What is small may fail as well, while the disk is full of what is written beside it.
    assert names in ([], ["small.png"])
    reasons = dict(line.split(": failed, ") for line in result.stderr.splitlines())
    assert len(reasons) == 4 - len(names)
    for name, reason in reasons.items():
        assert reason == f"full/{Path(name).name} can't be written: no space left on device"


def test_a_file_that_outgrows_its_limit_is_left_out(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture("in/large.png", 400, 400)
    save_picture("in/small.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for extension in ("png", "jpg"):
        arguments = ["in", "--model", str(model_folder), "--format", extension]
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            assert main(["colorize", *arguments]) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        reason = os.strerror(errno.EFBIG).lower()
        assert f"large.{extension} can't be written: {reason}" in capsys.readouterr().err
    assert sorted(path.name for path in Path("colorized").iterdir()) == ["small.jpg", "small.png"]


def test_a_picture_may_vanish_once_it_is_listed(
    work: Path,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_picture("in/a.png")
    save_picture("in/b.png")
    load = batch.Colorizer.load

    def load_meanwhile(model: str) -> batch.Colorizer:
        Path("in/a.png").unlink()
        return load(model)

    monkeypatch.setattr(batch.Colorizer, "load", load_meanwhile)
    assert main(["colorize", "in", "--model", str(model_folder)]) == 1
    assert capsys.readouterr().err == "in/a.png: failed, no such file or directory\n"
    assert [path.name for path in Path("colorized").iterdir()] == ["b.png"]


def test_a_link_that_never_answers_is_given_up(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture("b.png")
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections and says nothing
        link = f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg"
        options = batch.Options(limits=Limits(wait=0.2))
        status = batch.colorize_files([link, "b.png"], str(model_folder), Path("out"), options)
    assert status == 1
    assert capsys.readouterr().err == f"{link}: failed, the server said nothing for 0.2 seconds\n"
    assert [path.name for path in Path("out").iterdir()] == ["b.png"]


def test_strange_names_on_the_command_line(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture("-a.png")
    Path("loop.png").symlink_to("loop.png")
    Path("gone.png").symlink_to("nowhere")
    names = ["n" * 300 + ".png", "loop.png", "gone.png", "-a.png/b.png", "~nobody/x.png", "-a.png"]
    assert main(["colorize", "--model", str(model_folder), "--", *names]) == 1
    output = capsys.readouterr()
    assert output.out == "-a.png -> colorized/-a.png\n"
    reasons = [line.rpartition(": failed, ")[2] for line in output.err.splitlines()]
    assert reasons == [
        "file name too long",
        "too many levels of symbolic links",
        "it is a link to a file that is not there",
        "not a directory",
        "there is no such file",
    ]


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_results_never_go_where_they_would_be_inputs(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], overwrite: list[str]
) -> None:
    save_picture("in/a.jpg")
    options = ["--model", str(model_folder), "--output", "in", *overwrite]
    assert main(["colorize", "in", *options]) == 2
    assert "name another --output" in capsys.readouterr().err
    assert main(["colorize", "in/a.jpg", "--format", "jpg", *options]) == 1
    assert "itself an input" in capsys.readouterr().err
    assert [path.name for path in Path("in").iterdir()] == ["a.jpg"]
