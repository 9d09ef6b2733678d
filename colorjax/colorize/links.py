"""Pictures on the web: fetched within limits, and only if the server calls them pictures."""

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from colorjax.errors import UserError

if TYPE_CHECKING:
    import requests

    from colorjax.colorize.reach import Reach

_AGENT = "colorjax (https://pypi.org/project/colorjax)"  # servers refuse those without a name
_CHUNK = 2**16  # bytes
# Beside image/*: servers that don't know a picture when they have one send it as mere bytes.
_UNKNOWN_TYPES = ("", "application/octet-stream", "binary/octet-stream")


@dataclass(frozen=True)
class Link:
    """The address of a picture, http or https."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def place(self) -> Path:
        """What its file would be called."""
        parts = urlsplit(self.url)
        name = PurePosixPath(unquote(parts.path)).name or parts.hostname or ""
        return Path(re.sub(r"[^\w.-]+", "_", name).lstrip(".")[-100:] or "picture")


@dataclass(frozen=True)
class Limits:
    """What may be spent on one link.

    Attributes:
      size: bytes.
      seconds: for all of it.
      wait: seconds in which the server says nothing.
      redirects: from one address to another.
      reach: where connections may lead, `reach.PUBLIC` for links that strangers give; None for
        wherever this machine gets.
    """

    size: int = 200_000_000
    seconds: float = 120.0
    wait: float = 10.0
    redirects: int = 5
    reach: "Reach | None" = None


def is_link(name: str) -> bool:
    """Return whether a name on the command line is a link."""
    return name.lower().startswith(("http://", "https://"))


@contextmanager
def downloaded(link: Link, limits: Limits | None = None) -> Iterator[Path]:
    """Provide a link's picture as a file for as long as the context lasts.

    Raises:
      UserError: if it can't be fetched; the message says why, without the link.
    """
    with tempfile.TemporaryDirectory(prefix="colorjax-") as folder:
        path = Path(folder) / "picture"
        _download(link.url, path, limits or Limits())
        yield path


def _download(url: str, path: Path, limits: Limits) -> None:
    # Here, because they take a tenth of a second to import, and few pictures are links.
    import requests
    import urllib3

    from colorjax.colorize.reach import create_session

    deadline = time.monotonic() + limits.seconds
    headers = {"User-Agent": _AGENT, "Accept": "image/*", "Accept-Encoding": "identity"}
    try:
        with create_session(limits.reach, deadline) as session:
            session.max_redirects = limits.redirects
            with session.get(url, headers=headers, stream=True, timeout=limits.wait) as response:
                _check(response, limits)
                with path.open("wb") as file:
                    for data in _read(response, deadline, limits):
                        file.write(data)
    # Not as the cause: the libraries' own words are long and say less.
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise UserError(f"the server said nothing for {limits.wait:g} seconds") from None
    except requests.TooManyRedirects:
        raise UserError(f"it leads on more than {limits.redirects} times") from None
    except (requests.ConnectionError, urllib3.exceptions.HTTPError):
        _check_time(deadline, limits)
        raise UserError("the server can't be reached, or broke off") from None
    except (requests.RequestException, ValueError):
        raise UserError("it is no address of the web") from None


def _check(response: "requests.Response", limits: Limits) -> None:
    """Raise a UserError unless the answer is a picture that is small enough."""
    if not response.ok:
        raise UserError(f"the server says {response.status_code} {response.reason}".rstrip())
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind not in _UNKNOWN_TYPES:
        raise UserError(f"it is {kind}, not a picture")
    length = response.headers.get("Content-Length", "")
    if length.isdigit():
        _check_size(int(length), limits)


def _read(response: "requests.Response", deadline: float, limits: Limits) -> Iterator[bytes]:
    """Yield the content as it comes, whole or not at all."""
    size = 0
    # `read1` returns what there is: a server that sends byte after byte can't outlast the limit.
    while data := response.raw.read1(_CHUNK, decode_content=True):
        size += len(data)
        _check_size(size, limits)
        _check_time(deadline, limits)
        yield data
    _check_time(deadline, limits)  # cut off, rather than at its end


def _check_time(deadline: float, limits: Limits) -> None:
    if time.monotonic() > deadline:
        raise UserError(f"it takes more than {limits.seconds:g} seconds")


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.size:
        raise UserError(f"it has more than {limits.size / 1e6:g} MB")
