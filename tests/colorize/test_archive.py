"""Archives: the engine ray on a real cluster of this machine, and storage that fsspec reaches."""

import importlib.util
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorjax.cli import main
from colorjax.colorize import archive, storage
from colorjax.errors import UserError
from conftest import save_picture

# Looked for, not imported: the environment that the command sets first is to count.
if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray isn't installed (the extra `ray`)", allow_module_level=True)

WORKERS = 2
PICTURES = 47
BLOCK = 24  # pictures, as one more is broken

# Storage that the workers find as they would find s3fs: an installed package that says which URLs
# it is for. It writes down what it is asked to do, and by whom. A file that has a `.hold` beside it
# is not given out until that is taken away.
SHELF = """
import os, time
from fsspec.implementations.local import LocalFileSystem

def note(*words):
    with open(os.environ["SHELF_LOG"], "a") as log:
        log.write(" ".join(map(str, (os.getpid(), *words))) + "\\n")

class Shelf(LocalFileSystem):
    protocol = "shelf"
    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("shelf://"))
    def unstrip_protocol(self, name):
        return "shelf://" + self._strip_protocol(name)
    def get_file(self, path, *arguments, **options):
        if os.path.exists(path + ".hold"):
            note("held", path)
            while os.path.exists(path + ".hold"):
                time.sleep(0.05)
        super().get_file(path, *arguments, **options)
    def mv(self, source, target, **options):
        note("moves", target)
        super().mv(source, target, **options)
"""


@pytest.fixture(scope="module")
def shelf_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the storage `shelf://` was asked to do; the storage is installed for all processes."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "shelf.py").write_text(SHELF)
    package = folder / "shelf-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[fsspec.specs]\nshelf = shelf:Shelf\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setenv("SHELF_LOG", str(folder / "log"))
        patch.syspath_prepend(str(folder))
        (folder / "log").touch()
        import fsspec

        fsspec.register_implementation("shelf", "shelf.Shelf")
        yield folder / "log"


@pytest.fixture(scope="module")
def cluster(shelf_log: Path) -> Iterator[None]:
    """A cluster of this machine, as the command starts one; commands of this process use it."""
    pool = archive.Pool(WORKERS)
    archive.create_engine(pool)
    with archive._connected(pool):
        yield


def colorize(*arguments: object) -> int:
    return main(["colorize", *map(str, arguments)])


def create_archive(folder: Path, count: int) -> None:
    """Write pictures of several kinds in a tree in which stems are shared."""
    for index in range(count - 2):
        save_picture(str(folder / f"{index % 3}/{index:02d}.png"), 10 + index, 20, seed=index)
    save_picture(str(folder / "0/00.jpg"), seed=50)
    Image.new("RGBA", (9, 9), (130, 90, 60, 99)).save(folder / "clear.png")


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_log(log: Path, word: str) -> list[tuple[int, str]]:
    """Return processes and files of the lines with a word."""
    lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
    return [(int(process), path) for process, found, path in lines if found == word]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_worker(log: Path, hold: Path) -> None:
    """Kill the worker that waits for a file once it has put some results, and let the file go."""
    try:
        wait_for(lambda: read_log(log, "held"))
        [(victim, _)] = read_log(log, "held")

        def has_put() -> bool:
            put = [path for process, path in read_log(log, "moves") if process == victim]
            return bool(put) and all(map(os.path.exists, put))

        wait_for(has_put)
        os.kill(victim, signal.SIGKILL)
    finally:
        hold.unlink()


