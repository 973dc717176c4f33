"""aiohttp, a queue, and one writer that takes whatever arrived during the last commit.

One statement a batch; answered when it is committed. python -m bench.baselines.queued
"""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import asyncpg
import uvloop
from aiohttp import web

from bench.baselines.reading import SIGNATURE, Message, read, settings, signed
from bench.machine import HOST

STATEMENT = Path(__file__).with_name("batch.sql").read_text()
MOST = 500  # messages of a batch
PORT, DSN, SECRET = settings()

Waiting = tuple[list[Message], asyncio.Future[None]]
QUEUE = web.AppKey("QUEUE", asyncio.Queue[Waiting])


async def receive(request: web.Request) -> web.Response:
    """Answer when the body's messages are committed."""
    body = await request.read()
    if not signed(body, request.headers.get(SIGNATURE), SECRET):
        return web.Response(status=HTTPStatus.UNAUTHORIZED)
    messages = read(body)
    committed = asyncio.get_running_loop().create_future()
    await request.app[QUEUE].put((messages, committed))
    await committed
    return web.json_response({"success": True, "processed": len(messages), "failed": 0})


async def write(queue: asyncio.Queue[Waiting], connection: asyncpg.Connection) -> None:
    """Write batches, for ever; one that fails fails all who wait for it."""
    statement = await connection.prepare(STATEMENT)
    while True:
        waiting = [await queue.get()]
        while len(waiting) < MOST and not queue.empty():
            waiting.append(queue.get_nowait())
        messages = {m.wamid: m for some, _ in waiting for m in some}
        try:
            if messages:
                await statement.fetch(*zip(*messages.values(), strict=True))
        except asyncpg.PostgresError as error:
            settle(waiting, error)
        else:
            settle(waiting, None)


def settle(waiting: list[Waiting], error: Exception | None) -> None:
    """Tell those who wait and did not hang up."""
    for _, committed in waiting:
        if committed.done():
            continue
        if error:
            committed.set_exception(error)
        else:
            committed.set_result(None)


async def writer(app: web.Application) -> AsyncIterator[None]:
    """Run `write` while the application runs."""
    connection = await asyncpg.connect(DSN)
    task = asyncio.create_task(write(app[QUEUE], connection))
    yield
    task.cancel()
    await connection.close()


async def main() -> None:
    """Serve."""
    app = web.Application()
    app[QUEUE] = asyncio.Queue()
    app.router.add_post("/webhook", receive)
    app.cleanup_ctx.append(writer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, PORT).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
