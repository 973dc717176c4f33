"""HTTP in: who is this, is there room, is it durable. No parsing, no database.

A body is read only when the process has room for its bytes, and the room is given back when
the delivery is settled, not when its request is answered: what waits for a database that is
away counts as long as it is in memory.
"""

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from router import telemetry
from router.errors import QueueClosed, QueueFull, Refused, Transient
from router.health import Health
from router.model import Delivery, Door
from router.queues.base import Queue, Tally
from router.whatsapp.signature import verify

MAX_BODY = 4 * 1024 * 1024  # Meta sends up to 3 MB
ROOM_BYTES = 48 * 1024 * 1024  # bodies in memory at once
BODY_S = 10.0  # for the whole body: nothing else cuts off a sender that drips
PATIENCE_S = 2.0  # how long the database may be away before we refuse at once
RETRY_AFTER_S = 5
MAX_CHALLENGE = 2048  # characters; Meta sends ten digits

SIGNATURE = "X-Hub-Signature-256"
SECRET = "X-Webhook-Secret"  # noqa: S105 -- the name of a header


class Room:
    """Bytes that may be in memory, lent first come, first served."""

    def __init__(self, size: int) -> None:
        """Lend at most *size* bytes at once."""
        self._free = size
        self._size = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> None:
        """Wait until *count* bytes are free, and take them."""
        if not self._waiting and count <= self._free:
            self._free -= count
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


@dataclass(slots=True)
class Ingress:
    """The two handlers that Meta, n8n and the CRM talk to."""

    app_secrets: Sequence[bytes]
    shared_secret: bytes | None
    verify_token: str
    inbox: Queue[Delivery]
    health: Health
    ack_timeout_s: float
    room: Room = field(default_factory=lambda: Room(ROOM_BYTES))
    clock: Callable[[], float] = time.monotonic
    _waiting: set[asyncio.Future[Tally]] = field(default_factory=set)

    def give_up_waiting(self) -> None:
        """Answer 503 to every request that still waits for its commit."""
        for outcome in self._waiting:
            if not outcome.done():
                outcome.set_exception(Transient("stopping"))

    async def verification(self, request: web.Request) -> web.Response:
        """Answer Meta's GET: the challenge as plain text, or 403."""
        query = request.query
        challenge = query.get("hub.challenge", "")
        token = query.get("hub.verify_token", "").encode("utf-8", "surrogatepass")
        right = hmac.compare_digest(token, self.verify_token.encode())
        asked = query.get("hub.mode") == "subscribe"
        if not (right and asked and 0 < len(challenge) <= MAX_CHALLENGE):
            return web.Response(status=403, text="forbidden")
        # As plain text that no browser sniffs: it is whatever the query said.
        plain = {"X-Content-Type-Options": "nosniff"}
        return web.Response(text=challenge, content_type="text/plain", headers=plain)

    async def receive(self, request: web.Request) -> web.Response:
        """Take one body, and answer when it is durable or refused."""
        door, outcome = "none", "error"
        try:
            door, response = await self._receive(request)
        except Refused as exc:
            outcome = str(exc.status)
            return _refusal(exc)
        except (QueueFull, QueueClosed, Transient, TimeoutError) as exc:
            outcome = "503"
            return _later(str(exc) or "not durable in time")
        else:
            outcome = str(response.status)
            return response
        finally:
            telemetry.DELIVERIES.labels(door, outcome).inc()

    async def _receive(self, request: web.Request) -> tuple[str, web.Response]:
        started = self.clock()
        self._refuse_early(request)
        size = request.content_length
        reserved = MAX_BODY if size is None else size
        async with asyncio.timeout(self.ack_timeout_s):
            await self.room.take(reserved)
        borrowed = _Borrowed(self.room, reserved)
        try:
            body = await _read(request)
            door = self._door(request, body)
            delivery = Delivery(body=body, door=door, received_at=datetime.now(UTC))
            left = self.ack_timeout_s - (self.clock() - started)
            answer = await self._durable(delivery, borrowed, max(left, 0.05))
        finally:
            borrowed.abandon()
        telemetry.ACK_SECONDS.observe(self.clock() - started)
        return door.value, answer

    def _refuse_early(self, request: web.Request) -> None:
        if "Content-Encoding" in request.headers:
            raise Refused("no Content-Encoding is accepted", status=415)
        if (request.content_length or 0) > MAX_BODY:
            raise Refused(f"a body is at most {MAX_BODY} bytes", status=413)
        if self.health.store_down_for(self.clock()) > PATIENCE_S:
            raise Transient("the database is away")

    def _door(self, request: web.Request, body: bytes) -> Door:
        signatures = request.headers.getall(SIGNATURE, ())
        if signatures:  # a signature that is there decides alone
            verify(body, signatures, self.app_secrets)
            return Door.META
        given = request.headers.getall(SECRET, ())
        if self.shared_secret is None or len(given) != 1:
            raise Refused("not signed", status=401)
        if not hmac.compare_digest(
            given[0].encode("utf-8", "surrogateescape"), self.shared_secret
        ):
            raise Refused("wrong secret", status=401)
        return Door.SECRET

    async def _durable(
        self, delivery: Delivery, borrowed: "_Borrowed", timeout_s: float
    ) -> web.Response:
        if self.inbox.durable:
            await self.inbox.put(delivery, size=len(delivery.body))
            return web.json_response({"success": True, "queued": 1})
        outcome: asyncio.Future[Tally] = asyncio.get_running_loop().create_future()

        def settled(tally: Tally) -> None:
            borrowed.settle()
            if not outcome.done():  # its request may have been answered 503 long ago
                outcome.set_result(tally)

        await self.inbox.put(delivery, size=len(delivery.body), settled=settled)
        borrowed.handed_over = True
        self._waiting.add(outcome)
        try:
            async with asyncio.timeout(timeout_s):
                tally = await outcome
        finally:
            self._waiting.discard(outcome)
        return web.json_response(
            {"success": True, "processed": tally.stored, "failed": tally.buried}
        )


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
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise Refused("the body did not arrive in time", status=408) from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(f"a body is at most {MAX_BODY} bytes", status=413) from None


def _refusal(exc: Refused) -> web.Response:
    return web.json_response({"success": False, "error": str(exc)}, status=exc.status)


def _later(reason: str) -> web.Response:
    return web.json_response(
        {"success": False, "error": reason},
        status=503,
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )
