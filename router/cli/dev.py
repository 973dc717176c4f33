"""`psi-router dev`: the service on an embedded PostgreSQL, with a stand-in for the CRM.

`--smoke` sends one message, shows what became of it, and stops: the proof that it works.
"""

import argparse
import asyncio
import http.client
import io
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from aiohttp import web

from router import telemetry
from router.app import DATABASE
from router.cli.databases import EMBEDDED
from router.cli.environment import environment
from router.cli.serve import run_loop, serve
from router.cli.standin import StandIn, stand_in
from router.config import Settings
from router.errors import Unavailable
from router.whatsapp.signature import sign

APP_SECRET = "demo-app-secret"  # noqa: S105 -- a demo, and printed as such
SHARED_SECRET = "demo-shared-secret"  # noqa: S105
VERIFY_TOKEN = "demo-verify-token"  # noqa: S105
PHONE_NUMBER_ID = "100000000000001"
SMOKE_S = 30.0

BANNER = """
psi-router listens on http://{host}:{port}   (Ctrl-C stops it; data in {data})

  webhook         POST http://{host}:{port}/webhook
  health, ready   http://{host}:{port}/health  http://{host}:{port}/ready
  PostgreSQL      {dsn}
  stand-in CRM    {crm}
  demo secrets    WHATSAPP_APP_SECRET={secret}  WHATSAPP_VERIFY_TOKEN={token}
                  WEBHOOK_SHARED_SECRET={shared}

Send a first message from another terminal:

  .venv/bin/psi-router simulate --url http://{host}:{port}/webhook --count 1

"""

ROW = """
select m.mensaje, m.tipo, m.direccion, m.remitente_nombre, m.timestamp, m.whatsapp_message_id,
       m.conversacion_id, c.telefono, c.area, c.estado, c.linea_origen
from mensajes m join conversaciones c on c.id = m.conversacion_id
where m.whatsapp_message_id = $1"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(".psi-dev"),
        help="where PostgreSQL keeps them",
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
    async with stand_in() as crm:
        settings = Settings.load(demo_environment(args.data, crm.url, env))
        demo = _Demo(settings, crm, args.data)
        if not args.smoke:
            return await serve(settings, demo.welcome)
        status = await serve(settings, demo.smoke)
        return status if demo.passed else 1


def demo_environment(data: Path, crm: str, env: Mapping[str, str]) -> dict[str, str]:
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
        "CLOUD_API_PHONE_NUMBER_ID": PHONE_NUMBER_ID,
        "N8N_WEBHOOK_INGESTA_ROUTER_WSP4": crm,
        **kept,
    }


class _Demo:
    """What `dev` prints, and what `--smoke` does once the service listens."""

    def __init__(self, settings: Settings, crm: StandIn, data: Path) -> None:
        self._settings, self._crm, self._data = settings, crm, data
        self.passed = False

    async def welcome(self, app: web.Application) -> None:
        sys.stdout.write(
            BANNER.format(
                host=self._settings.host,
                port=self._settings.port,
                data=self._data,
                dsn=app[DATABASE].dsn,
                crm=self._crm.url,
                secret=APP_SECRET,
                token=VERIFY_TOKEN,
                shared=SHARED_SECRET,
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
        wamid = f"wamid.SMOKE{time.time_ns()}"
        answer = await asyncio.to_thread(
            post, self._settings.host, self._settings.port, first_message(wamid)
        )
        (row,) = await app[DATABASE].fetch(ROW, wamid)
        notification = await self._crm.first()
        _show("the answer", answer)
        _show("its row", json.dumps(dict(row), default=str, ensure_ascii=False))
        _show("its notification", notification)
        _show("its log line", lines.processed)
        self.passed = bool(lines.processed)


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


def _show(what: str, value: str) -> None:
    sys.stdout.write(f"\n{what}:\n  {value}\n")


def first_message(wamid: str) -> bytes:
    """Return a webhook body in which an invented person says hello."""
    message = {
        "from": "5491100000001",
        "from_user_id": "AR.1000000000000001",
        "id": wamid,
        "timestamp": str(int(time.time())),
        "type": "text",
        "text": {"body": "Hola"},
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": "5491100000000",
            "phone_number_id": PHONE_NUMBER_ID,
        },
        "contacts": [
            {
                "profile": {"name": "Ana"},
                "wa_id": "5491100000001",
                "user_id": "AR.1000000000000001",
            }
        ],
        "messages": [message],
    }
    change = {"field": "messages", "value": value}
    body = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "200000000000001", "changes": [change]}],
    }
    return json.dumps(body).encode()


def post(host: str, port: int, body: bytes) -> str:
    """Post *body*, signed with the demo secret, and return the answer."""
    connection = http.client.HTTPConnection(host, port, timeout=SMOKE_S)
    signature = sign(body, APP_SECRET.encode())
    try:
        connection.request(
            "POST",
            "/webhook",
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
