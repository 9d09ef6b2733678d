"""What every request passes through: where it comes from, what it asks for, how long it is.

Gradio's server does more than this page needs, such as fetching links by rules of its own. Only
what the page uses is let through.
"""

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colorjax.web.api import refuse
from colorjax.web.service import RefusedError

LOOPBACK = ("127.0.0.1", "::1", "localhost")

_API = ("/health", "/docs", "/openapi.json", "/api/models", "/api/colorize")
_PAGE = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
_FOLDERS = ("/static-offline-docs/", "/assets/", "/static/", "/gradio_api/heartbeat/")
_FILE = "/gradio_api/file="
_JOIN = "/gradio_api/queue/join"
_GRADIO = (
    _JOIN,
    "/gradio_api/queue/data",
    "/gradio_api/cancel",
    "/gradio_api/reset",
    "/gradio_api/startup-events",
    "/gradio_api/upload",
    "/gradio_api/upload_progress",
)
_PATHS = frozenset((*_API, *_PAGE, *_GRADIO))
_EVENT_BYTES = 1_000_000  # of what the page says of one click; a picture is sent before
_HEARD = 4  # times as many bytes as a file may have are heard of a request that is refused
_FORM_BYTES = 100_000  # beside the file in a form

# The page needs nothing from elsewhere, and no other page may show it in a frame. Gradio and
# Swagger UI write scripts and styles into their pages.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Guard:
    """Lets through what the page and the API need.

    Args:
      app: that answers.
      folder: the only one whose files may be asked for.
      upload: bytes that a file may have.
      hosts: the names that the server may be called by; None for any.
    """

    def __init__(
        self, app: ASGIApp, folder: Path, upload: int, hosts: Container[str] | None = None
    ) -> None:
        self._app, self._folder, self._upload, self._hosts = app, folder.resolve(), upload, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # the page uses no WebSockets
        try:
            headers = Headers(scope=scope)
            self._check_origin(scope, headers)
            self._check_path(scope["path"])
            self._check_length(scope["path"], headers)
        except RefusedError as error:
            await self._drain(receive)
            return await refuse(error)(scope, receive, send)
        try:
            if scope["path"].rstrip("/") == _JOIN:
                receive = await self._check_event(receive)
        except RefusedError as error:
            return await refuse(error)(scope, receive, send)
        return await self._app(scope, receive, _add_headers(send))

    async def _drain(self, receive: Receive) -> None:
        """Hear a refused request out, if it isn't endless: many clients listen only then."""
        left, more = _HEARD * self._upload, True
        while more and left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            more = message.get("more_body", False)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what another site's page sends from a visitor's browser, in whoever's name.

        A name that was made to mean this machine (DNS rebinding) shows in the header Host.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name, sender = urlsplit(f"//{host}").hostname or "", urlsplit(origin or "").netloc
        except ValueError:  # brackets that hold no address
            raise RefusedError(403, "The request's Host or Origin can't be read.") from None
        if self._hosts is not None and name not in self._hosts:
            raise RefusedError(403, "This server is not called by that name.")
        reads = scope["method"] in ("GET", "HEAD", "OPTIONS")
        if origin is not None and not reads and sender != host:
            raise RefusedError(403, "Another site's page may not send photos here.")

    def _check_path(self, path: str) -> None:
        if path in _PATHS or path.rstrip("/") in _PATHS or path.startswith(_FOLDERS):
            return
        if path.startswith(_FILE) and self._is_inside(path.removeprefix(_FILE)):
            return
        raise RefusedError(404, "There is nothing here.")

    def _check_length(self, path: str, headers: Headers) -> None:
        if "transfer-encoding" in headers:
            raise RefusedError(411, "Say how long the request is: send Content-Length.")
        length = headers.get("content-length", "0")
        is_event = path.rstrip("/") == _JOIN
        limit = _EVENT_BYTES if is_event else self._upload + _FORM_BYTES
        if not length.isdigit() or int(length) > limit:
            raise RefusedError(413, f"The file has more than {self._upload / 1e6:g} MB.")

    async def _check_event(self, receive: Receive) -> Receive:
        """Refuse an event that names a file other than an upload, or a link for Gradio to fetch."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        try:
            paths = list(_find_paths(json.loads(body)))
        except (ValueError, RecursionError):
            raise RefusedError(422, "The event can't be read.") from None
        if not all(self._is_inside(path) for path in paths):
            raise RefusedError(422, "The event names a file that was not sent.")
        return _replay(body, receive)

    def _is_inside(self, path: Any) -> bool:
        try:
            return self._folder in Path(path).resolve().parents
        except (TypeError, ValueError, OSError):
            return False


def _find_paths(value: Any) -> Iterator[Any]:
    """Yield whatever is called a path in JSON."""
    if isinstance(value, dict):
        if value.get("path") is not None:
            yield value["path"]
        for item in value.values():
            yield from _find_paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from _find_paths(item)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read once more, and then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _add_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return send_with_headers
