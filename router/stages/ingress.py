"""HTTP in: who is this, is there room, is it durable. No parsing, no database.

A body is read only when the process has room for its bytes, and the room is given back when
the delivery is settled, not when its request is answered: what waits for a database that is
away counts as long as it is in memory.
"""

import asyncio
import functools
import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
from aiohttp import web

from router import telemetry
from router.config import Settings
from router.errors import QueueClosed, QueueFull, Refused, Transient
from router.health import Health
from router.model import Delivery, Door
from router.queues.base import Queue, Tally
from router.stages.rooms import Borrowed, Room, Waiting
from router.whatsapp.signature import signature_of, verify

MAX_BODY = 4 * 1024 * 1024  # Meta sends up to 3 MB
SMALL_BYTES = 64 * 1024  # of a body: a message has one, a batch or a history has more
SMALL_ROOM_BYTES = 4 * 1024 * 1024
ROOM_BYTES = MAX_BODY  # larger ones one at a time: as rows they take ten times it
BODY_S = 10.0  # for the whole body: nothing else cuts off a sender that drips
PATIENCE_S = 2.0  # how long the database may be away before we refuse at once
RETRY_AFTER_S = 5
TOO_BUSY = 503
MAX_CHALLENGE = 2048  # characters; Meta sends ten digits

OURS = "X-Psi-Router"  # destinations/client.py sends it with every notification
SIGNATURE = "X-Hub-Signature-256"
SECRET = "X-Webhook-Secret"  # noqa: S105 -- the name of a header


class Head(NamedTuple):
    """What the head of a request says that decides whether its body is read."""

    size: int | None  # Content-Length, in bytes
    signatures: Sequence[str] = ()  # every X-Hub-Signature-256
    secrets: Sequence[str] = ()  # every X-Webhook-Secret
    encoded: bool = False  # there is a Content-Encoding
    ours: bool = False  # it carries the mark of what this router sends


class Answer(NamedTuple):
    """What a request is answered: JSON, whatever the status."""

    status: int
    body: bytes


Read = Callable[[], Awaitable[bytes]]


