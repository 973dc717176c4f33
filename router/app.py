"""The aiohttp application: one context a resource, in dependency order, then routes.

Contexts are left in reverse, after the last handler has returned: the pipeline drains while
the client and the pool are still open.
"""

import contextlib
import functools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from router import __version__
from router.config import Settings
from router.destinations.client import WebhookClient
from router.destinations.graph import GraphClient
from router.destinations.media import MediaClient
from router.destinations.media_file import NAME
from router.destinations.shadow import ShadowTeller
from router.destinations.storage import store_of
from router.health import Health
from router.ops.admin import Handler, admins_only
from router.ops.conversations import conversation
from router.ops.explain import message
from router.ops.lag import LoopLag
from router.ops.media import file
from router.ops.metrics import metrics
from router.ops.mode import ModeWatch
from router.ops.send import Sender
from router.pipeline import Files, Pipeline
from router.stages.desk import BULK, WHATSAPP
from router.stages.ingress import MAX_BODY, Ingress
from router.stages.notify import Teller
from router.store import dialect
from router.store.database import Database
from router.store.pulse import Pulse
from router.store.upkeep import Upkeep

WEBHOOK_PATHS = ("/webhook", "/webhook/whatsapp", "/api/router/whatsapp/webhook")


@dataclass(slots=True)
class Service:
    """What the handlers share, and what whoever stops the process must reach.

    `chat` answers for the page /chat, once a command has put it there: `dev` does.
    """

    settings: Settings
    commit: str
    health: Health = field(init=False)
    started: float = field(default_factory=time.monotonic)
    lag: LoopLag = field(default_factory=LoopLag)
    chat: Handler | None = None

    def __post_init__(self) -> None:
        """Begin with no state known but whether it is a shadow."""
        self.health = Health(shadow=self.settings.shadow)


SERVICE = web.AppKey("SERVICE", Service)
DATABASE = web.AppKey("DATABASE", Database)
CLIENT: web.AppKey[Teller] = web.AppKey("CLIENT")
GRAPH = web.AppKey("GRAPH", GraphClient)
FILES = web.AppKey("FILES", Files)
PIPELINE = web.AppKey("PIPELINE", Pipeline)
INGRESS = web.AppKey("INGRESS", Ingress)


async def database_context(app: web.Application) -> AsyncIterator[None]:
    """Open the pool first and close it last."""
    settings = app[SERVICE].settings
    database = Database(settings.database_url, size=settings.connections)
    app[DATABASE] = database
    await database.open()
    yield
    await database.close()


async def client_context(app: web.Application) -> AsyncIterator[None]:
    """Open the HTTP clients that tell the destinations and send the replies."""
    settings = app[SERVICE].settings
    if settings.shadow:
        app[CLIENT] = ShadowTeller()
        yield
        return
    async with contextlib.AsyncExitStack() as stack:
        app[CLIENT] = await stack.enter_async_context(
            WebhookClient(
                signing_secrets=settings.signing_secrets,
                allow_private=settings.allow_private,
            )
        )
        if settings.graph_token is not None:
            app[GRAPH] = await stack.enter_async_context(
                GraphClient(
                    settings.graph_url,
                    settings.graph_token,
                    allow_private=settings.allow_private,
                )
            )
            await _open_files(app, stack)
        yield


async def _open_files(app: web.Application, stack: contextlib.AsyncExitStack) -> None:
    settings = app[SERVICE].settings
    if settings.storage is None or settings.graph_token is None:
        return
    client = MediaClient(
        settings.graph_url, settings.graph_token, allow_private=settings.allow_private
    )
    store = store_of(settings.storage)
    await store.clean()
    app[FILES] = Files(await stack.enter_async_context(client), store)


async def pipeline_context(app: web.Application) -> AsyncIterator[None]:
    """Run the workers until the last handler has returned, then drain."""
    service, settings = app[SERVICE], app[SERVICE].settings
    pipeline = Pipeline(
        settings,
        app[DATABASE],
        app[CLIENT],
        service.health,
        app.get(GRAPH),
        files=app.get(FILES),
    )
    pulse = Pulse(app[DATABASE], settings.database_url, service.health)
    upkeep = Upkeep(app[DATABASE], retention_days=settings.retention_days)
    app[PIPELINE] = pipeline
    app[INGRESS] = Ingress(settings, pipeline.inbox, service.health)
    await pipeline.start()
    await pipeline.supervisor.start("pulse", pulse.run)
    await pipeline.supervisor.start("upkeep", upkeep.run)
    await pipeline.supervisor.start("loop-lag", service.lag.run)
    await pipeline.supervisor.start("mode", ModeWatch(service.health).run)
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
    health = request.app[SERVICE].health
    missing = health.missing()
    return web.json_response(
        {"ready": not missing, "missing": missing, **health.detail()},
        status=503 if missing else 200,
    )


async def metrics_get(request: web.Request) -> web.Response:
    """Answer with what is counted, and how the queues stand."""
    service = request.app[SERVICE]
    return metrics(request.app[PIPELINE].queues, service.lag.worst_s, service.health)


async def conversation_get(request: web.Request) -> web.Response:
    """Answer with a person's contact, conversation and last messages."""
    words = dialect.load(request.app[SERVICE].settings.dialect)
    return await conversation(
        request.app[DATABASE], request.match_info["telefono"], words
    )


async def message_get(request: web.Request) -> web.Response:
    """Answer with the whole life of one message."""
    return await message(request.app[DATABASE], request.match_info["wamid"])


def wake_replies(pipeline: Pipeline) -> None:
    """Say that there is something new to say on WhatsApp."""
    for outbox in pipeline.outboxes:
        if outbox.destination.name in {WHATSAPP, BULK}:
            outbox.wake()


async def send_post(request: web.Request) -> web.StreamResponse:
    """Take a message of the CRM's on its way to WhatsApp."""
    app = request.app
    sender = Sender(
        app[SERVICE].settings, app[DATABASE], lambda: wake_replies(app[PIPELINE])
    )
    return await sender.handle(request)


async def media_get(request: web.Request) -> web.StreamResponse:
    """Answer with a file that came with a message."""
    app = request.app
    return await file(request, app[SERVICE].settings, app.get(FILES))


async def chat(request: web.Request) -> web.StreamResponse:
    """Answer as the page of `psi-router dev`; a service has none."""
    answer = request.app[SERVICE].chat
    if answer is None:
        raise web.HTTPNotFound
    return await answer(request)


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
    guarded = functools.partial(admins_only, settings.admin_token)
    app.router.add_get("/metrics", guarded(metrics_get))
    app.router.add_get("/api/conversations/{telefono}", guarded(conversation_get))
    app.router.add_post("/api/messages/send", send_post)
    # An id may hold slashes.
    app.router.add_get("/api/messages/{wamid:.+}", guarded(message_get))
    app.router.add_get(f"/media/{{name:{NAME}}}", media_get)
    app.router.add_route("*", r"/chat{rest:(/[a-z.]+)?}", chat)
    return app
