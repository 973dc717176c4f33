"""A load client that costs little: HTTP/1.1 keep-alive by hand, requests made beforehand.

One connection carries one request at a time. What became of a request is a status, or one of
two errors that mean different things to whoever counts: ConnectionRefusedError, the request
never left; any other OSError, nobody knows.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from router.whatsapp.signature import sign

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
LEAD_S = 0.05  # from the call of an open loop to its first request
HANG_S = 60.0  # for answers, beyond the time that a load takes


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


def post(url: str, body: bytes, secret: bytes) -> bytes:
    """Return the bytes of a signed POST of *body*."""
    return post_head(url, len(body), sign(body, secret)) + body


def post_head(url: str, length: int, signature: str) -> bytes:
    """Return the head of a POST, for a body that is sent by other means."""
    parts = urlsplit(url)
    return (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
        f"X-Hub-Signature-256: {signature}\r\n\r\n"
    ).encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._buffer = b""

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        """Connect; raise ConnectionRefusedError where nobody listens."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, host, port)
        return connection

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes) -> Answer:
        """Send *request* and wait for its answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionRefusedError("closed before the request was sent")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close, without waiting."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:

        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(LENGTH)[2].split(b"\r\n", 1)[0])
        body = self._buffer[end + len(HEAD_END) :]
        if len(body) < length:
            return
        self._buffer = b""
        if b"connection: close" in head:
            self.close()
        self._answered(Answer(int(head[9:12]), body[:length]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(str(exc or "closed")))

    def _answered(self, answer: Answer) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(answer)


class Client:
    """At most *connections* connections to one address, opened as they are needed."""

    def __init__(self, url: str, connections: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._free: list[Connection] = []
        self._slots = asyncio.Semaphore(connections)

    async def send(self, request: bytes) -> Answer:
        """Send *request* on a connection that is free, waiting for one."""
        async with self._slots:
            connection = await self._connection()
            try:
                answer = await connection.send(request)
            except BaseException:
                connection.close()
                raise
            if connection.usable:
                self._free.append(connection)
            return answer

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
        return await Connection.open(self._host, self._port)

    def close(self) -> None:
        """Close every connection that is free."""
        while self._free:
            self._free.pop().close()


@dataclass(slots=True)
class Run:
    """What one run came to: who was answered 200, and how fast."""

    acked: list[int] = field(default_factory=list)  # places in the list of requests
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)  # how late this side sent
    took_s: float = 0.0

    @property
    def rate(self) -> float:
        """Answered 200 per second."""
        return len(self.acked) / self.took_s

    def percentile_ms(self, part: float) -> float:
        """Return the latency below which *part* of the answers came."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000

    def note(self, place: int, answer: Answer, due: float) -> None:
        """Note an answer that has just come, and how long it took since *due*."""
        self.latencies_s.append(time.perf_counter() - due)
        if answer.status == HTTPStatus.OK:
            self.acked.append(place)
        else:
            self.refused += 1


async def closed_loop(url: str, requests: Iterable[bytes], connections: int) -> Run:
    """Send as fast as answers come, each connection for itself.

    Raises OSError where a connection cannot be opened, or ends without the answer.
    """
    run, source, parts = Run(), iter(enumerate(requests)), urlsplit(url)
    loop = asyncio.get_running_loop()

    async def one_after_the_other() -> None:
        more = True
        while more:
            _, caller = await loop.create_connection(
                lambda: _Caller(run, source), parts.hostname or "", parts.port or 80
            )
            more = await caller.ended

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one_after_the_other())
    run.took_s = time.perf_counter() - started
    return run


class _Caller(Connection):
    """Sends the next request as soon as it has the answer: no task, no future a request.

    `ended`: whether *source* had more when the server closed the connection.
    """

    def __init__(self, run: Run, source: Iterator[tuple[int, bytes]]) -> None:
        super().__init__()
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._run, self._source = run, source
        self._place, self._began = -1, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionResetError(str(exc or "closed")))

    def _answered(self, answer: Answer) -> None:
        self._run.note(self._place, answer, self._began)
        if self.usable:
            self._send_next()
        else:
            self.ended.set_result(True)

    def _send_next(self) -> None:
        assert self._transport
        following = next(self._source, None)
        if following is None:
            self.ended.set_result(False)
            self.close()
            return
        self._place, request = following
        self._began = time.perf_counter()
        self._transport.write(request)


async def open_loop(
    url: str, requests: Sequence[bytes], rate: float, connections: int
) -> Run:
    """Send by the clock, however slow the answers are.

    A latency counts from the instant that the clock set for its request, so nothing is
    left out of it: neither a wait for a connection, nor this side's own lateness. Raises
    TimeoutError where answers do not come at all.
    """
    run, client, stop = Run(), Client(url, connections), threading.Event()
    started = time.perf_counter() + LEAD_S
    dues = [started + place / rate for place in range(len(requests))]
    bound = asyncio.timeout(LEAD_S + len(dues) / rate + HANG_S)
    async with bound, asyncio.TaskGroup() as group:

        async def one(place: int) -> None:
            run.late_s.append(time.perf_counter() - dues[place])
            answer = await client.send(requests[place])
            run.note(place, answer, dues[place])

        def send(place: int) -> None:
            group.create_task(one(place))

        loop = asyncio.get_running_loop()

        def soon(place: int) -> None:
            loop.call_soon_threadsafe(send, place)

        try:
            await asyncio.to_thread(_by_the_clock, dues, soon, stop)
        finally:
            stop.set()
    run.took_s = time.perf_counter() - started
    client.close()
    return run


def _by_the_clock(
    dues: Sequence[float], send: Callable[[int], None], stop: threading.Event
) -> None:
    # In a thread: an event loop's own clock has a grain of 1 ms, which is what is measured.
    for place, due in enumerate(dues):
        if stop.wait(max(0.0, due - time.perf_counter())):
            return
        send(place)
