"""The aiohttp application: one context a resource, in dependency order, then routes.

Contexts are left in reverse, after the last handler has returned: the pipeline drains while
the client and the pool are still open.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from router import __version__
from router.config import Settings
from router.destinations.client import WebhookClient
from router.health import Health
from router.pipeline import Pipeline
from router.stages.ingress import MAX_BODY, Ingress
from router.store.database import Database
from router.store.pulse import Pulse
from router.store.upkeep import Upkeep

WEBHOOK_PATHS = ("/webhook", "/webhook/whatsapp", "/api/router/whatsapp/webhook")


@dataclass(slots=True)
class Service:
    """What the handlers share, and what whoever stops the process must reach."""

    settings: Settings
    commit: str
    health: Health = field(default_factory=Health)
    started: float = field(default_factory=time.monotonic)


SERVICE = web.AppKey("SERVICE", Service)
DATABASE = web.AppKey("DATABASE", Database)
CLIENT = web.AppKey("CLIENT", WebhookClient)
PIPELINE = web.AppKey("PIPELINE", Pipeline)
INGRESS = web.AppKey("INGRESS", Ingress)


async def database_context(app: web.Application) -> AsyncIterator[None]:
    """Open the pool first and close it last."""
    database = app[DATABASE] = Database(app[SERVICE].settings.database_url)
    await database.open()
    yield
    await database.close()


async def client_context(app: web.Application) -> AsyncIterator[None]:
    """Open the HTTP client that tells the destinations."""
    settings = app[SERVICE].settings
    async with WebhookClient(
        signing_secrets=settings.signing_secrets, allow_private=settings.allow_private
    ) as client:
        app[CLIENT] = client
        yield


async def pipeline_context(app: web.Application) -> AsyncIterator[None]:
    """Run the workers until the last handler has returned, then drain."""
    service, settings = app[SERVICE], app[SERVICE].settings
    pipeline = Pipeline(settings, app[DATABASE], app[CLIENT], service.health)
    pulse = Pulse(app[DATABASE], settings.database_url, service.health)
    upkeep = Upkeep(app[DATABASE], retention_days=settings.retention_days)
    app[PIPELINE] = pipeline
    app[INGRESS] = Ingress(settings, pipeline.inbox, service.health)
    await pipeline.start()
    await pipeline.supervisor.start("pulse", pulse.run)
    await pipeline.supervisor.start("upkeep", upkeep.run)
    yield
    await pipeline.drain()


async def webhook_get(request: web.Request) -> web.Response:
    """Meta's verification."""
    return await request.app[INGRESS].verification(request)


async def webhook_post(request: web.Request) -> web.Response:
    """Whatever Meta, n8n and the CRM send."""
    return await request.app[INGRESS].receive(request)


async def health(request: web.Request) -> web.Response:
    """200 while the process works. Never asks the database: see `ready`."""
    service = request.app[SERVICE]
    answer: dict[str, Any] = {
        "status": "ok",
        "version": __version__,
        "commit": service.commit,
        "uptime_s": round(time.monotonic() - service.started, 3),
    }
    return web.json_response(answer)


async def ready(request: web.Request) -> web.Response:
    """200 when every promise can be kept now, else 503 with what is missing."""
    missing = request.app[SERVICE].health.missing()
    return web.json_response(
        {"ready": not missing, "missing": missing}, status=503 if missing else 200
    )


def make_app(settings: Settings, *, commit: str = "unknown") -> web.Application:
    """Describe the application; nothing is opened until it starts."""
    app = web.Application(client_max_size=MAX_BODY)
    app[SERVICE] = Service(settings, commit)
    app.cleanup_ctx.extend([database_context, client_context, pipeline_context])
    for path in WEBHOOK_PATHS:
        app.router.add_get(path, webhook_get, allow_head=False)
        app.router.add_post(path, webhook_post)
    app.router.add_get("/health", health)
    app.router.add_get("/ready", ready)
    return app
