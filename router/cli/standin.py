"""A stand-in for the CRM: takes notifications on a port of this machine and keeps them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(slots=True)
class StandIn:
    """What the CRM was told."""

    url: str = ""
    notifications: list[str] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        """Keep one notification and say that it arrived."""
        self.notifications.append((await request.read()).decode())
        del self.notifications[:-100]
        self._came.set()
        return web.json_response({"ok": True})

    async def first(self) -> str:
        """Wait for the first notification."""
        await self._came.wait()
        return self.notifications[0]


@asynccontextmanager
async def local_server(app: web.Application) -> AsyncIterator[str]:
    """Serve *app* on a free port of this machine; its URL without a path."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
