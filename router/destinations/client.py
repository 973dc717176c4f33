"""The HTTP client that tells a destination.

One `tell` is one attempt and ends in one `Attempt`, whatever the other side does: it is cut
off after the destination's time, follows no redirect (which would carry our signature to
another host), unpacks nothing, reads little of the answer, and never falls back from TLS.
"""

import errno
import math
import ssl
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from router import __version__
from router.config import Destination
from router.destinations import signing
from router.destinations.guard import Forbidden, Guard
from router.destinations.policy import retry_after_s
from router.model import Attempt, Notification

ANSWER_BYTES = 64 * 1024  # read at most, so that a connection can be used again
ANSWER_CHARS = 500  # kept
CONNECT_S = 5.0  # of the attempt's whole time
# Node, and so n8n, drops an idle connection after 5 s; a POST on a connection that the other
# side just dropped fails without anybody's fault.
KEEPALIVE_S = 4.0
HEADERS = {
    "content-type": "application/json",
    "user-agent": f"psi-router/{__version__}",
    "accept-encoding": "identity",
    "x-psi-router": "1",  # what comes back in with it went out from here
}
# RuntimeError: uvloop, of a socket that failed; a session that is closed.
FAILURES = (aiohttp.ClientError, OSError, ValueError, RuntimeError)


class WebhookClient:
    """Tells destinations, with one pool of connections for all of them.

    How many attempts run at once is the stage's matter, so the pool sets no limit.
    """

    def __init__(
        self, *, signing_secrets: tuple[str, ...], allow_private: tuple[str, ...]
    ) -> None:
        """Sign with each of *signing_secrets*; dial as `Guard` says. Opens nothing."""
        self._keys = signing.keys(signing_secrets)
        self._guard = Guard.of(allow_private)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._routes: dict[int, _Route] = {}  # by the identity of the destination

    async def __aenter__(self) -> Self:
        """Open the sessions: one for hosts that are trusted, one for all others."""
        # The machine's authorities as they are now (SSL_CERT_FILE is heeded); TLS 1.2 or
        # newer, the name checked. Nothing in the settings can turn that off.
        tls = ssl.create_default_context()
        for trusted in (True, False):
            self._sessions[trusted] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    socket_factory=self._guard.dialler(trusted=trusted),
                    keepalive_timeout=KEEPALIVE_S,
                    limit=0,
                    ssl=tls,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=HEADERS,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()

    async def tell(
        self, destination: Destination, notification: Notification
    ) -> Attempt:
        """Make one attempt; every failure but being cancelled is an `Attempt` too."""
        started = time.perf_counter()
        answer = _Answer()
        try:
            await self._post(destination, notification, answer)
        except FAILURES as exc:
            answer.error = _words(exc)
        return answer.attempt(round((time.perf_counter() - started) * 1000))

    async def _post(
        self, destination: Destination, notification: Notification, answer: "_Answer"
    ) -> None:
        route = self._routes.get(id(destination))
        if route is None or route.destination is not destination:
            route = self._routes[id(destination)] = self._route(destination)
        body = notification.payload
        headers = signing.headers(notification.key, int(time.time()), body, self._keys)
        response = await route.session.post(
            route.url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=route.timeout,
        )
        try:
            await answer.read(response)
        finally:
            response.release()  # closes the connection if not all of it was read

    def _route(self, destination: Destination) -> "_Route":
        url = URL(destination.url)
        whole_s = destination.timeout_s
        timeout = aiohttp.ClientTimeout(
            total=whole_s,
            sock_connect=min(CONNECT_S, whole_s),
            sock_read=whole_s,  # of each read; the whole time is not left to one timer
            ceil_threshold=math.inf,  # aiohttp rounds longer ones up to a second
        )
        trusted = self._guard.trusts(url.host or "")
        return _Route(destination, url, self._sessions[trusted], timeout)


class _Route(NamedTuple):
    """What every attempt on a destination has in common."""

    destination: Destination  # kept, so that its identity stays its own
    url: URL
    session: aiohttp.ClientSession
    timeout: aiohttp.ClientTimeout


class _Answer:
    """What is known of an answer, also when it breaks off."""

    __slots__ = ("_body", "_retry_after_s", "_status", "error")

    def __init__(self) -> None:
        self.error: str | None = None
        self._status: int | None = None
        self._retry_after_s: float | None = None
        self._body = b""

    async def read(self, response: aiohttp.ClientResponse) -> None:
        self._status = response.status
        if (asked := response.headers.get("Retry-After")) is not None:
            self._retry_after_s = retry_after_s(asked, datetime.now(UTC))
        content = response.content
        if content.is_eof() and content.total_bytes <= ANSWER_BYTES:
            self._body = (
                content.read_nowait()
            )  # it came in one piece: nothing to wait for
            return
        while (room := ANSWER_BYTES - len(self._body)) > 0:
            if not (chunk := await content.read(room)):
                return
            self._body += chunk
        response.close()  # there is more than anybody will read

    def attempt(self, latency_ms: int) -> Attempt:
        text = self._body[: 4 * ANSWER_CHARS].decode("utf-8", "replace")
        return Attempt(
            status=self._status,
            latency_ms=latency_ms,
            answer=text[:ANSWER_CHARS].replace("\0", "\ufffd") or None,
            error=self.error,
            retry_after_s=self._retry_after_s,
        )


def _words(exc: Exception) -> str:
    # Names and numbers, never str(exc): aiohttp's messages quote URLs and header lines.
    cause = getattr(exc, "os_error", exc)
    if isinstance(cause, Forbidden):
        return str(cause)
    if isinstance(exc, TimeoutError):
        return "timeout"
    if isinstance(
        exc, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError
    ):
        return type(exc).__name__  # its errno is a number of OpenSSL's
    number = getattr(cause, "errno", None)
    name = errno.errorcode.get(number) if isinstance(number, int) else None
    return f"{type(exc).__name__} {name}" if name else type(exc).__name__
