"""The invented world of `psi-router dev`: people, what they send, and who is told.

Phones follow the pattern 54911000xxxxx, which nobody has.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from router.cli.fake_graph import FakeGraph, fake_graph
from router.cli.fake_rules import Message
from router.cli.standin import StandIn, local_server
from router.cli.traffic import NAMES, OUR_NUMBER, PHONE_NUMBER_ID, SURNAMES, WABA_ID

PHONES = 100_000  # that the pattern has
KEPT = 500  # notifications, and lines of one person's talk

Json = dict[str, Any]


class Bell:
    """Wakes everybody who waits, each time that something happens."""

    def __init__(self) -> None:
        """Begin in silence."""
        self._next = asyncio.Event()

    def ring(self) -> None:
        """Wake whoever waits now."""
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    async def wait(self, at_most_s: float) -> None:
        """Wait for the next ring; without one for *at_most_s*."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._next.wait()


@dataclass(frozen=True, slots=True)
class Notification:
    """One that the stand-in for the CRM took."""

    destination: str  # as the settings name it: ingesta_wsp4, envios_alumnos, …
    body: Json
    at: str  # ISO 8601

    @property
    def phone(self) -> str:
        """Whose it is: the two shapes of contract 7 name it differently."""
        return str(self.body.get("phone") or self.body.get("telefono") or "")

    def to_json(self) -> Json:
        """Return what the page shows."""
        return {"destination": self.destination, "at": self.at, "body": self.body}


class Crm(StandIn):
    """A stand-in for the CRM that knows which destination it was told as."""

    def __init__(self, told: Callable[[], None]) -> None:
        """Call *told* after each notification."""
        super().__init__()
        self.told: deque[Notification] = deque(maxlen=KEPT)
        self._told = told

    async def take(self, request: web.Request) -> web.Response:
        """Keep one notification, by the end of its URL."""
        name = request.path.rsplit("/", maxsplit=1)[-1]
        body = json.loads(await request.read())
        self.told.append(Notification(name, body, now()))
        self._told()
        return await super().take(request)


@dataclass(frozen=True, slots=True)
class World:
    """What stands around the router: WhatsApp, the CRM, and a bell that the CRM rings."""

    graph: FakeGraph
    crm: Crm
    bell: Bell


@asynccontextmanager
async def world(app_secret: str) -> AsyncIterator[World]:
    """Run both stand-ins on free ports; no statuses until the graph has a `webhook_url`."""
    bell = Bell()
    crm = Crm(bell.ring)
    app = web.Application()
    app.router.add_post("/{path:.*}", crm.take)
    graph = FakeGraph(token=secrets.token_urlsafe(), app_secret=app_secret)
    async with local_server(app) as url, fake_graph(graph):
        crm.url = f"{url}/crm"
        yield World(graph, crm, bell)


@dataclass(frozen=True, slots=True)
class Persona:
    """Somebody who writes to the school."""

    phone: str
    name: str

    def hook(self, wamid: str, content: Json) -> bytes:
        """Return a webhook body, as Meta shapes it, in which they send *content*."""
        bsuid = f"AR.{self.phone:0>16}"
        message = {
            "from": self.phone,
            "from_user_id": bsuid,
            "id": wamid,
            "timestamp": str(int(time.time())),
            **content,
        }
        profile = {
            "profile": {"name": self.name},
            "wa_id": self.phone,
            "user_id": bsuid,
        }
        value = {
            "messaging_product": "whatsapp",
            "metadata": {
                "display_phone_number": OUR_NUMBER,
                "phone_number_id": PHONE_NUMBER_ID,
            },
            "contacts": [profile],
            "messages": [message],
        }
        entry = {"id": WABA_ID, "changes": [{"field": "messages", "value": value}]}
        body = {"object": "whatsapp_business_account", "entry": [entry]}
        return json.dumps(body).encode()


def somebody() -> Persona:
    """Invent a person."""
    name = f"{secrets.choice(NAMES)} {secrets.choice(SURNAMES)}"
    return Persona(f"54911000{secrets.randbelow(PHONES):05d}", name)


def new_wamid() -> str:
    """Return the id of a message that nobody has sent before."""
    return f"wamid.DEMO{secrets.token_hex(12).upper()}"


def typed(words: str) -> Json:
    """Return the content of a typed message."""
    return {"type": "text", "text": {"body": words}}


def tapped(kind: str, choice: Json) -> Json:
    """Return the content of a tap: *kind* is list_reply or button_reply."""
    reply = {"id": choice["id"], "title": choice["title"]}
    if kind == "list_reply" and choice.get("description"):
        reply["description"] = choice["description"]
    return {"type": "interactive", "interactive": {"type": kind, kind: reply}}


def line_of(message: Message) -> Json:
    """Return a message that the Graph API took, as a line of the talk.

    `choices` is None, or {kind, button, rows: [{id, title, description}]}; `row` names the
    row of mensajes whose text it is.
    """
    body = message.body
    kind = str(body.get("type", "text"))
    content: Json = body[kind]  # the Graph API took it, so it is there
    text = content["body"]["text"] if kind == "interactive" else content.get("body")
    return {
        "id": message.wamid,
        "from": "bot",
        "at": now(),
        "row": body.get("biz_opaque_callback_data", ""),
        "text": text or f"[{kind}]",
        "choices": _choices(content) if kind == "interactive" else None,
    }


def _choices(content: Json) -> Json:
    action = content["action"]
    if content["type"] == "list":
        rows = [row for section in action["sections"] for row in section["rows"]]
        return {"kind": "list_reply", "button": action["button"], "rows": rows}
    rows = [button["reply"] for button in action["buttons"]]
    return {"kind": "button_reply", "button": "", "rows": rows}


def now() -> str:
    """Return the time in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
