"""Links that strangers give: nothing but public addresses, whatever they are dressed up as."""

import io
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from colorjax.colorize.links import Limits, Link, downloaded
from colorjax.colorize.reach import PUBLIC, Reach, is_public
from colorjax.errors import UserError

PUBLIC_ONLY = Limits(seconds=5.0, wait=2.0, reach=PUBLIC)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "93.184.216.34", "172.32.0.1", "192.167.255.255", "223.255.255.255"),
        *("2606:4700:4700::1111", "2a00:1450:4001:830::200e", "2001:4860:4860::8888"),
    ],
)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "::1", "::"),  # this machine
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),  # private
        *("fc00::1", "fd12:3456:789a::1", "fec0::1"),
        *("169.254.169.254", "fe80::1", "fe80::1%eth0"),  # link-local; clouds' metadata
        *("224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"),  # multicast
        *("240.0.0.1", "255.255.255.255", "4000::1", "5f00::1"),  # reserved
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),  # documentation
        *("192.0.0.8", "192.88.99.1", "198.18.0.1", "198.19.255.255", "2001:20::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:1.1.1.1"),  # IPv4-mapped
        *("::127.0.0.1", "::1.1.1.1"),  # IPv4-compatible
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::7f00:1", "64:ff9b::808:808"),  # NAT64
        *("2002:7f00:1::1", "2002:c0a8:101::1", "2001:0:7f00:1::1"),  # 6to4, Teredo
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/a.png", "https://127.0.0.1/a.png", "http://localhost/a.png"),
        *("http://[::1]/a.png", "http://[::ffff:127.0.0.1]/a.png", "http://[64:ff9b::7f00:1]/"),
        *("http://0.0.0.0/", "http://[::]/", "http://169.254.169.254/latest/meta-data/"),
    ],
)
def test_links_to_this_machine_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="no public address"), downloaded(Link(url), PUBLIC_ONLY):
        pass


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *((f"http://{host}/a.png", "plainly") for host in ("2130706433", "0x7f000001", "0x7f.1")),
        *((f"http://{host}/a.png", "plainly") for host in ("0177.0.0.1", "127.1", "1.1.1.0x1")),
        ("http://127.0.0.1./a.png", "can't be reached|no public address"),
        ("http://[fe80::1%25lo]/a.png", "can't be reached|no public address"),
        ("http://1.1.1.1:22/a.png", "port 22"),
        ("http://1.1.1.1:6379/a.png", "port 6379"),
        ("http://user:word@1.1.1.1/a.png", "password"),
        ("http:///a.png", "no address"),
        ("ftp://1.1.1.1/a.png", "no address"),
        ("file:///etc/passwd", "no address"),
    ],
)
def test_tricks_are_refused(url: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_connections(monkeypatch)
    with pytest.raises(UserError, match=reason), downloaded(Link(url), PUBLIC_ONLY):
        pass


def forbid_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)


class Handler(BaseHTTPRequestHandler):
    """Gives a picture, leads to another address, or gives bytes without end."""

    def do_GET(self) -> None:
        self.server.names.append(self.headers["Host"])  # type: ignore[attr-defined]
        if self.path.startswith("/to="):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to="))
            self.end_headers()
            self.pour(b"x" * 2**16, 2**12)
        elif self.path == "/drip":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            self.pour(b"x", 100, seconds=0.1)
        else:
            file = io.BytesIO()
            Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(file, "PNG")
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(file.getvalue())

    def pour(self, data: bytes, times: int, seconds: float = 0.0) -> None:
        try:
            for _ in range(times):
                self.wfile.write(data)
                time.sleep(seconds)
        except OSError:
            self.server.names.append("cut off")  # type: ignore[attr-defined]

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server of this machine, which is as good as public in these tests; it notes requests."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = False  # so that closing waits for the last word
    running.names = []  # type: ignore[attr-defined]
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    finish(running)


def finish(server: ThreadingHTTPServer) -> list[str]:
    """End a server when its answers have ended, and return what it noted."""
    server.shutdown()
    server.server_close()
    return server.names  # type: ignore[attr-defined]


