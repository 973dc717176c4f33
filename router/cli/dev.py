"""`psi-router dev`: the service on an embedded PostgreSQL, with stand-ins for all outside.

Replies really go out, to a stand-in for the Graph API, which posts their statuses back;
the notifications go to one for the CRM. /chat shows all of it.

`--smoke` sends one message, shows what became of it, and stops: the proof that it works.
"""

import argparse
import asyncio
import http.client
import io
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from aiohttp import web
from yarl import URL

from router import telemetry
from router.app import DATABASE, PIPELINE, SERVICE
from router.cli import demo
from router.cli.chatroom import ChatRoom
from router.cli.databases import EMBEDDED
from router.cli.demo import World
from router.cli.environment import environment
from router.cli.serve import run_loop, serve
from router.cli.traffic import PHONE_NUMBER_ID
from router.config import AREAS, ENTRANCES, Settings
from router.errors import Unavailable
from router.store.database import Row
from router.whatsapp.signature import sign

APP_SECRET = "demo-app-secret"  # noqa: S105 -- a demo, and printed as such
SHARED_SECRET = "demo-shared-secret"  # noqa: S105
VERIFY_TOKEN = "demo-verify-token"  # noqa: S105
ADMIN_TOKEN = "demo-admin-token"  # noqa: S105
SMOKE_S = 30.0
POLL_S = 0.02

BANNER = """
psi-router listens on {url}   (Ctrl-C stops it; data in {data})

  talk to it      {url}/chat   or   .venv/bin/psi-router chat --url {url}
  webhook         POST {url}/webhook
  health, ready   {url}/health  {url}/ready
  metrics         curl -H 'Authorization: Bearer {admin}' {url}/metrics
  conversations   curl -H 'Authorization: Bearer {admin}' {url}/api/conversations/PHONE
  PostgreSQL      {dsn}
  stand-in CRM    {crm}
  stand-in Graph  {graph}
  demo secrets    WHATSAPP_APP_SECRET={secret}  WHATSAPP_VERIFY_TOKEN={token}
                  WEBHOOK_SHARED_SECRET={shared}  PSI_ADMIN_TOKEN={admin}

Send a first message from another terminal:

  .venv/bin/psi-router simulate --url {url}/webhook --count 1

"""

ROW = """
select m.mensaje, m.tipo, m.direccion, m.remitente_nombre, m.timestamp, m.whatsapp_message_id,
       m.conversacion_id, c.telefono, c.area, c.estado, c.linea_origen
from mensajes m join conversaciones c on c.id = m.conversacion_id
where m.whatsapp_message_id = $1"""

