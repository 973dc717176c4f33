"""The Graph API client, and the teller that sends WhatsApp messages through it.

Graph has no idempotency key: what may have arrived must not be sent twice, and what certainly
did not should be. The line between the two is drawn where a connection is in hand. Before
that (name, dial, TLS) not a byte of the request can have left: `NOT_SENT`. From there on, until
an answer is heard, the outcome is `UNKNOWN`, also where the request may still have been in our
own buffers: aiohttp does not tell, and a message too few is noticed where one too many is not.

The trap in that is a kept connection that the other side closes just then: nobody took the
message, and it counts as unknown all the same. So an idle connection is used again for
KEEPALIVE_S only, which is shorter than servers keep them.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace, TracebackType
from typing import Protocol, Self

import aiohttp
import orjson
from yarl import URL

from router import __version__
from router.config import Destination
from router.destinations.governor import Governor
from router.destinations.graph_answer import Answer
from router.destinations.graph_errors import Action, Scope, pause_s, scope_of
from router.destinations.graph_policy import GraphAttempt, Outcome
from router.destinations.guard import Forbidden, Guard
from router.destinations.policy import retry_after_s
from router.errors import Transient
from router.model import Notification
from router.whatsapp.outgoing import Outgoing

ATTEMPT_S = 10.0  # one attempt, whole
CONNECT_S = 5.0  # of it; what ends here was certainly not sent
KEEPALIVE_S = 4.0  # Node drops idle connections after 5 s, other servers later
ANSWER_BYTES = 64 * 1024  # read at most
PATIENCE_S = 0.5  # waited for a place; a longer wait is the outbox's
# RuntimeError: uvloop, of a socket that failed; a session that is closed.
_FAILURES = (aiohttp.ClientError, OSError, ValueError, RuntimeError)


class GraphClient:
    """Sends bodies of `router.whatsapp.outgoing`, with one pool of connections."""

    def __init__(
        self, base_url: str, token: str, *, allow_private: tuple[str, ...] = ()
    ) -> None:
        """Send to *base_url* (its last part is the version) with *token*. Opens nothing.

        ValueError when the URL has no host: the message quotes nothing.
        """
        self._base = URL(base_url)
        if not self._base.host or self._base.scheme not in {"http", "https"}:
            raise ValueError("the Graph API's base URL is no http(s) URL")
        self._token = token
        self._guard = Guard.of(allow_private)
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        """Return the host and nothing that is secret."""
        return f"<GraphClient {self._base.host}>"

    async def __aenter__(self) -> Self:
        """Open the session."""
        trusted = self._guard.trusts(self._base.host or "")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=self._guard.dialler(trusted=trusted),
                keepalive_timeout=KEEPALIVE_S,
                limit=0,  # how many run at once is the stage's matter
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "authorization": f"Bearer {self._token}",
                "content-type": "application/json",
                "user-agent": f"psi-router/{__version__}",
                "accept-encoding": "identity",
            },
            trace_configs=[_watch_connections()],
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        if self._session:
            await self._session.close()

    async def send(
        self, phone_number_id: str, body: bytes, *, timeout_s: float = ATTEMPT_S
    ) -> GraphAttempt:
        """Send *body* once, by the number *phone_number_id* (digits, else ValueError).

        Every failure but being cancelled is a `GraphAttempt`. Cancelled, it is the caller's
        to treat the message as unknown.
        """
        if not (phone_number_id.isascii() and phone_number_id.isdigit()):
            raise ValueError("a phone number id is digits")
        started = time.perf_counter()
        answer = Answer()
        try:
            await self._post(phone_number_id, body, timeout_s, answer)
        except _FAILURES as exc:
            answer.error = _words(exc)
        return answer.attempt(round((time.perf_counter() - started) * 1000))

    async def _post(
        self, phone_number_id: str, body: bytes, timeout_s: float, answer: Answer
    ) -> None:
        if self._session is None:
            raise RuntimeError("the client is not open")
        async with self._session.post(
            self._base / phone_number_id / "messages",
            data=body,
            allow_redirects=False,  # it would carry the token to another host
            trace_request_ctx=answer,
            timeout=aiohttp.ClientTimeout(
                total=timeout_s,
                connect=min(CONNECT_S, timeout_s),
                ceil_threshold=math.inf,  # aiohttp rounds longer ones up to a second
            ),
        ) as response:
            await _read(response, answer)


class Sender(Protocol):
    """Sends one body once."""

    async def send(
        self, phone_number_id: str, body: bytes, *, timeout_s: float
    ) -> GraphAttempt:
        """Return what came of it; failures are returned, never raised."""


Sent = Callable[[Notification, str], None]
Note = Callable[[Notification], Awaitable[None]]


class GraphTeller:
    """Sends the outbox rows of the destination `whatsapp` (payload: `Outgoing`).

    Cancelled while a message is on its way it raises, as anything must, and nobody knows what
    became of the message: *about_to_send* is for whoever has to find that out afterwards.
    """

    def __init__(  # noqa: PLR0913 -- two clocks, so that tests need not wait
        self,
        client: Sender,
        governor: Governor,
        *,
        on_sent: Sent = lambda _notification, _wamid: None,
        about_to_send: Note | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Report each message that was taken to *on_sent*, with its WhatsApp id.

        *about_to_send* is awaited before a message goes, and may raise `Transient`: then it
        does not go. A row that was noted there and never settled is one of unknown outcome.
        """
        self._client, self._governor = client, governor
        self._on_sent, self._about_to_send = on_sent, about_to_send
        self._clock, self._wall = clock, wall

    async def tell(
        self, destination: Destination, notification: Notification
    ) -> GraphAttempt:
        """Make one attempt; every failure but being cancelled is a `GraphAttempt` too."""
        try:
            message = Outgoing.from_bytes(notification.payload)
        except ValueError:
            return _refused(Action.PERMANENT, "no payload of a WhatsApp message")
        if wait_s := await self._take_place(message):
            return GraphAttempt(
                outcome=Outcome.NOT_TRIED, error="paced", retry_after_s=wait_s
            )
        if message.until is not None and self._wall() >= message.until:
            return _refused(Action.WINDOW_CLOSED, "too late to be sent")
        try:
            if self._about_to_send:
                await self._about_to_send(notification)
        except Transient as exc:
            return GraphAttempt(outcome=Outcome.NOT_SENT, error=type(exc).__name__)
        attempt = await self._client.send(
            message.phone_number_id,
            orjson.dumps(message.body),
            timeout_s=destination.timeout_s,
        )
        return self._learn(notification, message, attempt)

    async def _take_place(self, message: Outgoing) -> float:
        # Zero: the place is taken. No await between the last look and the taking.
        number, recipient = message.phone_number_id, message.recipient
        until = self._clock() + PATIENCE_S
        while wait_s := self._governor.ready_in_s(
            number, recipient, self._clock(), bulk=message.bulk
        ):
            if self._clock() + wait_s > until:
                return wait_s
            await asyncio.sleep(wait_s)
        self._governor.sent(number, recipient, self._clock())
        return 0.0

    def _learn(
        self, notification: Notification, message: Outgoing, attempt: GraphAttempt
    ) -> GraphAttempt:
        number, recipient = message.phone_number_id, message.recipient
        if attempt.outcome is Outcome.SENT:
            self._governor.accepted(number, recipient)
            if attempt.wamid:
                self._on_sent(notification, attempt.wamid)
        if attempt.action is not Action.RETRY_LATER:
            return attempt
        now = self._clock()
        asked_s = max(attempt.retry_after_s or 0.0, pause_s(attempt.code))
        if scope_of(attempt.code) is Scope.PAIR:
            self._governor.slow_pair(number, recipient, now, asked_s)
        else:
            self._governor.slow_number(number, now, asked_s)
        wait_s = self._governor.ready_in_s(number, recipient, now)
        return replace(attempt, retry_after_s=max(asked_s, wait_s))


def _refused(action: Action, why: str) -> GraphAttempt:
    # By us, before anything went.
    return GraphAttempt(outcome=Outcome.REJECTED, action=action, error=why)


def _watch_connections() -> aiohttp.TraceConfig:
    async def in_hand(_: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.connected = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(in_hand)
    trace.on_connection_reuseconn.append(in_hand)
    return trace


async def _read(response: aiohttp.ClientResponse, answer: Answer) -> None:
    answer.status = response.status
    answer.retry_after_s = retry_after_s(
        response.headers.get("Retry-After"), datetime.now(UTC)
    )
    while (room := ANSWER_BYTES - len(answer.body)) > 0:
        if not (chunk := await response.content.read(room)):
            return
        answer.body += chunk
    response.close()  # no answer of Graph is so long


def _words(exc: Exception) -> str:
    # Names, never str(exc): aiohttp's messages quote URLs and header lines.
    cause = getattr(exc, "os_error", exc)
    if isinstance(cause, Forbidden):
        return str(cause)
    return "timeout" if isinstance(exc, TimeoutError) else type(exc).__name__
