"""Each fault of the FaultProxy is the fault it says, and can be taken back."""

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator

import pytest

from tests.faultproxy import HOST, FaultProxy
from tests.servers import until

Line = tuple[StreamReader, StreamWriter]


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy before a server that gives back what it gets."""

    async def echo(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while chunk := await reader.read(100):
                writer.write(chunk)
        except ConnectionResetError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    async with FaultProxy(HOST, server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


@pytest.fixture
async def line(proxy: FaultProxy) -> AsyncIterator[Line]:
    """A connection through the proxy, over which something has gone already."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    yield reader, writer
    writer.transport.abort()


async def test_the_end_of_one_side_is_passed_on(line: Line) -> None:
    reader, writer = line
    writer.write_eof()
    assert await reader.read() == b""


async def test_a_delay_holds_back_both_ways(proxy: FaultProxy, line: Line) -> None:
    reader, writer = line
    proxy.delay_s = 0.05
    before = time.monotonic()
    writer.write(b"slow")
    assert await reader.readexactly(4) == b"slow"
    assert time.monotonic() - before >= 0.1


async def test_a_black_hole_is_silent_and_gives_back(
    proxy: FaultProxy, line: Line
) -> None:
    reader, writer = line
    proxy.black_hole = True
    writer.write(b"lost")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.readexactly(4)
    proxy.black_hole = False
    assert await reader.readexactly(4) == b"lost"


async def test_a_cut_comes_after_so_many_bytes(proxy: FaultProxy, line: Line) -> None:
    reader, writer = line
    proxy.cut_after_bytes = 6  # four have gone
    writer.write(b"message")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(7)


async def test_a_refused_connection_is_reset(proxy: FaultProxy) -> None:
    proxy.refuse = True
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_a_reset_ends_what_is_open_and_nothing_else(
    proxy: FaultProxy, line: Line
) -> None:
    reader, _ = line
    proxy.reset_all()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    again, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"ping")
    assert await again.readexactly(4) == b"ping"
    writer.close()


async def test_an_upstream_that_is_away_looks_like_a_reset(proxy: FaultProxy) -> None:
    proxy.upstream = (HOST, 1)
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_a_mute_host_hears_and_is_not_heard(
    proxy: FaultProxy, line: Line
) -> None:
    reader, writer = line
    proxy.mute = True
    writer.write(b"ping")
    await until(lambda: proxy.held == 1)  # it came to the echo and back
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.readexactly(4)
    proxy.mute = False
    assert await reader.readexactly(4) == b"ping"
