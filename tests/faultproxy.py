"""A TCP proxy that misbehaves on request.

    async with FaultProxy("127.0.0.1", port) as proxy:
        ...                      # talk to 127.0.0.1:proxy.port
        proxy.black_hole = True  # and from here on nothing comes through

Every fault can be set and taken back while connections are open.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CHUNK_BYTES = 65536


class FaultProxy:
    """Passes bytes on to *host*:*port*, except as its attributes say.

    `delay_s` holds back each chunk, in each direction. `refuse` resets a new connection
    at once. `cut_after_bytes` lets each direction of a connection carry so many bytes
    from its beginning, then resets the connection, in the middle of a message if need be.
    `mute` holds back what comes from *host* alone: it hears, and its answers are not heard;
    `held` counts the chunks that are held so.
    """

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.port = 0  # ours, once started
        self.delay_s = 0.0
        self.refuse = False
        self.cut_after_bytes: int | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._heard = asyncio.Event()
        self._heard.set()
        self.held = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[StreamWriter] = set()

    @property
    def black_hole(self) -> bool:
        """Whether bytes are held while the connections stay open: nobody hears a thing.

        Taken back, what was held goes on its way.
        """
        return not self._flowing.is_set()

    @black_hole.setter
    def black_hole(self, value: bool) -> None:
        if value:
            self._flowing.clear()
        else:
            self._flowing.set()

    @property
    def mute(self) -> bool:
        """Whether answers are held while questions pass."""
        return not self._heard.is_set()

    @mute.setter
    def mute(self, value: bool) -> None:
        if value:
            self._heard.clear()
        else:
            self._heard.set()

    async def start(self) -> None:
        """Listen on a free port: `port`."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more and reset what is open."""
        if self._server:
            self._server.close()
        self.reset_all()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def reset_all(self) -> None:
        """Reset every open connection, on both sides."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            await self._join(reader, writer)
        except OSError:  # refused, or reset: what a proxy of faults lives with
            pass
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _join(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.refuse:
            return
        up_reader, up_writer = await asyncio.open_connection(*self.upstream)
        ends = {writer, up_writer}
        self._writers |= ends
        try:
            await asyncio.gather(
                self._pump(reader, up_writer),
                self._pump(up_reader, writer, self._wait_to_be_heard),
            )
        finally:
            up_writer.transport.abort()
            self._writers -= ends

    async def _wait_to_be_heard(self) -> None:
        self.held += self.mute
        await self._heard.wait()

    async def _pump(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        wait: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        carried = 0
        while chunk := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self.delay_s)
            await self._flowing.wait()
            if wait:
                await wait()
            room = self._room(carried)
            writer.write(chunk[:room])
            await writer.drain()
            carried += len(chunk)
            if room is not None and room < len(chunk):
                raise ConnectionResetError
        writer.close()

    def _room(self, carried: int) -> int | None:
        if self.cut_after_bytes is None:
            return None
        return max(0, self.cut_after_bytes - carried)