def test_a_killed_worker_loses_nothing_and_does_nothing_twice(
    work: Path,
    model_folder: Path,
    shelf_log: Path,
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create_archive(work / "in", PICTURES)
    Path("in/2/broken.png").write_bytes(Path("in/0/00.png").read_bytes()[:60])
    save_picture("palette.png", seed=99)
    options = ["--model", model_folder, "--format", "jpg", "--saturation", "1.5"]
    options += ["--reference", "palette.png", "--upsample", "bicubic"]
    assert colorize("in", *options, "--output", "alone") == 1
    expected = capsys.readouterr()
    # The block's last pictures are not read before its first are done.
    monkeypatch.setattr(archive, "_BLOCKS_PER_WORKER", 1)
    monkeypatch.setattr(archive, "_BLOCK", BLOCK)
    names = sorted(path.relative_to("in").as_posix() for path in Path("in").rglob("*.*"))
    hold = Path("in") / f"{names[BLOCK - 1]}.hold"
    hold.touch()
    killer = threading.Thread(target=kill_worker, args=(shelf_log, hold.absolute()))
    killer.start()
    arguments = [f"shelf://{work}/in", *options, "--output", f"shelf://{work}/out"]
    ray_options = ["--engine", "ray", "--workers", WORKERS]
    assert colorize(*arguments, *ray_options) == 1
    killer.join()
    output = capsys.readouterr()
    assert read_tree(work / "out") == read_tree(work / "alone")
    assert len(read_tree(work / "out")) == PICTURES
    moves = read_log(shelf_log, "moves")
    assert set(Counter(path for _, path in moves).values()) == {1}
    [(victim, _)] = read_log(shelf_log, "held")
    processes = {process for process, _ in moves}
    assert len(processes) == 3, "the victim, who came for it, and the other worker"
    assert victim in processes
    assert output.err.replace(f"shelf://{work}/", "") == expected.err
    assert sorted(output.out.replace(f"shelf://{work}/", "").splitlines()) == sorted(
        expected.out.replace("alone", "out").splitlines()
    )
    Path("in/2/broken.png").unlink()
    assert colorize(*arguments, *ray_options) == 0
    assert capsys.readouterr().err.startswith(f"{PICTURES} pictures skipped")
    assert len(read_log(shelf_log, "moves")) == PICTURES


def test_a_folder_and_a_file_url_are_coloured_as_on_one_machine(
    work: Path, model_folder: Path, cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    create_archive(work / "in", 6)
    exif = Image.Exif()
    exif[0x013B] = "A. Gardener"
    Image.new("L", (20, 8), 130).save("in/gray.tif", exif=exif)
    options = ["--model", model_folder, "--keep-metadata", "--overwrite"]
    assert colorize("in", *options, "--output", "alone") == 0
    # Existing files, among them that of an interrupted run, are written over.
    Path("out").mkdir()
    Path("out/gray.png").write_text("old")
    arguments = [f"file://{work}/in", *options, "--engine", "ray", "--output", f"file://{work}/out"]
    assert colorize(*arguments) == 0
    assert read_tree(work / "out") == read_tree(work / "alone")
    assert capsys.readouterr().err == ""


def listening_addresses() -> set[str]:
    """Return the addresses, in hexadecimal, on which this process's descendants listen."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            continue
    family = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    sockets = set()
    for process in family:
        for link in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    listening = "0A"
    return {
        line[1].partition(":")[0]
        for line in lines
        if line[3] == listening and f"socket:[{line[9]}]" in sockets
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cluster_of_this_machine_is_closed_to_the_network(cluster: None) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    found = listening_addresses()
    assert found
    assert found <= loopback
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "ray", "--hint", "2,2,#ff0000"], "--engine local"),
        (["--engine", "ray", "--workers", "0"], "give 1 or more"),
        (["--engine", "ray", "--ray-address", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1"),
        (["--workers", "2"], "go with --engine ray"),
        (["--output", "nowhere://results"], "no storage that fsspec knows"),
    ],
)
def test_misuse(
    work: Path,
    model_folder: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_picture("a.png")
    assert colorize("a.png", "--model", model_folder, *arguments) == 2
    output = capsys.readouterr().err
    assert message in output
    assert len(output.splitlines()) == 1
    assert not Path("colorized").exists()


def test_without_ray_a_sentence_says_what_to_install(
    work: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_picture("a.png")
    monkeypatch.setitem(sys.modules, "ray.data", None)
    assert colorize("a.png", "--model", model_folder, "--engine", "ray") == 2
    assert capsys.readouterr().err == (
        "error: --engine ray needs Ray: pip install 'colorjax[ray]'.\n"
    )


def test_storage_is_coloured_by_the_engine_local_too(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    create_archive(work / "in", 4)
    memory = fsspec.filesystem("memory")
    memory.put("in", "/bucket/in", recursive=True)
    arguments = ["memory://bucket/in", "--model", model_folder, "--output", "memory://bucket/out"]
    assert colorize("in", "--model", model_folder) == 0
    assert colorize(*arguments) == 0
    memory.get("/bucket/out", "fetched", recursive=True)
    assert read_tree(work / "fetched") == read_tree(work / "colorized")
    capsys.readouterr()
    assert colorize(*arguments) == 0
    assert capsys.readouterr().err.startswith("4 pictures skipped")
    memory.rm("/bucket", recursive=True)


def test_a_result_that_storage_does_not_take_leaves_nothing(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    def break_off(self: MemoryFileSystem, source: str, target: str, **options: object) -> None:
        self.pipe_file(target, Path(source).read_bytes()[:3])
        raise TimeoutError("the connection broke off")

    monkeypatch.setattr(MemoryFileSystem, "put_file", break_off)
    file = storage.StoredFile("memory://lost/a.png")
    with pytest.raises(OSError, match="broke off"):
        file.store(lambda path: path.write_bytes(b"a picture"))
    assert fsspec.filesystem("memory").find("/lost") == []


def test_a_bucket_is_looked_through_as_a_folder_is() -> None:
    import fsspec

    names = ["b.PNG", "a/x.jpg", ".hidden/x.png", "a/.x.jpg", "text/notes.txt", "out/b.png"]
    memory = fsspec.filesystem("memory")
    for name in names:
        memory.pipe(f"/listed/{name}", b"1234")
    output = storage.normalize("memory://listed/out/")
    found, problems = storage.find_stored(["memory://listed/", "memory://listed/b.PNG"], output)
    assert [(item.url, str(item.place), item.size) for item in found] == [
        ("memory:///listed/a/x.jpg", "a/x.jpg", 4),
        ("memory:///listed/b.PNG", "b.PNG", 4),
    ]
    assert problems == []
    found, problems = storage.find_stored(["memory://listed/a/*.jpg", "memory://no.png"], output)
    assert [item.place.name for item in found] == ["x.jpg"]
    assert [problem.name for problem in problems] == ["memory://no.png"]
    with pytest.raises(UserError, match="no image files or films"):
        storage.find_stored(["memory://listed/text"], output)
    memory.rm("/listed", recursive=True)


def test_names_in_a_bucket_do_not_lead_out_of_the_folder_of_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    keys = ["/bucket/in/../../etc/a.png", "/bucket/in/b.png"]
    listed = {key: {"name": key, "size": 1, "type": "file"} for key in keys}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: listed)
    found, problems = storage.find_stored(["memory://bucket/in"], "out")
    assert [item.place for item in found] == [Path("b.png")]
    assert [problem.reason for problem in problems] == ["its name leads out of the folder"]


def test_jobs_are_the_same_after_the_way_to_a_worker(work: Path) -> None:
    from colorjax.colorize.batch import Job
    from colorjax.colorize.links import Link

    sources = [Link("https://x.org/a.png"), storage.StoredFile("s3://b/a#?.png", size=7)]
    for source in (*sources, work / "odd://name.png"):
        for target in (storage.StoredFile("gs://b/o.png"), work / "out.png"):
            row = archive._describe_job(3, Job(source, target))
            parsed = archive._parse_job(row["source"], np.int64(row["size"]), row["target"])
            assert parsed == Job(source, target)
