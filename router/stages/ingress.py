"""HTTP in: who is this, is there room, is it durable. No parsing, no database.

A body is read only when the process has room for its bytes, and the room is given back when
the delivery is settled, not when its request is answered: what waits for a database that is
away counts as long as it is in memory.
"""

import asyncio
import functools
import hmac
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from router import telemetry
from router.config import Settings
from router.errors import QueueClosed, QueueFull, Refused, Transient
from router.health import Health
from router.model import Delivery, Door
from router.queues.base import Queue, Tally
from router.whatsapp.signature import signature_of, verify

MAX_BODY = 4 * 1024 * 1024  # Meta sends up to 3 MB
SMALL_BYTES = 64 * 1024  # of a body: a message has one, a batch or a history has more
SMALL_ROOM_BYTES = 4 * 1024 * 1024
ROOM_BYTES = MAX_BODY  # larger ones one at a time: as rows they take ten times it
BODY_S = 10.0  # for the whole body: nothing else cuts off a sender that drips
PATIENCE_S = 2.0  # how long the database may be away before we refuse at once
RETRY_AFTER_S = 5
SWEEP_S = 0.1  # between looks at who has waited too long
MAX_CHALLENGE = 2048  # characters; Meta sends ten digits

SIGNATURE = "X-Hub-Signature-256"
SECRET = "X-Webhook-Secret"  # noqa: S105 -- the name of a header


class Room:
    """Bytes that may be in memory, lent first come, first served."""

    def __init__(self, size: int) -> None:
        """Lend at most *size* bytes at once."""
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take_now(self, count: int) -> bool:
        """Take *count* bytes if they are free and nobody waits; return whether."""
        if self._waiting or count > self._free:
            return False
        self._free -= count
        return True

    async def take(self, count: int) -> None:
        """Wait until *count* bytes are free, and take them."""
        if self.take_now(count):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(count)  # our turn came while we were leaving
            raise

    def give(self, count: int) -> None:
        """Give *count* bytes back."""
        self._free += count
        while self._waiting:
            wanted, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            if wanted > self._free:
                return
            self._waiting.popleft()
            self._free -= wanted
            turn.set_result(None)


class Waiting:
    """The requests that wait for their commit, none of them for too long.

    One timer for all of them: a time-out of its own costs a request as much as its HMAC.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float]) -> None:
        """Let nobody wait for longer than *timeout_s*, give or take SWEEP_S."""
        self._timeout_s, self._clock = timeout_s, clock
        self._until: dict[asyncio.Future[Tally], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def result(self, outcome: asyncio.Future[Tally], since: float) -> Tally:
        """Wait for *outcome*; raise Transient when the request began too long ago."""
        self._until[outcome] = since + self._timeout_s
        if self._timer is None:
            self._arm()
        try:
            return await outcome
        finally:
            del self._until[outcome]

    def give_up(self) -> None:
        """Tell everybody to come again now."""
        self._refuse(float("inf"), "stopping")

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        if self._until:
            self._refuse(self._clock(), "not durable in time")
            self._arm()

    def _refuse(self, now: float, reason: str) -> None:
        for outcome, until in self._until.items():
            if until <= now and not outcome.done():
                outcome.set_exception(Transient(reason))


class Ingress:
    """The two handlers that Meta, n8n and the CRM talk to."""

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
        """Take one body, and answer when it is durable or refused."""
        door = "none"
        try:
            found, response = await self._receive(request)
            door = found.value
        except Refused as exc:
            response = _answer({"success": False, "error": str(exc)}, exc.status)
        except (QueueFull, QueueClosed, Transient, TimeoutError) as exc:
            response = _answer({"success": False, "error": str(exc) or "too busy"}, 503)
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        if self._health.stopping:
            response.force_close()  # whoever comes again, comes to the next process
        telemetry.delivery(door, response.status)
        return response

    async def _receive(self, request: web.Request) -> tuple[Door, web.Response]:
        started = self.clock()
        self._refuse_early(request)
        size = request.content_length
        borrowed = await self._borrow(MAX_BODY if size is None else size)
        try:
            body = await _read(request)
            door = self._door(request, body)
            delivery = Delivery(body=body, door=door, received_at=datetime.now(UTC))
            if self._inbox.durable:
                await self._inbox.put(delivery, size=len(body))
                return door, _answer({"success": True, "queued": 1}, 200)
            tally = await self._durable(delivery, borrowed, started)
        finally:
            borrowed.abandon()
        telemetry.ACK_SECONDS.observe(self.clock() - started)
        return door, _done(tally)

    def _refuse_early(self, request: web.Request) -> None:
        if "Content-Encoding" in request.headers:
            raise Refused("no Content-Encoding is accepted", status=415)
        if (request.content_length or 0) > MAX_BODY:
            raise Refused(f"a body is at most {MAX_BODY} bytes", status=413)
        self._knock(request)
        if self._health.store_down_for(self.clock()) > PATIENCE_S:
            raise Transient("the database is away")

    def _knock(self, request: web.Request) -> None:
        # What can be told before the body is read: who has no key is lent no room.
        signatures = request.headers.getall(SIGNATURE, ())
        if signatures:
            signature_of(signatures)
        else:
            self._check_secret(request.headers.getall(SECRET, ()))

    async def _borrow(self, size: int) -> "_Borrowed":
        # Two rooms: nobody who announces large bodies and sends none keeps a message out.
        room = self._small if size <= SMALL_BYTES else self._large
        if not room.take_now(size):
            async with asyncio.timeout(self._timeout_s):
                await room.take(size)
        return _Borrowed(room, size)

    def _door(self, request: web.Request, body: bytes) -> Door:
        signatures = request.headers.getall(SIGNATURE, ())
        if not signatures:
            return Door.SECRET  # checked before the body was read
        verify(body, signatures, self._app_secrets)  # it is there, so it decides alone
        return Door.META

    def _check_secret(self, given: Sequence[str]) -> None:
        if self._shared_secret is None or len(given) != 1:
            raise Refused("not signed", status=401)
        secret = given[0].encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(secret, self._shared_secret):
            raise Refused("wrong secret", status=401)

    async def _durable(
        self, delivery: Delivery, borrowed: "_Borrowed", started: float
    ) -> Tally:
        outcome: asyncio.Future[Tally] = asyncio.get_running_loop().create_future()

        def settled(tally: Tally) -> None:
            borrowed.settle()
            if not outcome.done():  # its request may have been answered 503 long ago
                outcome.set_result(tally)

        await self._inbox.put(delivery, size=len(delivery.body), settled=settled)
        borrowed.handed_over = True
        return await self._waiting.result(outcome, started)


class _Borrowed:
    """Room for one body: given back once, and while the pipeline has it, not before."""

    __slots__ = ("_count", "_held", "_room", "handed_over")

    def __init__(self, room: Room, count: int) -> None:
        self._room, self._count = room, count
        self._held, self.handed_over = True, False

    def settle(self) -> None:
        """Give it back: the delivery is settled."""
        if self._held:
            self._held = False
            self._room.give(self._count)

    def abandon(self) -> None:
        """Give it back if the pipeline never got the delivery."""
        if not self.handed_over:
            self.settle()


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
def _written(stored: int, buried: int) -> bytes:
    return orjson.dumps({"success": True, "processed": stored, "failed": buried})


def _done(tally: Tally) -> web.Response:
    return web.Response(body=_written(*tally), content_type="application/json")


def _answer(value: dict[str, Any], status: int) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, content_type="application/json"
    )
