"""How long a link may take, and how far a stranger's may lead: to public addresses alone.

What is checked is the address that a connection is made to, when it is made: after every redirect,
and with no second look-up in which a name could come to mean another machine.
"""

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

from colorjax.errors import UserError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What IANA's IPv4 Special-Purpose Address Registry gives to other ends than single public hosts
# (RFC 6890 and its successors), multicast and the reserved rest.
_SPECIAL_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
# Of IPv6 only this block is given out to hosts. It leaves out loopback, private, link-local and
# multicast addresses, and those with an IPv4 address inside: mapped, compatible and NAT64's.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
# The block's own special purposes: Teredo and others, documentation, 6to4, AS112, documentation.
_SPECIAL_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)

_TRIED = 4  # addresses of one name
_UNANSWERED = (urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.NewConnectionError)


def is_public(address: Address) -> bool:
    """Return whether an address is that of a single host on the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    special = any(address in network for network in _SPECIAL_IPV6)
    return address in _GLOBAL_IPV6 and not special


@dataclass(frozen=True)
class Reach:
    """Where connections may lead.

    Attributes:
      allows: says so of an address.
      ports: that may be named, or stand for http and https.
    """

    allows: Callable[[Address], bool] = is_public
    ports: Container[int] = (80, 443, 8080, 8443)


PUBLIC = Reach()


def create_session(reach: Reach | None, deadline: float) -> requests.Session:
    """Return a session whose requests, redirected or not, stay within reach.

    With a reach it heeds neither proxies nor passwords of the environment: a proxy would choose
    the address.

    Args:
      reach: where connections may lead; None for wherever this machine gets.
      deadline: of `time.monotonic`, when every connection is cut off.
    """
    session = requests.Session()
    session.trust_env = reach is None
    adapter = _Adapter(reach, deadline)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Adapter(HTTPAdapter):
    """Looks at each request, and lets it use guarded connections alone."""

    def __init__(self, reach: Reach | None, deadline: float) -> None:
        super().__init__()
        self._reach, self._deadline = reach, deadline
        self._timers: list[threading.Timer] = []

    def send(
        self, request: requests.PreparedRequest, *arguments: Any, **options: Any
    ) -> requests.Response:
        if self._reach is not None:
            _check_url(str(request.url), self._reach)
        response = super().send(request, *arguments, **options)
        if response.is_redirect:
            response.close()  # requests would read whatever comes with it, without end
        return response

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool: HTTPConnectionPool = super().get_connection_with_tls_context(*arguments, **options)
        kind = _GUARDED.get(pool.ConnectionCls)
        if kind is not None:  # neither one that is guarded already, nor of a SOCKS proxy
            pool.ConnectionCls = partial(kind, find=self._find, watch=self._watch)  # type: ignore
        return pool

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        super().close()

    def _find(self, host: str, port: int) -> list[str]:
        return find_addresses(host, port, self._reach)

    def _watch(self, connection: socket.socket) -> None:
        """Cut a connection off at the deadline, also one that gives byte after byte."""
        twin = connection.dup()  # TLS takes the socket over
        timer = _Timer(self._deadline - time.monotonic(), twin)
        self._timers.append(timer)
        timer.start()


class _Timer(threading.Timer):
    """Ends a connection after some seconds, unless it is cancelled."""

    def __init__(self, seconds: float, connection: socket.socket) -> None:
        super().__init__(max(seconds, 0.0), self._end)
        self.daemon = True
        self._connection = connection

    def cancel(self) -> None:
        super().cancel()
        self._connection.close()

    def _end(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


class _GuardedConnection(HTTPConnection):
    """A connection to an address that was checked, under the name that the link has."""

    def __init__(
        self,
        *arguments: Any,
        find: Callable[[str, int], list[str]],
        watch: Callable[[socket.socket], None],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._find, self._watch = find, watch

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        try:
            addresses = self._find(name.strip("[]"), int(self.port or 80))
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(name, self, error) from error
        try:
            connection = self._connect(addresses)
        finally:
            self._dns_host = name  # which TLS asks the certificate for
        self._watch(connection)
        return connection

    def _connect(self, addresses: list[str]) -> socket.socket:
        """Return a connection to the first address that answers."""
        for address in addresses[:-1]:
            self._dns_host = address
            with suppress(*_UNANSWERED):
                return super()._new_conn()
        self._dns_host = addresses[-1]
        return super()._new_conn()


class _GuardedTLSConnection(_GuardedConnection, HTTPSConnection):
    """Likewise, with TLS."""


_GUARDED: dict[Any, Any] = {
    HTTPConnection: _GuardedConnection,
    HTTPSConnection: _GuardedTLSConnection,
}


def find_addresses(host: str, port: int, reach: Reach | None) -> list[str]:
    """Return the addresses of a name that are within reach, not too many to try.

    Raises:
      UserError: if there is none.
      OSError: if the name can't be looked up.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    names = dict.fromkeys(str(place[0]) for *_, place in found)
    allowed = [n for n in names if reach is None or reach.allows(ipaddress.ip_address(n))]
    if not allowed:
        raise UserError("it leads to no public address")
    return allowed[:_TRIED]


def _check_url(url: str, reach: Reach) -> None:
    """Raise a UserError for ports and ways of writing that no link to a picture needs."""
    try:
        parts = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        raise UserError("it is no address of the web") from None
    if parts.auth:
        raise UserError("it holds a password")
    if (parts.port or {"http": 80, "https": 443}[parts.scheme or ""]) not in reach.ports:
        raise UserError(f"its port {parts.port} is none of the web")
    # Look-ups take 2130706433, 0x7f.1 and 0177.0.0.1 for addresses. So do browsers, which write
    # them plainly: WHATWG, URL, 3.5, the "ends in a number checker".
    host = (parts.host or "").rstrip(".")
    if re.fullmatch(r"\d+|0[xX][0-9a-fA-F]*", host.rpartition(".")[2]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise UserError("its address is not written plainly") from None
