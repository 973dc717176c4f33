"""Connections to one place: looked up, judged where the socket is made, kept for a while."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from aiohappyeyeballs import start_connection
from aiohttp.abc import AbstractResolver
from yarl import URL

from router.destinations.guard import AddrInfo
from router.destinations.line import Answer, Dropped, Line

CONNECT_S = 5.0  # of an attempt's whole time
NEXT_ADDRESS_S = 0.25  # RFC 8305: until the next address is tried beside the first
# Node, and so n8n, drops an idle connection after 5 s; a POST on a connection that the other
# side just dropped fails without anybody's fault.
KEEPALIVE_S = 4.0
STALE_S = 1.0  # in which such a connection fails; later, somebody may have worked on it
NAME_S = 10.0  # for which what a name resolved to is taken again


class Place:
    """A host and a port, and the connections to it that are open."""

    def __init__(
        self,
        url: URL,
        resolver: AbstractResolver,
        make_socket: Callable[[AddrInfo], socket.socket],
        tls: ssl.SSLContext,
    ) -> None:
        """Dial the host of *url*; *make_socket* refuses addresses. Opens nothing.

        Raises ValueError for what is no http(s) URL with a host.
        """
        if url.scheme not in {"http", "https"} or not url.raw_host or not url.port:
            raise ValueError("no http(s) URL with a host")
        self._host, self._port = url.raw_host.rstrip("."), url.port
        self._closed = False
        self._tls = tls if url.scheme == "https" else None
        self._resolver, self._make_socket = resolver, make_socket
        self._loop = asyncio.get_running_loop()
        self._idle: list[tuple[float, Line]] = []  # since when; the newest last
        self._sweeper: asyncio.TimerHandle | None = None
        # One look-up at a time: a name server that hangs must not use up the threads.
        self._lookup: asyncio.Task[Sequence[AddrInfo]] | None = None
        self._looked_up_at = 0.0

    async def post(
        self, head: bytes, body: bytes, answer: Answer, timeout_s: float
    ) -> None:
        """Send one request and fill *answer*; the whole takes at most *timeout_s*.

        Raises TimeoutError, or whatever OSError kept the answer from coming.
        """
        began_s = self._loop.time()
        until_s = began_s + timeout_s
        if line := self._take():
            try:
                return await self._ask(line, head, body, answer, until_s)
            except TimeoutError:
                raise
            except OSError:
                if line.heard or self._loop.time() > began_s + STALE_S:
                    raise
        # Never used, or dropped by the other side while our request was on its way there.
        line = await self._dial(until_s)
        return await self._ask(line, head, body, answer, until_s)

    def close(self) -> None:
        """End every connection that nobody uses, the others after their answer."""
        self._closed = True
        for _, line in self._idle:
            line.abort()
        self._idle.clear()
        if self._sweeper:
            self._sweeper.cancel()
        if self._lookup:
            self._lookup.cancel()

    async def _ask(
        self, line: Line, head: bytes, body: bytes, answer: Answer, until_s: float
    ) -> None:
        await line.ask(head, body, answer, until_s)
        if self._closed:
            line.abort()
        elif line.usable:
            self._idle.append((self._loop.time(), line))
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(KEEPALIVE_S, self._sweep)

    def _take(self) -> Line | None:
        while self._idle:
            since, line = self._idle.pop()
            if not line.usable:
                continue
            if self._loop.time() - since < KEEPALIVE_S:
                return line
            line.abort()
        return None

    def _sweep(self) -> None:
        oldest = self._loop.time() - KEEPALIVE_S
        for since, line in self._idle:
            if since <= oldest:
                line.abort()
        self._idle = [entry for entry in self._idle if entry[1].usable]
        self._sweeper = (
            self._loop.call_later(KEEPALIVE_S, self._sweep) if self._idle else None
        )

    async def _dial(self, until_s: float) -> Line:
        async with asyncio.timeout_at(min(until_s, self._loop.time() + CONNECT_S)):
            made = await start_connection(
                await self._addresses(),
                happy_eyeballs_delay=NEXT_ADDRESS_S,
                interleave=1,
                socket_factory=self._make_socket,
            )
            try:
                _, line = await self._loop.create_connection(
                    Line,
                    sock=made,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
            except BaseException:
                made.close()
                raise
        return line

    async def _addresses(self) -> Sequence[AddrInfo]:
        lookup = self._lookup
        fresh = self._loop.time() - self._looked_up_at < NAME_S
        if lookup is None or (lookup.done() and (not fresh or _failed(lookup))):
            lookup = self._lookup = self._loop.create_task(self._look_up())
            lookup.add_done_callback(_failed)  # also where nobody waited for it
        try:
            return await asyncio.shield(lookup)
        except asyncio.CancelledError:
            if lookup.cancelled():  # by `close`
                raise Dropped from None
            raise

    async def _look_up(self) -> Sequence[AddrInfo]:
        if _is_address(self._host):  # glibc's answer depends on what networks there are
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            return [_info(family, self._host, self._port)]
        found = await self._resolver.resolve(self._host, self._port, socket.AF_UNSPEC)
        self._looked_up_at = self._loop.time()
        return [_info(each["family"], each["host"], each["port"]) for each in found]


def _failed(lookup: asyncio.Task[Any]) -> bool:
    return lookup.cancelled() or lookup.exception() is not None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _info(family: int, host: str, port: int) -> AddrInfo:
    where = (host, port, 0, 0) if family == socket.AF_INET6 else (host, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where