def limits(server: ThreadingHTTPServer, seconds: float = 5.0) -> Limits:
    """Return limits by which that server's address and port are the public internet."""
    here = ipaddress.ip_address("127.0.0.1")
    reach = Reach(allows=lambda address: address == here, ports=(80, server.server_port))
    return Limits(seconds=seconds, wait=2.0, redirects=2, reach=reach)


def lead(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[list[str]]]) -> list[str]:
    """Let names mean these addresses, another list at each look-up; return the names asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *arguments: object, **options: object) -> list:
        if host not in answers:
            assert ipaddress.ip_address(host)  # only names are looked up
            return real(host, port, *arguments, **options)  # type: ignore[arg-type]
        asked.append(host)
        names = answers[host].pop(0)
        kinds = [socket.AF_INET6 if ":" in name else socket.AF_INET for name in names]
        return [
            (kind, socket.SOCK_STREAM, 6, "", (name, port))
            for kind, name in zip(kinds, names, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_names_are_looked_up_once_and_kept(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second look-up would lead to an address that is not allowed.
    asked = lead(monkeypatch, {"rose.example": [["127.0.0.1"], ["127.0.0.2"]]})
    port = server.server_port
    with downloaded(Link(f"http://rose.example:{port}/a.png"), limits(server)) as path:
        assert Image.open(path).size == (3, 2)
    assert asked == ["rose.example"]
    assert server.names == [f"rose.example:{port}"]  # type: ignore[attr-defined]


def test_of_several_addresses_only_allowed_ones_are_tried(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead(monkeypatch, {"rose.example": [["::1", "127.0.0.2", "127.0.0.1"]]})
    url = f"http://rose.example:{server.server_port}/a.png"
    with downloaded(Link(url), limits(server)) as path:
        assert path.exists()


def test_redirects_to_other_addresses_are_refused(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.server_port
    lead(monkeypatch, {"inside.example": [["127.0.0.2"]]})
    for target, reason in {
        f"http://127.0.0.2:{port}/a.png": "no public address",
        f"http://[::1]:{port}/a.png": "no address of the web",
        f"http://inside.example:{port}/a.png": "no public address",
        "http://127.0.0.1:22/a.png": "port 22",
        "http://2130706433/a.png": "plainly",
        "file:///etc/passwd": "no address of the web",
    }.items():
        link = Link(f"http://127.0.0.1:{port}/to={target}")
        with pytest.raises(UserError, match=reason), downloaded(link, limits(server)):
            pass


def test_a_name_that_comes_to_mean_another_address_is_checked_again(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.server_port
    asked = lead(monkeypatch, {"rose.example": [["127.0.0.1"], ["127.0.0.2"]]})
    link = Link(f"http://rose.example:{port}/to=http://rose.example:{port}/a.png")
    with pytest.raises(UserError, match="no public address"), downloaded(link, limits(server)):
        pass
    assert asked == ["rose.example", "rose.example"]
    # Nor is what comes with a redirect read to its end.
    assert finish(server) == [f"rose.example:{port}", "cut off"]


def test_redirects_within_reach_are_followed(server: ThreadingHTTPServer) -> None:
    port = server.server_port
    with downloaded(Link(f"http://127.0.0.1:{port}/to=/a.png"), limits(server)) as path:
        assert path.exists()


@pytest.mark.parametrize("is_limited", [True, False])
def test_servers_that_drip_are_cut_off(server: ThreadingHTTPServer, is_limited: bool) -> None:
    link = Link(f"http://127.0.0.1:{server.server_port}/drip")
    spent = limits(server, 0.5) if is_limited else Limits(seconds=0.5, wait=2.0)
    with pytest.raises(UserError, match="more than"), downloaded(link, spent):
        pass
    assert finish(server)[-1] == "cut off"


def test_what_comes_with_a_redirect_is_never_read(server: ThreadingHTTPServer) -> None:
    with downloaded(Link(f"http://127.0.0.1:{server.server_port}/to=/a.png")) as path:
        assert path.exists()
    assert "cut off" in finish(server)


def test_proxies_and_passwords_of_the_environment_are_left_alone(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with downloaded(Link(f"http://127.0.0.1:{server.server_port}/"), limits(server)) as path:
        assert path.exists()