REPLY = """
select mensaje, tipo, direccion, remitente_tipo, remitente_nombre, timestamp,
       whatsapp_message_id, conversacion_id, estado_envio
from mensajes
where conversacion_id = $1 and direccion = 'saliente' and whatsapp_message_id is not null"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(".psi-dev"),
        help="where PostgreSQL keeps them",
    )
    parser.add_argument(
        "--menu-as",
        choices=("list", "text"),
        default="list",
        help="how the packaged line shows its menu (default %(default)s)",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="send a message, show its way, stop"
    )


def run(args: argparse.Namespace) -> int:
    """Run until stopped; with --smoke, 0 when the message was stored and told."""
    env = environment()
    telemetry.configure(env.get("PSI_LOG_LEVEL") or "info")
    return run_loop(env.get("PSI_LOOP") or "uvloop", _dev(args, env))


async def _dev(args: argparse.Namespace, env: Mapping[str, str]) -> int:
    async with demo.world(APP_SECRET) as world:
        settings = Settings.load(demo_environment(args.data, world, env))
        url = URL.build(scheme="http", host=settings.host, port=settings.port)
        world.graph.webhook_url = str(url / "webhook")
        if not env.get("PSI_CONFIG"):
            settings = _showing_menus(settings, as_list=args.menu_as == "list")
        show = _Demo(url, world, args.data)
        if not args.smoke:
            return await serve(settings, show.welcome)
        status = await serve(settings, show.smoke)
        return status if show.passed else 1


def _showing_menus(settings: Settings, *, as_list: bool) -> Settings:
    lines = tuple(replace(line, as_list=as_list) for line in settings.lines)
    return replace(settings, lines=lines)


def demo_environment(
    data: Path, world: World, env: Mapping[str, str]
) -> dict[str, str]:
    """Return settings that need nothing and reach nothing outside this machine."""
    kept = {
        name: env[name]
        for name in ("HOST", "PORT", "PSI_LOOP", "PSI_LOG_LEVEL", "PSI_CONFIG")
        if env.get(name)
    }
    return {
        "DATABASE_URL": f"{EMBEDDED}{data.resolve()}",
        "PSI_MIGRATE": "1",
        "WHATSAPP_APP_SECRET": APP_SECRET,
        "WHATSAPP_VERIFY_TOKEN": VERIFY_TOKEN,
        "WEBHOOK_SHARED_SECRET": SHARED_SECRET,
        "PSI_ADMIN_TOKEN": ADMIN_TOKEN,
        "CLOUD_API_BASE_URL": world.graph.url,
        "CLOUD_API_TOKEN": world.graph.token,
        "CLOUD_API_PHONE_NUMBER_ID": PHONE_NUMBER_ID,
        "PSI_MEDIA": f"{data.resolve()}-media",
        **{
            f"N8N_WEBHOOK_{verb}_ROUTER_{area}": f"{world.crm.url}/{verb}_{area}".lower()
            for verb, areas in (("INGESTA", ENTRANCES), ("ENVIOS", AREAS))
            for area in areas
        },
        **kept,
    }


class _Demo:
    """What `dev` prints, and what `--smoke` does once the service listens."""

    def __init__(self, url: URL, world: World, data: Path) -> None:
        self._url, self._world, self._data = url, world, data
        self.passed = False

    async def welcome(self, app: web.Application) -> None:
        room = ChatRoom(
            self._world, self._url / "webhook", app[DATABASE], app[SERVICE].health
        )
        await app[PIPELINE].supervisor.start("chat room", room.watch)
        app[SERVICE].chat = room.handle
        sys.stdout.write(
            BANNER.format(
                url=self._url.origin(),
                data=self._data,
                dsn=app[DATABASE].dsn,
                crm=self._world.crm.url,
                graph=self._world.graph.url,
                secret=APP_SECRET,
                token=VERIFY_TOKEN,
                shared=SHARED_SECRET,
                admin=ADMIN_TOKEN,
            )
        )
        sys.stdout.flush()

    async def smoke(self, app: web.Application) -> None:
        await self.welcome(app)
        lines = _Tee(sys.stdout)
        sys.stdout = lines
        try:
            async with asyncio.timeout(SMOKE_S):
                await self._first_message(app, lines)
        except (TimeoutError, Unavailable) as exc:
            sys.stderr.write(f"smoke: {str(exc) or 'not stored and told in time'}\n")
        finally:
            sys.stdout = lines.below
            signal.raise_signal(signal.SIGTERM)

    async def _first_message(self, app: web.Application, lines: "_Tee") -> None:
        # Somebody new each time: who has a ticket already is not shown the menu.
        wamid, somebody = demo.new_wamid(), replace(demo.somebody(), name="Ana")
        body = somebody.hook(wamid, demo.typed("Hola"))
        answer = await asyncio.to_thread(post, self._url / "webhook", body)
        (row,) = await app[DATABASE].fetch(ROW, wamid)
        notification = await self._world.crm.first()
        reply = await self._reply(app, row["conversacion_id"])
        _show("the answer", answer)
        _show("its row", _as_json(row))
        _show("its notification", notification)
        _show("the menu that answers it", _as_json(reply))
        _show("its log line", lines.processed)
        self.passed = bool(lines.processed)

    async def _reply(self, app: web.Application, conversation: object) -> Row:
        while not (  # noqa: ASYNC110 -- the database rings no bell
            rows := await app[DATABASE].fetch(REPLY, conversation)
        ):
            await asyncio.sleep(POLL_S)
        return rows[0]


class _Tee(io.TextIOBase):
    """Standard output that remembers the last `message_processed` line."""

    def __init__(self, below: TextIO) -> None:
        self.below, self.processed = below, ""
        self.buffer = self

    def write(self, text: str | bytes) -> int:
        line = text.decode() if isinstance(text, bytes) else text
        if '"message_processed"' in line:
            self.processed = line.strip()
        return self.below.write(line)

    def flush(self) -> None:
        self.below.flush()


def _as_json(row: Row) -> str:
    fields = {name: row[name] for name in row.keys()}  # noqa: SIM118 -- a Row
    return json.dumps(fields, default=str, ensure_ascii=False)


def _show(what: str, value: str) -> None:
    sys.stdout.write(f"\n{what}:\n  {value}\n")


def post(url: URL, body: bytes) -> str:
    """Post *body*, signed with the demo secret, and return the answer."""
    connection = http.client.HTTPConnection(url.host or "", url.port, timeout=SMOKE_S)
    signature = sign(body, APP_SECRET.encode())
    try:
        connection.request(
            "POST",
            url.path,
            body,
            {"Content-Type": "application/json", "X-Hub-Signature-256": signature},
        )
        response = connection.getresponse()
        answer = response.read().decode()
    except OSError as exc:
        raise Unavailable(f"cannot post: {exc}") from exc
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise Unavailable(f"answered {response.status}: {answer}")
    return answer
