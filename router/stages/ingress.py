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
from router.stages.rooms import Room, Waiting
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


# What is an answer and no bug.
EXPECTED = (Refused, QueueFull, QueueClosed, Transient, TimeoutError)
Read = Callable[[], Awaitable[bytes]]
Answered = Callable[[Answer], None]


class InFlight:
    """A body on its way to its commit: the room it takes, and who hears the answer.

    Called by the queue when the delivery is settled. Its room is given back then, and not
    when its request is answered; whoever has waited too long was answered long ago.
    """

    __slots__ = ("answered", "door", "ingress", "room", "size", "started")

    def __init__(  # noqa: PLR0913, PLR0917 -- all that must be known later
        self,
        ingress: "Ingress",
        room: Room,
        size: int,
        door: Door,
        started: float,
        answered: Answered,
    ) -> None:
        """Take *size* bytes of *room*, which are taken already."""
        self.ingress, self.room, self.size = ingress, room, size
        self.door, self.started, self.answered = door, started, answered

    def __call__(self, tally: Tally) -> None:
        """Give the room back, and answer whoever still waits."""
        self.room.give(self.size)
        self.ingress.settled(self, tally)


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
        self._waiting: Waiting[InFlight] = Waiting(
            settings.ack_timeout_s, clock, self._too_late
        )
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
        outcome: asyncio.Future[Answer] = self._loop.create_future()

        def answered(answer: Answer) -> None:
            if not outcome.done():  # a request that was cut off waits for nothing
                outcome.set_result(answer)

        try:
            await self._take(head, body, answered)
        except EXPECTED as exc:
            self._refuse(exc, answered)
        return await outcome

    def take_now(self, head: Head, body: bytes, answered: Answered) -> bool:
        """Take one body that is here already, if nothing has to be waited for first.

        Returns False where `take` must be asked; else *answered* is called once, perhaps
        before this returns.
        """
        if self._inbox.durable:
            return False  # what has to be written has to be waited for
        started = self.clock()
        try:
            self._refuse_early(head)
            self._refuse_while_away(started)
            door, size = self._door(head, body), len(body)
            if not self._small.take_now(size):
                return False
            flight = InFlight(self, self._small, size, door, started, answered)
            return self._put_nowait(body, flight)
        except EXPECTED as exc:
            self._refuse(exc, answered)
        return True

    def _put_nowait(self, body: bytes, flight: InFlight) -> bool:
        handed_over = False
        try:
            handed_over = self._inbox.put_nowait(
                _delivery(body, flight.door), size=flight.size, settled=flight
            )
        finally:
            if not handed_over:
                flight.room.give(flight.size)
        if handed_over:
            self._waiting.add(flight, flight.started)
        return handed_over

    async def _take(self, head: Head, body: bytes | Read, answered: Answered) -> None:
        started = self.clock()
        self._refuse_early(head)
        self._refuse_without_a_key(head)
        self._refuse_while_away(started)
        room, size = await self._borrow(MAX_BODY if head.size is None else head.size)
        handed_over = False
        try:
            if not isinstance(body, bytes):
                body = await body()
            door = self._door(head, body)
            flight = InFlight(self, room, size, door, started, answered)
            handed_over = await self._put(_delivery(body, door), flight)
        finally:
            if not handed_over:
                room.give(size)

    async def _put(self, delivery: Delivery, flight: InFlight) -> bool:
        # Return whether the queue settles it: one that is durable has it for good.
        size = len(delivery.body)
        if self._inbox.durable:
            async with asyncio.timeout(self._timeout_s):
                await self._inbox.put(delivery, size=size)
            telemetry.REQUESTS.acked(self.clock() - flight.started)
            self._answer(flight.door.value, QUEUED, flight.answered)
            return False
        self._waiting.add(flight, flight.started)
        try:
            await self._inbox.put(delivery, size=size, settled=flight)
        except BaseException:
            self._waiting.remove(flight)
            raise
        return True

    def settled(self, flight: InFlight, tally: Tally) -> None:
        """Answer the request of *flight*, unless that was done long ago."""
        if not self._waiting.remove(flight):
            return
        telemetry.REQUESTS.acked(self.clock() - flight.started)
        self._answer(flight.door.value, _done(*tally), flight.answered)

    def _too_late(self, flight: InFlight, reason: str) -> None:
        self._answer(flight.door.value, _refusal(TOO_BUSY, reason), flight.answered)

    def _refuse(self, exc: Exception, answered: Answered) -> None:
        status = exc.status if isinstance(exc, Refused) else TOO_BUSY
        self._answer("none", _refusal(status, str(exc) or "too busy"), answered)

    def _answer(self, door: str, answer: Answer, answered: Answered) -> None:
        telemetry.REQUESTS.answered(door, answer.status)
        try:
            answered(answer)
        except Exception as exc:  # noqa: BLE001 -- the next one waits for its answer too
            telemetry.answer_failed(exc)

    def _refuse_early(self, head: Head) -> None:
        if head.ours:
            # A destination that posts what it is told back would go round for ever.
            raise Refused("this was sent from here", status=422)
        if head.encoded:
            raise Refused("no Content-Encoding is accepted", status=415)
        if (head.size or 0) > MAX_BODY:
            raise _too_large()

    def _refuse_without_a_key(self, head: Head) -> None:
        # What can be told before the body is read: who has no key is lent no room.
        if head.signatures:
            signature_of(head.signatures)
        else:
            self._check_secret(head.secrets)

    def _refuse_while_away(self, now: float) -> None:
        if self._inbox.durable:
            return  # it takes in what the database will have when it is back
        if self._health.store_down_for(now) > PATIENCE_S:
            raise Transient("the database is away")

    async def _borrow(self, size: int) -> tuple[Room, int]:
        # Two rooms: nobody who announces large bodies and sends none keeps a message out.
        room = self._small if size <= SMALL_BYTES else self._large
        if not room.take_now(size):
            async with asyncio.timeout(self._timeout_s):
                await room.take(size)
        return room, size

    def _door(self, head: Head, body: bytes) -> Door:
        if not head.signatures:
            self._check_secret(head.secrets)
            return Door.SECRET
        verify(body, head.signatures, self._app_secrets)  # it decides alone
        return Door.META

    def _check_secret(self, given: Sequence[str]) -> None:
        if self._shared_secret is None or len(given) != 1:
            raise Refused("not signed", status=401)
        secret = given[0].encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(secret, self._shared_secret):
            raise Refused("wrong secret", status=401)


