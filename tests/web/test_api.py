"""The HTTP API: the commands' own bytes, and one sentence for whatever can't be done."""

import io
import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from colorjax.cli import main
from colorjax.colorize.png import write_deep_png
from colorjax.colorize.reach import Reach

pytest.importorskip("gradio")
pytest.importorskip("fastapi_offline")

from starlette.testclient import TestClient

from colorjax.web.api import create_api
from colorjax.web.files import name_result, sweep
from colorjax.web.guard import LOOPBACK, Guard
from colorjax.web.service import Limits, Service

PIXELS = np.random.default_rng(0).integers(0, 256, (14, 21, 4), dtype=np.uint8)


def create_client(service: Service) -> TestClient:
    upload = service.limits.upload
    guard = Guard(create_api(service), Path("/nowhere"), upload, LOOPBACK)
    return TestClient(guard, base_url="http://127.0.0.1:7860")


@pytest.fixture(scope="module")
def service(model_folder: Path) -> Iterator[Service]:
    models = [str(model_folder), f"{model_folder}@1"]
    service = Service(models, Limits(upload=200_000, pixels=10_000))
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    return create_client(service)


def encode(pixels: np.ndarray = PIXELS[..., :3], kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def post(client: TestClient, picture: bytes, name: str = "rose.png", **fields: Any) -> Any:
    return client.post("/api/colorize", files={"picture": (name, picture)}, data=fields)


def detail(answer: Any) -> str:
    """Return the sentence of a refused request."""
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert set(content) == {"detail"}
    assert re.fullmatch(r"[^\n]+\.", content["detail"]), content
    assert not re.search("Traceback|/tmp|Error", content["detail"]), content
    return content["detail"]


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(kind="JPEG", exif=exif)


def deep(folder: Path) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 2**16, (9, 13, 4), dtype=np.uint16)
    write_deep_png(pixels, folder / "deep.png")
    return (folder / "deep.png").read_bytes()


@pytest.mark.parametrize("kind", ["turned", "alpha", "deep"])
def test_bytes_are_those_of_the_command(
    client: TestClient, model_folder: Path, work: Path, kind: str
) -> None:
    fields: dict[str, Any] = {}
    options: list[str] = []
    if kind == "turned":
        path, picture = Path("photo.jpg"), turned()
    else:
        path, picture = Path("photo.png"), encode(PIXELS) if kind == "alpha" else deep(work)
        fields = {
            "saturation": "0.5",
            "upsample": "bicubic",
            "hints": ["3,4,#c03028", "1,7,#fff000"],
        }
        options = ["--saturation", "0.5", "--upsample", "bicubic"]
        options += [part for hint in fields["hints"] for part in ("--hint", hint)]
    path.write_bytes(picture)
    assert main(["colorize", str(path), "--model", str(model_folder), *options]) == 0
    answer = post(client, picture, path.name, **fields)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert "photo.png" in answer.headers["content-disposition"]
    assert answer.content == Path("colorized/photo.png").read_bytes()


def test_models_are_listed_and_chosen(client: TestClient, model_folder: Path) -> None:
    assert client.get("/api/models").json() == {"models": ["model", "model@1"]}
    assert client.get("/health").json() == {"status": "ok"}
    first, named, other = (
        post(client, encode(), **fields).content
        for fields in ({}, {"model": "model"}, {"model": "model@1"})
    )
    assert first == named != other


