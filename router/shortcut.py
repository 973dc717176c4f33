"""A short way for the one request that comes ten thousand times; aiohttp takes all others.

Nearly every request is Meta's: a small signed POST to the webhook, whole in one piece, on a
connection that stays open. Of such a request aiohttp's share (a task, a request, headers,
a response) is more than half of what the router spends on a message. A connection begins
here; it is handed to aiohttp with all its bytes, for good, at the first request that differs
in anything from the form below. So nothing is decided here that aiohttp would decide
otherwise, and what a request is worth is decided in one place, `Ingress`, for both.
See docs/decisions/0008-shortcut.md.
"""

import asyncio
import functools
import re
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, cast

from router.stages.ingress import (
    RETRY_AFTER_S,
    SMALL_BYTES,
    TOO_BUSY,
    Answer,
    Head,
    Ingress,
)

IDLE_S = (
    75.0  # a connection without a request, as long as aiohttp's; nginx closes at 60
)
PATIENCE_S = 10.0  # for the rest of a request, before aiohttp shall judge it
SWEEP_S = 5.0
HEAD_BYTES = 4096
HEAD_END = b"\r\n\r\n"
# RFC 9110: a field name is a token, a value has no control characters but the tab.
_HEAD = re.compile(
    rb"POST (\S+) HTTP/1\.1(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*)+"
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*(?:\r\n|$)")
_SIGNATURE = re.compile(rb"\r\nx-hub-signature-256:[ \t]*(\S*)[ \t]*(?:\r\n|$)")
_CONNECTION = re.compile(rb"\r\nconnection:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|$)")
_WISHES = ([b"keep-alive"], [b"close"], [b"keep-alive", b"close"])
# Whatever changes how a request is read or who may send it.
_UNUSUAL = re.compile(
    rb"\r\n(?:transfer-encoding|content-encoding|expect|upgrade"
    rb"|x-webhook-secret|x-psi-router):"
)


class Usual(NamedTuple):
    """A request of the usual form."""

    size: int  # of its body, in bytes
    signature: str
    last: bool  # the sender closes after it


class Shortcuts:
    """All connections that have not been handed over, and what they share."""

    def __init__(
        self,
        ingress: Ingress,
        paths: Iterable[str],
        fallback: Callable[[], asyncio.Protocol],
    ) -> None:
        """Serve POSTs to *paths* by *ingress*; *fallback* makes aiohttp's protocol."""
        self.ingress, self.fallback = ingress, fallback
        self.paths = frozenset(path.encode() for path in paths)
        self.open: set[Shortcut] = set()
        self._all_answered: asyncio.Future[None] | None = None
        self.loop = asyncio.get_running_loop()
        self._timer = self.loop.call_later(SWEEP_S, self._sweep)

    def __call__(self) -> "Shortcut":
        """Return the protocol of a new connection."""
        return Shortcut(self)

    def close_idle(self) -> None:
        """Close every connection that no request waits on."""
        for connection in tuple(self.open):
            connection.close_if_idle()

    async def close(self, within_s: float) -> None:
        """Let requests in flight be answered, then close what is left."""
        self._timer.cancel()
        self.close_idle()
        if self._answering():
            self._all_answered = self.loop.create_future()
            await asyncio.wait([self._all_answered], timeout=within_s)
        for connection in tuple(self.open):
            connection.abort()

    def answered(self) -> None:
        """Hear that a connection has answered its request."""
        waiting = self._all_answered
        if waiting is not None and not waiting.done() and not self._answering():
            waiting.set_result(None)

    def _answering(self) -> bool:
        return any(connection.answering for connection in self.open)

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in tuple(self.open):
            connection.sweep(now)
        self._timer = self.loop.call_later(SWEEP_S, self._sweep)


class Shortcut(asyncio.Protocol):
    """One connection, as long as every request on it is of the usual form."""

    __slots__ = (
        "_all",
        "_heard_at",
        "_held",
        "_last",
        "_slow",
        "_transport",
        "answering",
    )

    def __init__(self, everybody: Shortcuts) -> None:
        self._all = everybody
        self._transport: asyncio.Transport
        self._held = b""  # the beginning of a request, or what came after one
        self._heard_at = 0.0
        self._last = False  # whether the connection closes after the answer
        self._slow: asyncio.Task[None] | None = None  # a request that waits for room
        self.answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._heard_at = self._all.loop.time()
        self._all.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._all.open.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        if self.answering:  # pipelined, which nobody usual does
            self._transport.pause_reading()
            self._hold(data)
            return
        self._held = b""
        end = data.find(HEAD_END, 0, HEAD_BYTES)
        found = parsed(data[:end], self._all.paths) if end > 0 else None
        if found is None:
            self._hand_over(data)
            return
        rest = end + len(HEAD_END) + found.size
        if len(data) < rest:
            self._hold(data)
        else:
            self._held = data[rest:]
            self._begin(found, data[rest - found.size : rest])

    def _hold(self, data: bytes) -> None:
        self._held = data
        self._heard_at = self._all.loop.time()

    def _begin(self, request: Usual, body: bytes) -> None:
        self.answering, self._last = True, request.last
        head = Head(request.size, (request.signature,))
        if not self._all.ingress.take_now(head, body, self._answer):
            self._slow = self._all.loop.create_task(self._take(head, body))

    async def _take(self, head: Head, body: bytes) -> None:
        self._answer(await self._all.ingress.take(head, body))

    def _answer(self, answer: Answer) -> None:
        self.answering, self._slow = False, None
        if not self._transport.is_closing():
            last = self._last or self._all.ingress.stopping
            self._transport.write(written(answer, close=last))
            self._heard_at = self._all.loop.time()
            if last:
                self._transport.close()
            elif self._held:  # not now: whoever settles a batch answers others too
                self._all.loop.call_soon(self._go_on)
        self._all.answered()

    def _go_on(self) -> None:
        held, self._held = self._held, b""
        if not self._transport.is_closing():
            self._hand_over(held)

    def _hand_over(self, data: bytes) -> None:
        self._all.open.discard(self)
        protocol = self._all.fallback()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        self._transport.resume_reading()
        if data:
            protocol.data_received(data)

    def sweep(self, now: float) -> None:
        """Close the connection if it has been idle for too long."""
        waited_s = now - self._heard_at
        if not self.answering:
            if self._held and waited_s > PATIENCE_S:
                held, self._held = self._held, b""
                self._hand_over(held)
            elif waited_s > IDLE_S:
                self._transport.close()

    def close_if_idle(self) -> None:
        """Close the connection unless a request waits on it."""
        if not self.answering:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection, whatever waits on it."""
        if self._slow is not None:
            self._slow.cancel()
        self._transport.abort()


def parsed(head: bytes, paths: frozenset[bytes]) -> Usual | None:
    """Return what *head* says, if it is that of a request of the usual form."""
    whole = _HEAD.fullmatch(head)
    if whole is None or whole[1] not in paths:
        return None
    low = head.lower()
    if _UNUSUAL.search(low) or not (
        low.count(b"\r\nhost:")
        == low.count(b"\r\ncontent-length:")
        == low.count(b"\r\nx-hub-signature-256:")
        == 1
    ):
        return None
    length, signature = _LENGTH.search(low), _SIGNATURE.search(low)
    if length is None or signature is None or (size := int(length[1])) > SMALL_BYTES:
        return None
    wish = _CONNECTION.findall(low)
    if wish and wish not in _WISHES:
        return None
    return Usual(size, signature[1].decode("latin-1"), b"close" in wish)


def written(answer: Answer, *, close: bool) -> bytes:
    """Return *answer* as bytes of HTTP/1.1."""
    again = f"Retry-After: {RETRY_AFTER_S}\r\n" if answer.status == TOO_BUSY else ""
    last = "Connection: close\r\n" if close else ""
    head = _head(answer.status, len(answer.body), int(time.time()), again + last)
    return head + answer.body


@functools.lru_cache(maxsize=256)
def _head(status: int, size: int, second: int, more: str) -> bytes:
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {size}\r\n"
        f"Date: {formatdate(second, usegmt=True)}\r\n{more}\r\n"
    ).encode("ascii")
