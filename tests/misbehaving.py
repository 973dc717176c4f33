"""An HTTP server that misbehaves on command: the path says how.

    async with Misbehaving() as server:
        server.url("hang")             # takes the request and never answers
        server.url("answer/503")       # a plain answer with that status
        server.requests                # what came, whatever was answered

It writes bytes by hand, since no well-made server can do what it does.
"""

import asyncio
import gzip
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
DRIP_S = 0.01
BOMB_BYTES = 50 * 1024 * 1024

Behaviour = Callable[["Misbehaving", StreamWriter, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


def _head(status: int, *lines: str, length: int | None = 0) -> bytes:
    sized = [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([f"HTTP/1.1 {status} Said", *sized, *lines, "", ""]).encode()


async def _answer(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    body = server.answer
    lines = [f"{name}: {value}" for name, value in server.headers.items()]
    writer.write(_head(int(what or 200), *lines, length=len(body)) + body)
    await writer.drain()


async def _hang(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    await server.ended.wait()


async def _drip(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    writer.write(_head(200, length=1_000_000))
    while not writer.is_closing():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(DRIP_S)


async def _drip_headers(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    writer.write(b"HTTP/1.1 200 Said\r\nX-Slow: ")
    while not writer.is_closing():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(DRIP_S)


async def _reset(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    if what == "headers":
        writer.write(b"HTTP/1.1 200 Sa")
    elif what == "body":
        writer.write(_head(int(server.status), length=1000) + b"half of")
    await writer.drain()
    writer.transport.abort()


async def _endless(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    writer.write(_head(200, length=None))
    while not writer.is_closing():
        writer.write(b"x" * 65536)
        server.sent_bytes += 65536
        await writer.drain()


async def _bomb(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    body = gzip.compress(b"\0" * BOMB_BYTES, 1)
    writer.write(_head(200, "Content-Encoding: gzip", length=len(body)) + body)
    await writer.drain()


async def _redirect(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    writer.write(_head(int(what), f"Location: {server.redirect_to}"))
    await writer.drain()


async def _long_headers(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    writer.write(b"HTTP/1.1 200 Said\r\n")
    for number in range(10_000):
        if writer.is_closing():
            return
        writer.write(f"X-{number}: ".encode() + b"y" * 1000 + b"\r\n")
        await writer.drain()
    writer.write(b"Content-Length: 0\r\n\r\n")


async def _nonsense(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    await writer.drain()
    writer.close()


async def _close(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    writer.close()


async def _once(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    # As a server that closes idle connections does to whoever sends at that moment.
    connection = server.requests[-1].connection
    if sum(request.connection == connection for request in server.requests) > 1:
        writer.transport.abort()
    else:
        await _answer(server, writer, what)


async def _raw(server: "Misbehaving", writer: StreamWriter, what: str) -> None:
    writer.write(server.answer)
    await writer.drain()


BEHAVIOURS: dict[str, Behaviour] = {
    "answer": _answer,
    "hang": _hang,
    "drip": _drip,
    "drip-headers": _drip_headers,
    "reset": _reset,
    "endless": _endless,
    "bomb": _bomb,
    "redirect": _redirect,
    "long-headers": _long_headers,
    "nonsense": _nonsense,
    "close": _close,
    "once": _once,
    "raw": _raw,
}


@dataclass(slots=True)
class Misbehaving:
    """The server; its attributes can be set while it runs."""

    answer: bytes = b'{"ok":true}'
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    redirect_to: str = ""
    requests: list[Request] = field(default_factory=list)
    ends: bool = False  # the connection, after an answer
    sent_bytes: int = 0
    port: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _connections: dict[asyncio.Task[None], StreamWriter] = field(default_factory=dict)
    _count: int = 0

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def url(self, behaviour: str, host: str = HOST) -> str:
        """Return the URL that makes it behave so."""
        return f"http://{host}:{self.port}/{behaviour}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        if self._server:
            self._server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections[task] = writer
        self._count += 1
        try:
            await self._serve(reader, writer, self._count)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has had enough
        finally:
            del self._connections[task]
            writer.transport.abort()

    async def _serve(
        self, reader: StreamReader, writer: StreamWriter, connection: int
    ) -> None:
        while not writer.is_closing():
            lines = (
                (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            )
            pairs = (line.split(": ", 1) for line in lines[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path = lines[0].split(" ")[1]
            self.requests.append(Request(path, headers, body, connection))
            name, _, what = path.lstrip("/").partition("/")
            await BEHAVIOURS[name](self, writer, what)
            if self.ends:
                writer.close()
