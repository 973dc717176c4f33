"""The HTTP client that tells a destination.

One `tell` is one attempt and ends in one `Attempt`, whatever the other side does: it is cut
off after the destination's time, follows no redirect (which would carry our signature to
another host), unpacks nothing, reads little of the answer, and never falls back from TLS.
"""

import errno
import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from router import __version__
from router.config import Destination
from router.destinations import signing
from router.destinations.dial import Place
from router.destinations.guard import Forbidden, Guard
from router.destinations.line import Answer
from router.destinations.policy import retry_after_s
from router.model import Attempt, Notification

ANSWER_CHARS = 500  # kept
HEADERS = {
    "content-type": "application/json",
    "user-agent": f"psi-router/{__version__}",
    "accept": "*/*",
    "accept-encoding": "identity",
    "x-psi-router": "1",  # what comes back in with it went out from here
}
# RuntimeError: uvloop, of a socket that failed. ValueError: a URL or a key that is none.
FAILURES = (OSError, ValueError, RuntimeError)


class WebhookClient:
    """Tells destinations, over connections that those at one host and port share.

    How many attempts run at once is the stage's matter, so there is no limit here.
    """

    def __init__(
        self, *, signing_secrets: tuple[str, ...], allow_private: tuple[str, ...]
    ) -> None:
        """Sign with each of *signing_secrets*; dial as `Guard` says. Opens nothing."""
        self._keys = signing.keys(signing_secrets)
        self._guard = Guard.of(allow_private)
        self._resolver: aiohttp.abc.AbstractResolver
        self._tls: ssl.SSLContext
        self._places: dict[URL, Place] = {}  # by their origin
        self._routes: dict[int, _Route] = {}  # by the identity of the destination

    async def __aenter__(self) -> Self:
        """Read whom to trust; connections are made as they are needed."""
        # The machine's authorities as they are now (SSL_CERT_FILE is heeded); TLS 1.2 or
        # newer, the name checked. Nothing in the settings can turn that off.
        self._tls = ssl.create_default_context()
        self._resolver = aiohttp.ThreadedResolver()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        for place in self._places.values():
            place.close()
        await self._resolver.close()

    async def tell(
        self, destination: Destination, notification: Notification
    ) -> Attempt:
        """Make one attempt; every failure but being cancelled is an `Attempt` too."""
        started = time.perf_counter()
        answer, error = Answer(), None
        try:
            await self._post(destination, notification, answer)
        except FAILURES as exc:
            error = _words(exc)
        return _attempt(answer, error, round((time.perf_counter() - started) * 1000))

    async def _post(
        self, destination: Destination, notification: Notification, answer: Answer
    ) -> None:
        route = self._routes.get(id(destination))
        if route is None or route.destination is not destination:
            route = self._routes[id(destination)] = self._route(destination)
        body = notification.payload
        said = signing.headers(notification.key, int(time.time()), body, self._keys)
        if not all(value.isprintable() for value in said.values()):
            raise ValueError("no header")
        said["content-length"] = str(len(body))
        head = f"{route.head}{_lines(said)}\r\n".encode("ascii")
        await route.place.post(head, body, answer, destination.timeout_s)

    def _route(self, destination: Destination) -> "_Route":
        url = URL(destination.url)
        same = {"host": url.host_port_subcomponent, **HEADERS}
        if url.user is not None:
            credentials = aiohttp.encode_basic_auth(url.user, url.password or "")
            same["authorization"] = credentials
        head = f"POST {url.raw_path_qs} HTTP/1.1\r\n{_lines(same)}"
        return _Route(destination, self._place(url), head)

    def _place(self, url: URL) -> Place:
        origin = url.origin()
        if (place := self._places.get(origin)) is None:
            trusted = self._guard.trusts(url.host or "")
            make_socket = self._guard.dialler(trusted=trusted)
            place = Place(origin, self._resolver, make_socket, self._tls)
            self._places[origin] = place
        return place


class _Route(NamedTuple):
    """What every attempt on a destination has in common."""

    destination: Destination  # kept, so that its identity stays its own
    place: Place
    head: str  # request line and headers, as far as they are the same each time


def _lines(headers: Mapping[str, str | None]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def _attempt(answer: Answer, error: str | None, latency_ms: int) -> Attempt:
    text = answer.body[: 4 * ANSWER_CHARS].decode("utf-8", "replace")
    asked = answer.retry_after
    return Attempt(
        status=answer.status,
        latency_ms=latency_ms,
        answer=text[:ANSWER_CHARS].replace("\0", "\ufffd") or None,
        error=error,
        retry_after_s=None
        if asked is None
        else retry_after_s(asked, datetime.now(UTC)),
    )


def _words(exc: Exception) -> str:
    # Names and numbers, never str(exc): that may quote an address or a header line.
    if isinstance(exc, Forbidden):
        return str(exc)
    if isinstance(exc, TimeoutError):
        return "timeout"
    if isinstance(exc, ssl.SSLError | socket.gaierror):
        return type(
            exc
        ).__name__  # their errno is a number of OpenSSL's, or of the resolver's
    number = getattr(exc, "errno", None)
    name = errno.errorcode.get(number) if isinstance(number, int) else None
    return f"{type(exc).__name__} {name}" if name else type(exc).__name__
