"""The server that does nothing, and the one that the router tells.

python -m bench.servers bare PORT     aiohttp, one handler: read the body, answer JSON
python -m bench.servers sink PORT     a CRM that costs as little as it can
"""

import asyncio
import sys
from typing import cast

import uvloop
from aiohttp import web

HOST = "127.0.0.1"
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def receive(request: web.Request) -> web.Response:
    """Answer what the router answers, without doing what it does."""
    await request.read()
    return web.json_response({"success": True, "processed": 1, "failed": 0})


async def bare(port: int) -> None:
    """Serve `receive`."""
    app = web.Application()
    app.router.add_post("/webhook", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    await asyncio.Event().wait()


class Sink(asyncio.Protocol):
    """Answers 200 to each request with a Content-Length."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:

        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(HEAD_END)) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(LENGTH)[2].split(b"\r\n", 1)[0])
            whole = end + len(HEAD_END) + length
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            assert self._transport
            self._transport.write(OK)


async def sink(port: int) -> None:
    """Serve `Sink`."""
    server = await asyncio.get_running_loop().create_server(Sink, HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run({"bare": bare, "sink": sink}[sys.argv[1]](int(sys.argv[2])))
