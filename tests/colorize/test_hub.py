"""Models on the Hugging Face hub: from its cache and from a server, and what is refused."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from colorjax import Colorizer
from colorjax.cli import main
from colorjax.colorize import hub
from colorjax.colorize.model import find_model
from colorjax.errors import UserError
from conftest import save_picture

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "hf://gardener/flowers"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, and no connection; colorjax's own cache is empty too."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def model(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder: config.json, the item `generator`, checksums.json, and more."""
    folder = tmp_path_factory.mktemp("model") / "flowers"
    shutil.copytree(model_folder / "best/2", folder)
    shutil.copy(model_folder / "config.json", folder)
    (folder / "README.md").write_text("# Flowers")
    return folder


def lay_out(model: Path, cache: Path, reference: str = "main") -> Path:
    """Lay a folder out as the hub's cache does, and return the snapshot."""
    repository = cache / "models--gardener--flowers"
    snapshot = repository / "snapshots" / COMMIT
    for path in model.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            link = snapshot / path.relative_to(model)
            link.parent.mkdir(parents=True, exist_ok=True)
            up = "/".join([".."] * (len(link.relative_to(repository).parts) - 1))
            link.symlink_to(f"{up}/blobs/{blob.name}")
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / reference).write_text(COMMIT)
    return snapshot


def assert_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find_model(name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_in_the_hubs_cache_is_a_model(model: Path, cache: Path) -> None:
    lay_out(model, cache)
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    expected = Colorizer.load(model).colorize(image)
    np.testing.assert_array_equal(Colorizer.load(NAME).colorize(image), expected)
    folder = find_model(NAME).folder
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert not (folder / "README.md").exists()


def test_a_runs_folder_gives_its_best_step(model_folder: Path, cache: Path) -> None:
    lay_out(model_folder, cache)
    found = find_model(NAME)
    assert found.folder.parts[-2:] == ("best", "2")
    assert found.config.image_size == 16
    assert not (found.folder.parents[1] / "steps").exists()


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_a_revision_may_be_named(model: Path, cache: Path, revision: str) -> None:
    lay_out(model, cache, reference="v1")
    assert find_model(f"{NAME}@{revision}").config.image_size == 16
    assert_refused(f"{NAME}@v2", "is not in the Hugging Face hub's cache")
    assert_refused(NAME, "is not in the Hugging Face hub's cache")


def test_a_snapshot_that_was_completed_later_is_taken_whole(model: Path, cache: Path) -> None:
    snapshot = lay_out(model, cache)
    shutil.rmtree(snapshot / "generator")
    assert_refused(NAME, "holds no checkpoint")
    shutil.rmtree(cache)
    lay_out(model, cache)
    find_model(NAME)


def test_commands_take_models_of_the_hub(
    model: Path, cache: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(model, cache)
    save_picture("photos/a.png", seed=1)
    assert main(["describe", NAME]) == 0
    assert main(["colorize", "photos", "--model", NAME]) == 0
    assert Image.open("colorized/a.png").size == (20, 12)
    assert NAME in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["hf://", "hf://gardener", "hf://gardener/", "hf://gardener/flowers/best", "hf:///a/b"]
)
def test_names_that_name_no_model(name: str, cache: Path) -> None:
    assert_refused(name, "names no model on the hub")


def test_names_that_the_hub_does_not_allow(cache: Path) -> None:
    assert_refused("hf://gardener/..", "can't be the name")


def test_an_absent_model_is_one_sentence(
    cache: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture("a.png")
    assert main(["colorize", "a.png", "--model", NAME]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {NAME} is not in the Hugging Face hub's cache")
    assert len(error.splitlines()) == 1


def test_a_repository_without_a_model_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else/model.safetensors").write_text("weights")
    lay_out(tmp_path / "else", cache)
    assert_refused(NAME, "is no colorjax model")


def replace(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path, outside: replace(path, outside / "secret"), "leads out of"),
        (lambda path, outside: replace(path, outside), "leads out of"),
        (lambda path, outside: replace(path, path.parents[2] / "refs/main"), "leads out of"),
        (lambda path, outside: replace(path, path.parents[2] / "blobs/absent"), "no plain file"),
    ],
)
def test_links_out_of_the_cache_are_refused(
    model: Path,
    cache: Path,
    tmp_path: Path,
    change: Callable[[Path, Path], None],
    message: str,
) -> None:
    snapshot = lay_out(model, cache)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("{}")
    change(snapshot / "config.json", tmp_path / "outside")
    assert_refused(NAME, message)


def test_folders_that_are_links_are_not_followed(model: Path, cache: Path, tmp_path: Path) -> None:
    snapshot = lay_out(model, cache)
    shutil.copytree(model / "generator", tmp_path / "outside")
    shutil.rmtree(snapshot / "generator")
    (snapshot / "generator").symlink_to(tmp_path / "outside")
    assert_refused(NAME, "holds no checkpoint")
    moved = snapshot.rename(tmp_path / "moved")
    snapshot.symlink_to(moved)
    assert_refused(NAME, "is a link")


def test_a_model_that_is_too_large_is_refused(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(model, cache)
    monkeypatch.setattr(hub, "LARGEST", 1000)
    assert_refused(NAME, "has files of")


class Hub(BaseHTTPRequestHandler):
    """A hub with the one model `contents`, as far as it is asked."""

    contents: dict[str, bytes]
    claimed: dict[str, int]  # sizes by file, told instead of the true ones
    sent: list[str]  # files

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        name = path.removeprefix(f"/gardener/flowers/resolve/{COMMIT}/")
        sizes = {name: len(content) for name, content in self.contents.items()} | self.claimed
        if path.startswith("/api/models/gardener/flowers/tree/"):
            files = [{"type": "file", "path": n, "size": sizes[n], "oid": "0" * 40} for n in sizes]
            self.send(json.dumps(files).encode(), with_body)
        elif path.startswith("/api/models/gardener/flowers"):
            siblings = [{"rfilename": n, "size": sizes[n]} for n in sizes]
            info = {"id": "gardener/flowers", "sha": COMMIT, "siblings": siblings}
            self.send(json.dumps(info).encode(), with_body)
        elif name in self.contents:
            self.sent.extend([name] if with_body else [])
            self.send(self.contents[name], with_body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send(self, content: bytes, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    class Handler(Hub):
        claimed: ClassVar[dict[str, int]] = {}
        sent: ClassVar[list[str]] = []
        contents: ClassVar[dict[str, bytes]] = {
            path.relative_to(model).as_posix(): path.read_bytes()
            for path in model.rglob("*")
            if path.is_file()
        }

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{httpd.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield Handler
        httpd.shutdown()


def test_a_model_is_fetched_once_and_then_works_offline(
    server: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model(NAME).config.image_size == 16
    assert "config.json" in server.sent
    assert "README.md" not in server.sent
    count = len(server.sent)
    find_model(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    find_model(NAME)
    assert len(server.sent) == count


def test_size_is_checked_before_anything_is_fetched(server: type[Hub]) -> None:
    server.claimed["config.json"] = 5 * 2**30
    assert_refused(NAME, r"has files of 5\.0 GiB")
    assert not server.sent


def test_a_model_that_the_hub_does_not_have(server: type[Hub]) -> None:
    assert_refused("hf://gardener/absent", "is not on the Hugging Face hub, or not for you")