class Ingress:
    """What Meta, n8n and the CRM talk to, by whatever reads their HTTP."""

    def __init__(
        self,
        settings: Settings,
        inbox: Queue[Delivery],
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put what is let in on *inbox*; *health* says when to refuse at once."""
        self._app_secrets = settings.app_secrets
        self._shared_secret = settings.shared_secret
        self._verify_token = settings.verify_token.encode()
        self._timeout_s = settings.ack_timeout_s
        self._inbox, self._health, self.clock = inbox, health, clock
        self._small, self._large = Room(SMALL_ROOM_BYTES), Room(ROOM_BYTES)
        self._waiting = Waiting(settings.ack_timeout_s, clock)
        self._loop = asyncio.get_running_loop()

    @property
    def stopping(self) -> bool:
        """Whether whoever comes again should come to the next process."""
        return self._health.stopping

    def give_up_waiting(self) -> None:
        """Answer 503 to every request that still waits for its commit."""
        self._waiting.give_up()

    async def verification(self, request: web.Request) -> web.Response:
        """Answer Meta's GET: the challenge as plain text, or 403."""
        query = request.query
        challenge = query.get("hub.challenge", "")
        token = query.get("hub.verify_token", "").encode("utf-8", "surrogatepass")
        right = hmac.compare_digest(token, self._verify_token)
        asked = query.get("hub.mode") == "subscribe"
        if not (right and asked and 0 < len(challenge) <= MAX_CHALLENGE):
            return web.Response(status=403, text="forbidden")
        # As plain text that no browser sniffs: it is whatever the query said.
        plain = {"X-Content-Type-Options": "nosniff"}
        return web.Response(text=challenge, content_type="text/plain", headers=plain)

    async def receive(self, request: web.Request) -> web.Response:
        """Take one body from aiohttp, and answer when it is durable or refused."""
        headers = request.headers
        head = Head(
            request.content_length,
            headers.getall(SIGNATURE, ()),
            headers.getall(SECRET, ()),
            "Content-Encoding" in headers,
            OURS in headers,
        )
        answer = await self.take(head, functools.partial(_read, request))
        response = web.Response(
            body=answer.body, status=answer.status, content_type="application/json"
        )
        if answer.status == TOO_BUSY:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        if self.stopping:
            response.force_close()
        return response

    async def take(self, head: Head, body: bytes | Read) -> Answer:
        """Take one body, and return when it is durable or refused.

        *body* is read only when there is room for it; or it is here already.
        """
        door = "none"
        try:
            found, answer = await self._take(head, body)
            door = found.value
        except Refused as exc:
            answer = _refusal(exc.status, str(exc))
        except (QueueFull, QueueClosed, Transient, TimeoutError) as exc:
            answer = _refusal(TOO_BUSY, str(exc) or "too busy")
        telemetry.delivery(door, answer.status)
        return answer

    async def _take(self, head: Head, body: bytes | Read) -> tuple[Door, Answer]:
        started = self.clock()
        self._refuse_early(head, started)
        borrowed = await self._borrow(MAX_BODY if head.size is None else head.size)
        try:
            if not isinstance(body, bytes):
                body = await body()
            door = self._door(head, body)
            delivery = Delivery(body=body, door=door, received_at=datetime.now(UTC))
            if self._inbox.durable:
                await self._inbox.put(delivery, size=len(body))
                return door, QUEUED
            tally = await self._durable(delivery, borrowed, started)
        finally:
            borrowed.abandon()
        telemetry.ACK_SECONDS.observe(self.clock() - started)
        return door, _done(*tally)

    def _refuse_early(self, head: Head, now: float) -> None:
        if head.ours:
            # A destination that posts what it is told back would go round for ever.
            raise Refused("this was sent from here", status=422)
        if head.encoded:
            raise Refused("no Content-Encoding is accepted", status=415)
        if (head.size or 0) > MAX_BODY:
            raise Refused(f"a body is at most {MAX_BODY} bytes", status=413)
        # What can be told before the body is read: who has no key is lent no room.
        if head.signatures:
            signature_of(head.signatures)
        else:
            self._check_secret(head.secrets)
        if self._health.store_down_for(now) > PATIENCE_S:
            raise Transient("the database is away")

    async def _borrow(self, size: int) -> Borrowed:
        # Two rooms: nobody who announces large bodies and sends none keeps a message out.
        room = self._small if size <= SMALL_BYTES else self._large
        if not room.take_now(size):
            async with asyncio.timeout(self._timeout_s):
                await room.take(size)
        return Borrowed(room, size)

    def _door(self, head: Head, body: bytes) -> Door:
        if not head.signatures:
            return Door.SECRET  # checked before the body was read
        verify(body, head.signatures, self._app_secrets)  # it decides alone
        return Door.META

    def _check_secret(self, given: Sequence[str]) -> None:
        if self._shared_secret is None or len(given) != 1:
            raise Refused("not signed", status=401)
        secret = given[0].encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(secret, self._shared_secret):
            raise Refused("wrong secret", status=401)

    async def _durable(
        self, delivery: Delivery, borrowed: Borrowed, started: float
    ) -> Tally:
        outcome: asyncio.Future[Tally] = self._loop.create_future()

        def settled(tally: Tally) -> None:
            borrowed.settle()
            if not outcome.done():  # its request may have been answered 503 long ago
                outcome.set_result(tally)

        await self._inbox.put(delivery, size=len(delivery.body), settled=settled)
        borrowed.handed_over = True
        return await self._waiting.result(outcome, started)


async def _read(request: web.Request) -> bytes:
    if request.content.is_eof() and request.content.exception() is None:
        return request.content.read_nowait()  # it came with its headers
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise Refused("the body did not arrive in time", status=408) from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(f"a body is at most {MAX_BODY} bytes", status=413) from None


@functools.lru_cache(maxsize=64)
def _done(stored: int, buried: int) -> Answer:
    value = {"success": True, "processed": stored, "failed": buried}
    return Answer(200, orjson.dumps(value))


def _refusal(status: int, why: str) -> Answer:
    return Answer(status, orjson.dumps({"success": False, "error": why}))


QUEUED = Answer(200, orjson.dumps({"success": True, "queued": 1}))
