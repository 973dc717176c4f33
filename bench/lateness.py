"""How late a CRM hears, beside a destination that hangs: a part of bench/delivery.py."""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bench.bed import SIGNING
from bench.contestant import SECRET
from bench.load import Client, post
from bench.machine import HOST, SERVER_CORE, free_port, python, server
from bench.servers import Sink
from router.cli.traffic import ID_TEXT, Body, Traffic
from router.store.database import Database
from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate

TOLD_S = 60.0


class Told(Sink):
    """A CRM that notes when it heard of which message."""

    heard: dict[str, float]  # by message, perf_counter; the server's own

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        for piece in data.split(b'"message":"')[1:]:
            self.heard.setdefault(piece.partition(b'"')[0].decode(), now)
        super().data_received(data)


@contextlib.asynccontextmanager
async def crm() -> AsyncIterator[tuple[str, dict[str, float]]]:
    """Run a `Told`; lend its URL, and what it heard."""
    heard: dict[str, float] = {}

    def connected() -> Told:
        protocol = Told()
        protocol.heard = heard
        return protocol

    listening = await asyncio.get_running_loop().create_server(connected, HOST, 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"http://{HOST}:{port}/crm", heard
    finally:
        listening.close()


@contextlib.asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """Run a server that takes everything and never answers; lend its URL."""
    listening = await asyncio.get_running_loop().create_server(
        asyncio.Protocol, HOST, 0
    )
    try:
        yield f"http://{HOST}:{listening.sockets[0].getsockname()[1]}/"
    finally:
        listening.close()


@contextlib.asynccontextmanager
async def stored() -> AsyncIterator[tuple[Database, int, str]]:
    """Lend an empty database, the pid of its server, and its DSN."""
    with tempfile.TemporaryDirectory(prefix="psi-bench-") as directory:
        async with EmbeddedPostgres(Path(directory) / "pg") as postgres:
            assert postgres.pid
            await migrate(postgres.dsn())
            database = Database(postgres.dsn())
            await database.open()
            try:
                yield database, postgres.pid, postgres.dsn()
            finally:
                await database.close()


async def lateness(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the whole router, with one healthy and one hanging destination."""
    found: dict[str, Any] = {}
    async with stored() as (_, _, dsn), crm() as (url, heard), black_hole() as hole:
        with tempfile.TemporaryDirectory(prefix="psi-bench-") as directory:
            port, place = free_port(), Path(directory)
            config = place / "router.toml"
            config.write_text(
                f'[[lines]]\nname = "wsp4"\n[[destinations]]\nname = "hole"\n'
                f'url = "{hole}"\nevents = ["message.received"]\n'
            )
            router = server(
                SERVER_CORE,
                port,
                python("router", "serve"),
                place / "router.log",
                DATABASE_URL=dsn,
                PORT=str(port),
                WHATSAPP_APP_SECRET=SECRET.decode(),
                WHATSAPP_VERIFY_TOKEN="bench",
                PSI_SIGNING_SECRET=SIGNING,
                PSI_CONFIG=str(config),
                N8N_WEBHOOK_INGESTA_ROUTER_WSP4=url,
            )
            async with router:
                load = Load(f"http://{HOST}:{port}/webhook", options, heard)
                await load.at(100.0, options.contacts)  # everybody writes once
                for rate in options.rates:
                    found[f"{rate:.0f}/s"] = await load.at(rate, rate * options.seconds)
                found["all at once"] = await load.burst(options.burst)
    return found


class Load:
    """Posts messages, and compares when they were answered with when they were told."""

    def __init__(
        self, url: str, options: argparse.Namespace, heard: dict[str, float]
    ) -> None:
        self._url, self._heard = url, heard
        self._bodies = Traffic(
            seed=options.seed,
            start=int(time.time()),
            contacts=options.contacts,
            text=ID_TEXT,
        ).bodies()
        self._acked: dict[str, float] = {}
        self._client = Client(url, 50)

    async def at(self, rate: float, count: float) -> dict[str, Any]:
        """Post by the clock; return how late the CRM heard."""
        self._acked.clear()
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for place in range(int(count)):
                await asyncio.sleep(started + place / rate - time.perf_counter())
                group.create_task(self._post(next(self._bodies)))
        missing = await self._told()
        late = sorted(
            (self._heard[key] - at) * 1000
            for key, at in self._acked.items()
            if key in self._heard
        )
        return {
            "told": len(late),
            "missing": missing,
            "p50_ms": round(late[len(late) // 2], 1),
            "p95_ms": round(late[int(0.95 * len(late))], 1),
            "max_ms": round(late[-1], 1),
        }

    async def burst(self, count: int) -> dict[str, Any]:
        """Post as fast as it goes; return how many a second were told."""
        self._acked.clear()
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(self._posts(count // 50))
        answered_s = time.perf_counter() - started
        missing = await self._told()
        last = max(self._heard[key] for key in self._acked if key in self._heard)
        return {
            "answered_per_s": round(len(self._acked) / answered_s),
            "told_per_s": round((len(self._acked) - missing) / (last - started)),
            "missing": missing,
        }

    async def _posts(self, count: int) -> None:
        for _ in range(count):
            await self._post(next(self._bodies))

    async def _post(self, body: Body) -> None:
        answer = await self._client.send(post(self._url, body.data, SECRET))
        if answer.status == HTTPStatus.OK:
            now = time.perf_counter()
            self._acked.update(dict.fromkeys(body.messages, now))

    async def _told(self) -> int:
        until = time.perf_counter() + TOLD_S
        while time.perf_counter() < until and self._missing():  # noqa: ASYNC110 -- a CRM
            await asyncio.sleep(0.05)
        return self._missing()

    def _missing(self) -> int:
        return len(self._acked.keys() - self._heard.keys())