def test_models_of_one_name_are_told_apart(model_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    other.symlink_to(model_folder)
    service = Service([str(model_folder), str(other), f"{other}@2"])
    assert service.models == [str(model_folder), str(other), "model@2"]


@pytest.mark.parametrize(
    ("picture", "fields", "status", "words"),
    [
        (b"", {}, 422, "can't be read"),
        (b"text", {}, 422, "not a picture"),
        (encode(kind="JPEG")[:300], {}, 422, "can't be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", {}, 422, "picture"),
        (encode(np.zeros((101, 100, 3), np.uint8)), {}, 413, "0.01 million pixels"),
        (b"x" * 200_001, {}, 413, "0.2 MB"),
        (b"x" * 400_000, {}, 413, "0.2 MB"),
        (encode(), {"model": "/etc"}, 422, "no model"),
        (encode(), {"saturation": "-1"}, 422, "saturation"),
        (encode(), {"saturation": "inf"}, 422, "saturation"),
        (encode(), {"upsample": "nearest"}, 422, "upsample"),
        (encode(), {"hints": ["3,4,red"]}, 422, "hint"),
        (encode(), {"hints": ["21,0,#ff0000"]}, 422, "outside the picture"),
        (encode(), {"hints": ["1,1,#ff0000"] * 101}, 422, "more than 100 hints"),
        (encode(), {"output": "/etc/passwd"}, 422, "output"),
    ],
)
def test_what_is_refused(
    client: TestClient, picture: bytes, fields: dict[str, Any], status: int, words: str
) -> None:
    answer = post(client, picture, **fields)
    assert answer.status_code == status, answer.text
    assert words in detail(answer)


def test_a_picture_that_claims_to_be_huge(client: TestClient) -> None:
    picture = bytearray(encode())
    picture[16:24] = (60_000).to_bytes(4, "big") * 2
    answer = post(client, bytes(picture))
    assert answer.status_code in (413, 422)
    detail(answer)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ('{"link": "http://127.0.0.1/a.png"}', 422, "no public address"),
        ('{"link": "http://localhost:22/a.png"}', 422, "port 22"),
        ('{"link": "http://[::ffff:169.254.169.254]/"}', 422, "no public address"),
        ('{"link": "file:///etc/passwd"}', 422, "http"),
        ('{"link": 3}', 422, "link"),
        ('{"link": "http://127.0.0.1/", "path": "/etc/passwd"}', 422, "path"),
        ("{", 422, "JSON"),
        ("{}", 422, "link"),
    ],
)
def test_links_that_are_refused(client: TestClient, content: str, status: int, words: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/api/colorize", content=content, headers=headers)
    assert answer.status_code == status
    assert words in detail(answer)


def test_other_requests_are_refused(client: TestClient) -> None:
    headers = {"Content-Type": "text/plain"}
    assert client.post("/api/colorize", content="x", headers=headers).status_code == 415
    assert client.post("/api/colorize", files={"photo": ("a.png", encode())}).status_code == 422
    assert client.post("/api/colorize", data={"picture": "a.png"}).status_code in (415, 422)
    assert client.get("/api/colorize").status_code == 405
    assert client.get("/nothing").status_code == 404
    for answer in (client.get("/api/colorize"), client.get("/nothing")):
        detail(answer)


def test_requests_without_a_length_are_refused(client: TestClient) -> None:
    answer = client.post("/api/colorize", content=iter([b"x" * 10]))
    assert answer.status_code == 411
    detail(answer)


def test_other_sites_pages_are_refused(client: TestClient) -> None:
    def status(**headers: str) -> int:
        files = {"picture": ("a.png", encode())}
        return client.post("/api/colorize", files=files, headers=headers).status_code

    assert status(origin="http://127.0.0.1:7860") == 200
    assert status(origin="https://evil.example") == 403
    assert status(origin="http://127.0.0.1:8000") == 403
    assert status(origin="null") == 403
    assert status(origin="http://[") == 403
    assert status(host="[") == 403
    # A name that was made to mean this machine.
    assert status(host="evil.example:7860", origin="http://evil.example:7860") == 403
    assert status(host="localhost:7860", origin="http://localhost:7860") == 200


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_no_more_wait_than_may(model_folder: Path, silent: int) -> None:
    reach = Reach(allows=lambda address: True, ports=(silent,))
    service = Service([str(model_folder)], Limits(queue=0, seconds=3.0, reach=reach))
    client = create_client(service)
    link = {"link": f"http://127.0.0.1:{silent}/a.png"}
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(client.post("/api/colorize", json=link)))
    first.start()
    while True:  # until the first is admitted
        answer = post(client, b"")
        if answer.status_code == 503:
            break
        time.sleep(0.01)
    assert "Too many" in detail(answer)
    assert int(answer.headers["retry-after"]) > 0
    first.join()
    assert answers[0].status_code == 422
    assert "fetched" in detail(answers[0])
    assert post(client, b"").status_code == 422  # its place is free again
    service.close()


def test_photos_that_take_too_long(model_folder: Path) -> None:
    service = Service([str(model_folder)], Limits(seconds=0.001))
    answer = post(create_client(service), encode())
    assert answer.status_code == 504
    assert "0.001 seconds" in detail(answer)
    service.close()


def test_nothing_is_left_behind(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert post(client, encode()).status_code == 200
    assert post(client, b"text").status_code == 422
    assert not list(tmp_path.iterdir())


def test_the_description_is_whole_and_needs_no_other_host(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    body = description["paths"]["/api/colorize"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    assert set(description["paths"]) == {"/health", "/api/models", "/api/colorize"}
    answers = description["paths"]["/api/colorize"]["post"]["responses"]
    assert {"200", "413", "422", "503", "504"} <= set(answers)
    assert "$defs" not in json.dumps(body)
    page = client.get("/docs").text
    assert not re.search(r'(src|href)="(https?:)?//', page)
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        assert client.get(path).status_code == 200
    policy = client.get("/docs").headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")


def test_old_files_are_swept_away(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/old.png", "new.png", "kept.png"):
        (tmp_path / name).write_bytes(b"")
    for name in ("a/old.png", "kept.png", "a"):
        os.utime(tmp_path / name, (1, 1))
    sweep(tmp_path, 60.0, frozenset([tmp_path / "kept.png"]))
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["kept.png", "new.png"]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("rose.jpg", "rose.png"),
        ("old rose (1).tar.jpg", "old rose (1).tar.png"),
        ("../../etc/passwd", "passwd.png"),
        ("C:\\photos\\rose.bmp", "rose.png"),
        ('a"\r\nb.png', "a_b.png"),
        ("", "picture.png"),
        ("..", "picture.png"),
        ("Ä 玫瑰.jpg", "Ä 玫瑰.png"),
    ],
)
def test_results_are_named_after_photos(name: str, result: str) -> None:
    assert name_result(name) == result