def _too_large() -> Refused:
    return Refused(f"a body is at most {MAX_BODY} bytes", status=413)


async def _read(request: web.Request) -> bytes:
    # Not request.read(): aiohttp keeps what that returns for as long as the connection
    # is open, 3 MB for each sender that keeps it.
    content, size = request.content, 0
    if content.is_eof() and content.exception() is None:
        return content.read_nowait()  # it came with its headers
    chunks: list[bytes] = []
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in content.iter_any():
                if (size := size + len(chunk)) > MAX_BODY:
                    raise _too_large()
                chunks.append(chunk)
    except TimeoutError:
        raise Refused("the body did not arrive in time", status=408) from None
    return b"".join(chunks)


def _delivery(body: bytes, door: Door) -> Delivery:
    now = datetime.now(UTC)
    return Delivery(body=body, door=door, received_at=now, since=time.monotonic())


@functools.lru_cache(maxsize=64)
def _done(stored: int, buried: int) -> Answer:
    value = {"success": True, "processed": stored, "failed": buried}
    return Answer(200, orjson.dumps(value))


def _refusal(status: int, why: str) -> Answer:
    return Answer(status, orjson.dumps({"success": False, "error": why}))


QUEUED = Answer(200, orjson.dumps({"success": True, "queued": 1}))
