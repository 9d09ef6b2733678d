"""Links, fetched from a server of this machine."""

import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorjax.cli import main
from colorjax.colorize.links import Limits, Link, downloaded, is_link
from colorjax.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encode() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Gives a picture, or trouble, as the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        getattr(self, self.path.strip("/").partition(".")[0].partition("?")[0])()

    def give(self, content: bytes, kind: str, length: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def picture(self) -> None:
        self.give(encode(), "image/png")

    def unknown(self) -> None:
        self.give(encode(), "application/octet-stream")

    def page(self) -> None:
        self.give(b"<html>", "text/html; charset=utf-8")

    def false(self) -> None:
        self.give(b"text", "image/jpeg")

    def missing(self) -> None:
        self.give(b"", "image/png", status=404)

    def large(self) -> None:
        self.give(b"", "image/png", length=10**12)

    def short(self) -> None:
        self.give(encode()[:50], "image/png", length=1000)
        self.close_connection = True

    def redirect(self, target: str = "/picture.png") -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def loop(self) -> None:
        self.redirect("/loop")

    def never(self) -> None:
        time.sleep(1.5)

    def endless(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        try:
            for _ in range(40):
                self.wfile.write(b"1")
                time.sleep(0.05)
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that runs for these tests."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("name", ["picture.png", "unknown.png", "redirect"])
def test_pictures_are_fetched(server: str, name: str) -> None:
    with downloaded(Link(f"{server}/{name}")) as path:
        np.testing.assert_array_equal(np.asarray(Image.open(path)), RGB)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("page", "it is text/html, not a picture"),
        ("missing", "404"),
        ("large", "more than 1 MB"),
        ("short", "broke off"),
        ("loop", "leads on more than 3 times"),
        ("never", "said nothing for 0.5 seconds"),
        ("endless", "takes more than 1 seconds"),
    ],
)
def test_trouble_is_named(server: str, name: str, reason: str) -> None:
    limits = Limits(size=1_000_000, seconds=1.0, wait=0.5, redirects=3)
    with pytest.raises(UserError, match=reason), downloaded(Link(f"{server}/{name}"), limits):
        pass


def test_content_larger_than_announced_is_cut_off(server: str) -> None:
    with (
        pytest.raises(UserError, match="more than"),
        downloaded(Link(f"{server}/endless"), Limits(size=3)),
    ):
        pass


def test_servers_that_are_not_there() -> None:
    for url in ("http://127.0.0.1:1/a.png", "http://nowhere.invalid/a.png"):
        with pytest.raises(UserError, match="can't be reached"), downloaded(Link(url)):
            pass
    for url in ("http://", "http://:/a.png", "https://[::1/a.png"):
        with pytest.raises(UserError, match="no address"), downloaded(Link(url)):
            pass


def test_links_have_places() -> None:
    assert is_link("HTTPS://a.org/b.jpg")
    assert not is_link("http.jpg")
    for url, place in {
        "https://a.org/b/rose%20red.jpg?size=3#top": "rose_red.jpg",
        "https://a.org/": "a.org",
        "https://a.org/.hidden": "hidden",
        "https://a.org/%2e%2e%2f%2e%2e%2fetc%2fpasswd": "passwd",
        "https://a.org/..%5c..": "_..",
    }.items():
        assert Link(url).place == Path(place)


def test_links_are_coloured_beside_files(
    server: str,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save("picture.png")
    links = [f"{server}/{name}" for name in ("picture.png", "unknown?id=7", "page", "false.jpg")]
    arguments = ["picture.png", *links, "nowhere", "--model", str(model_folder)]
    assert main(["colorize", *arguments]) == 1
    names = sorted(path.name for path in Path("colorized").iterdir())
    assert names == ["picture.png-2.png", "picture.png.png", "unknown.png"]
    lines = sorted(capsys.readouterr().err.splitlines())
    assert lines == [
        f"{server}/false.jpg: failed, not a picture that Pillow can read",
        f"{server}/page: failed, it is text/html, not a picture",
        "nowhere: failed, There is no file or folder nowhere.",
    ]


def test_a_wrong_name_beside_a_link_is_no_wrong_call(
    server: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["nowhere", f"{server}/picture.png", "--model", str(model_folder)]
    assert main(["colorize", *arguments]) == 1
    assert Path("colorized/picture.png").exists()
