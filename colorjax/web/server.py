"""The server of the page and the API: started, and stopped without a trace."""

import errno
import importlib.util
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colorjax.console import say
from colorjax.data.decode import explain
from colorjax.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from colorjax.web.service import Service

_GRACE = 2  # seconds that open connections have when the server stops


def check_installed() -> None:
    """Check that what the page needs is there.

    Raises:
      UserError: if it isn't.
    """
    for name in ("gradio", "fastapi_offline"):
        try:
            found = importlib.util.find_spec(name)
        except ValueError:  # blocked by whoever set it to None
            found = None
        if found is None:
            raise UserError("The page needs more than is installed: pip install 'colorjax[web]'.")


def serve(models: Sequence[str] | None, host: str, port: int, limits: Mapping[str, float]) -> int:
    """Serve the page and the API until Ctrl-C or SIGTERM.

    Args:
      models: to choose from, see `Colorizer.load`; None for all that `colorjax models` lists.
      host: address or name to listen at.
      port: 0 for any that is free.
      limits: the fields of `service.Limits`.

    Returns:
      0, the exit status.

    Raises:
      UserError: if there is no such model, a limit is out of range or the port is taken.
    """
    from colorjax.colorize.model import list_names
    from colorjax.compilation import keep_compiled_programs
    from colorjax.web.service import Limits, Service

    checked = Limits(**_check_limits(limits))
    # Before what takes time, so that what is wrong is told at once.
    service = Service(models or list_names() or [None], checked)
    keep_compiled_programs()
    with _bind(host, port) as listener, _temporary_folder() as folder:
        service.load()
        try:
            _run(create_app(service, folder, host), listener)
        finally:
            service.close()
    return 0


def create_app(service: "Service", folder: Path, host: str = "127.0.0.1") -> "ASGIApp":
    """Return the application of page and API.

    Args:
      service: that colours.
      folder: of the page's files; nothing else is served.
      host: that it listens at; at a loopback address it is called by no other name.
    """
    # Read when Gradio is imported: nothing is told to its makers, and no file lies elsewhere.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ |= {"GRADIO_TEMP_DIR": str(folder), "GRADIO_EXAMPLES_CACHE": str(folder)}
    from colorjax.web.api import create_api
    from colorjax.web.files import swept
    from colorjax.web.guard import LOOPBACK, Guard
    from colorjax.web.page import mount_page

    app = create_api(service)
    mount_page(app, service, folder)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with swept(folder), inner(app) as state:
            yield state

    app.router.lifespan_context = lifespan
    hosts = LOOPBACK if host in LOOPBACK else None
    return Guard(app, folder, service.limits.upload, hosts)


def _check_limits(limits: Mapping[str, float]) -> dict[str, Any]:
    for name, value in limits.items():
        if not (value > 0 or (name == "queue" and value == 0)) or value == float("inf"):
            raise UserError(f"--max-{name}={value:g} can't be had: give more than 0.")
    whole = ("upload", "pixels", "queue")
    return {name: int(value) if name in whole else value for name, value in limits.items()}


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
      UserError: if it can't be had.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"There is no port {port}: name one below {2**16} with --port.")
    try:
        [(family, kind, _, _, place), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"Port {port} is in use: name another one with --port.") from error
        reason = explain(error).lower()
        raise UserError(
            f"{host}:{port} can't be listened at ({reason}): name others with --host and --port."
        ) from error
    return listener


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Provide a folder in which all temporary files lie, and which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="colorjax-serve-") as folder:
        before = tempfile.tempdir
        tempfile.tempdir = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = before


def _run(app: "ASGIApp", listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    import uvicorn

    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=_GRACE)
    server = uvicorn.Server(config)
    host, port, *_ = listener.getsockname()
    say(f"The page is at http://{f'[{host}]' if ':' in host else host}:{port}/ (Ctrl-C ends it).")
    # Once it has stopped, the server raises the signal that stopped it anew.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
