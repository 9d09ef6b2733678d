"""The page as a visitor has it: a server of its own, and a browser."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from colorjax.cli import main
from conftest import save_picture

pytest.importorskip("gradio")
pytest.importorskip("fastapi_offline")

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WAIT = 60_000  # milliseconds, where cores are few


class Server:
    """A running `colorjax serve`."""

    def __init__(self, folder: Path, *models: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        command = [sys.executable, "-m", "colorjax", "serve", "--port", "0", "--max-upload", "0.5"]
        self.process = subprocess.Popen(
            [*command, "--models", *models],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(self.temporary)},
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        if not found:
            pytest.fail(f"{line}{self.process.communicate()[1]}")
        self.url, self.port = found[0], int(found[1])

    def get(self, path: str, data: Any = None, **headers: str) -> tuple[int, str]:
        """Return status and text of an answer; what isn't bytes is posted as JSON."""
        if data is not None and not isinstance(data, bytes):
            data, headers = json.dumps(data).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("serve"), f"{model_folder}@1", str(model_folder))
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("there is no Chromium")
    api = pytest.importorskip("playwright.sync_api")
    # Chromium's sandbox doesn't start for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield running
        running.close()


@pytest.fixture
def page(server: Server, browser: Any) -> Iterator[Any]:
    """The page, opened; it asks nothing of any other host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT)
    page = context.new_page()
    hosts: set[str] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector("#photo input[type=file]", state="attached")
    yield page
    context.close()
    hosts -= {""}  # blob: and data:
    assert {host for host in hosts if "." in host or ":" in host} == {f"127.0.0.1:{server.port}"}
    assert not errors


def give(page: Any, path: Path) -> None:
    page.set_input_files("#photo input[type=file]", path)
    page.wait_for_selector("#download:not([disabled])")


def download(page: Any) -> tuple[str, bytes]:
    with page.expect_download() as found:
        page.click("#download")
    return found.value.suggested_filename, Path(found.value.path()).read_bytes()


def shown(page: Any) -> str:
    """Return the address of the picture in colour."""
    return page.evaluate("[...document.querySelectorAll('#result img')].at(-1).src")


def changed(page: Any, before: str) -> None:
    """Wait for another picture in colour."""
    found = "before => [...document.querySelectorAll('#result img')].at(-1)?.src !== before"
    page.wait_for_function(found, arg=before)


def colorize(path: Path, model: str, *options: str) -> bytes:
    """Return what the command makes of a photo."""
    arguments = ["colorize", str(path), "--model", model, "--overwrite", *options]
    assert main(arguments) == 0
    return Path(f"colorized/{path.stem}.png").read_bytes()


def test_upload_hint_and_download(page: Any, model_folder: Path, work: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    save_picture("rose.png", 40, 64)
    path = Path("Rose 1.jpg")
    Image.open("rose.png").save(path, exif=exif)
    model = f"{model_folder}@1"

    give(page, path)
    name, first = download(page)
    assert name == "Rose 1.png"
    assert first == colorize(path, model)

    # The colour that was chosen for it spreads from where the photo is clicked.
    before = shown(page)
    box = page.locator("#photo img").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.25)
    changed(page, before)
    place = re.fullmatch(r"(\d+), (\d+)", page.inner_text("#hint-list li").strip())
    assert place
    assert abs(int(place[1]) - 20) <= 1  # of 40 x 64 pixels, upright
    assert abs(int(place[2]) - 16) <= 1
    _, hinted = download(page)
    assert hinted == colorize(path, model, "--hint", f"{place[1]},{place[2]},#c03028")
    assert hinted != first

    before = shown(page)
    page.click("#undo")
    changed(page, before)
    assert download(page)[1] == first
    assert page.locator("#hint-list li").count() == 0

    # Another model, and another saturation.
    page.click("#model input")
    page.get_by_role("option", name="model", exact=True).click()
    page.fill("#saturation input[type=number]", "0.5")
    page.press("#saturation input[type=number]", "Enter")
    expected = colorize(path, str(model_folder), "--saturation", "0.5")
    deadline = time.monotonic() + 60
    while download(page)[1] != expected:  # the last of what was asked for comes last
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


def test_examples_and_pasted_photos(page: Any, work: Path) -> None:
    page.locator("#examples button").nth(1).click()
    page.wait_for_selector("#download:not([disabled])")
    assert download(page)[0] == "sunflower.png"
    page.get_by_label("Remove Image").click()
    page.wait_for_selector("#download[disabled]")
    page.wait_for_selector("#photo input[type=file]", state="attached")
    save_picture("violet.png", 30, 20)
    page.evaluate(
        """async (bytes) => {
          const transfer = new DataTransfer();
          const file = new File([new Uint8Array(bytes)], "violet.png", {type: "image/png"});
          transfer.items.add(file);
          const options = {clipboardData: transfer, bubbles: true, cancelable: true};
          document.body.dispatchEvent(new ClipboardEvent("paste", options));
        }""",
        list(Path("violet.png").read_bytes()),
    )
    page.wait_for_selector("#download:not([disabled])")
    name, content = download(page)
    assert name == "violet.png"
    Path("result.png").write_bytes(content)
    assert Image.open("result.png").size == (20, 30)


def test_what_goes_wrong_is_said_in_a_sentence(page: Any, server: Server, work: Path) -> None:
    def message() -> str:
        text = page.wait_for_selector("#message").inner_text()
        assert not re.search("Traceback|Error|/tmp", text)
        return text

    Path("bad.jpg").write_text("text")
    page.set_input_files("#photo input[type=file]", "bad.jpg")
    assert message() == "The picture can't be read: not a picture that Pillow can read."
    assert page.locator("#download").is_disabled()
    page.fill("#link textarea, #link input", f"http://127.0.0.1:{server.port}/a.png")
    page.get_by_text("Fetch").click()
    page.wait_for_function("document.querySelector('#message')?.innerText.includes('link')")
    assert re.fullmatch(r"The link can't be fetched: .+\.", message())
    save_picture("good.png")
    give(page, Path("good.png"))
    assert page.locator("#message").count() == 0 or not page.locator("#message").is_visible()


def test_phones(page: Any, server: Server, work: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    save_picture("wide.png", 20, 90)
    give(page, Path("wide.png"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for selector in ("#photo", "#result", "#download", "#saturation", "#link", "#examples"):
        box = page.locator(selector).bounding_box()
        assert box["width"] > 250
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


def test_the_description_of_the_api_is_shown(page: Any, server: Server) -> None:
    page.goto(f"{server.url}docs")
    page.get_by_text("/api/colorize").first.wait_for()


def test_no_file_but_the_pages_is_given_out(server: Server) -> None:
    secret = server.temporary.parent / "secret.txt"
    secret.write_text("secret")
    for path in (secret, Path("/etc/passwd"), Path(__file__)):
        assert server.get(f"gradio_api/file={path}")[0] == 404
        assert server.get(f"gradio_api/file=/{path}")[0] == 404
    inside = next(server.temporary.glob("colorjax-serve-*"))
    assert server.get(f"gradio_api/file={inside}/../../secret.txt")[0] == 404
    assert server.get(f"gradio_api/file={inside}/examples/poppy.png")[0] == 200
    assert server.get(f"gradio_api/file=http://127.0.0.1:{server.port}/health")[0] == 404
    assert server.get(f"gradio_api/proxy=http://127.0.0.1:{server.port}/health")[0] == 404


def test_events_name_no_other_files_or_links(server: Server) -> None:
    config = json.loads(server.get("config")[1])
    event = {"fn_index": 0, "session_hash": "abc", "event_data": None}
    assert config["dependencies"][0]["targets"][0][1] == "upload"
    for path in ("/etc/passwd", f"{server.url}health", "https://example.org/a.png"):
        for data in ([{"path": path, "meta": {"_type": "gradio.FileData"}}], [[{"path": path}]]):
            status, text = server.get("gradio_api/queue/join", {**event, "data": data})
            assert status == 422
            assert "not sent" in text
    for path in ("run/predict", "api/predict", "component_server", "process_recording", "info"):
        assert server.get(f"gradio_api/{path}", {"data": []})[0] == 404


def test_uploads_are_limited(server: Server) -> None:
    for path in ("gradio_api/upload", "api/colorize"):
        status, text = server.get(path, b"x" * 700_000, **{"Content-Type": "multipart/form-data"})
        assert status == 413
        assert json.loads(text)["detail"] == "The file has more than 0.5 MB."


def test_a_port_in_use(
    server: Server, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["serve", "--models", str(model_folder), "--port", str(server.port)]
    assert main(arguments) == 2
    error = f"error: Port {server.port} is in use: name another one with --port.\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "No model"),
        (["--models", "nowhere"], "no model 'nowhere'"),
        (["--models", "MODEL", "--max-upload", "0"], "--max-upload"),
        (["--models", "MODEL", "--max-queue", "-1"], "--max-queue"),
        (["--models", "MODEL", "--port", "99999"], "--port"),
        (["--models", "MODEL", "--host", "nowhere.invalid"], "--host"),
    ],
)
def test_wrong_calls(
    arguments: list[str],
    words: str,
    model_folder: Path,
    work: Path,
    nothing_shipped: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = [str(model_folder) if word == "MODEL" else word for word in arguments]
    assert main(["serve", *named]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_the_extra_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["serve"]) == 2
    assert "pip install 'colorjax[web]'" in capsys.readouterr().err


def test_a_stopped_server_leaves_nothing(server: Server) -> None:
    """The last of the tests, as it stops the server; Ctrl-C takes the same way."""
    server.process.send_signal(signal.SIGTERM)
    _, errors = server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert not errors
    assert not list(server.temporary.iterdir())
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))
