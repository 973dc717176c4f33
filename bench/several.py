"""So many routers on one database of their own, at one port or apart, under a closed loop.

Apart, each has a port and the people of its own, as if each had its own line.
"""

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import asyncpg

from bench.bed import settings
from bench.contest import HANDED_OVER
from bench.contestant import (
    CROWDS,
    LATE_S,
    PENDING,
    PER,
    SECRET,
    STORED,
    Request,
    crowd,
)
from bench.load import Client, Run, closed_loop
from bench.machine import (
    HOST,
    START_S,
    STOP_S,
    busy_s,
    cpu_s,
    free_port,
    postgres_cpu_s,
    python,
    spawn,
    tail,
)
from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate

ANY_CORE = 10**6  # which no machine has, so that nothing is pinned
TOKEN = "bench"  # opens /metrics
PERSON = re.compile(rb'"from_user_id": ?"([^"]+)"')
LINE = b'"event":"message_processed"'


@dataclass(frozen=True, slots=True)
class Loop:
    """One closed loop. CPU in seconds per 10,000 messages, until all are told."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_s: float  # of the routers
    postgres_cpu_s: float
    cores: float  # busy with anything, others' work too, while it ran


@dataclass(slots=True)
class Several:
    """The routers, their database, and what they answered 200 to."""

    ports: list[int]  # one for all, or one each
    connection: asyncpg.Connection
    postmaster: int
    logs: list[Path]
    pids: list[int] = field(default_factory=list)
    acked: list[str] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        """Where they listen."""
        return [f"http://{HOST}:{port}/webhook" for port in self.ports]

    def split(self, requests: Sequence[Request]) -> list[list[int]]:
        """Return whose places in *requests* are whose, by the person who wrote."""
        parts: list[list[int]] = [[] for _ in self.ports]
        for place, (data, _) in enumerate(requests):
            found = PERSON.search(data)
            parts[crc32(found[1] if found else b"") % len(parts)].append(place)
        return parts

    async def introduce(self, contacts: int, seed: int) -> None:
        """Let everybody have written before, to conversations that people own."""
        for again, each in enumerate(CROWDS):
            for number, url in enumerate(self.urls):
                client = Client(url, 4)
                # Bodies of many people: all are shown to all, and told apart later.
                for request, body in crowd(seed + again * 2 + number, contacts, each):
                    await client.send(request)
                    self.acked += body.messages
                client.close()
            await self.told()
            if not again:
                await self.connection.execute(HANDED_OVER)
        await self.connection.execute("vacuum analyze")

    async def loop(self, requests: Sequence[Request], connections: int) -> Loop:
        """Post *requests* as fast as they are answered, and wait until all are told."""
        used, (busy, _) = self._cpu(), busy_s()
        began = time.perf_counter()
        run = await self._closed_loop(requests, connections)
        took_s = time.perf_counter() - began
        cores = (busy_s()[0] - busy) / took_s
        await self.told()
        now, per = self._cpu(), PER / len(requests)
        return Loop(
            rate=len(requests) / took_s,
            p50_ms=run.percentile_ms(0.5),
            p99_ms=run.percentile_ms(0.99),
            cpu_s=(now[0] - used[0]) * per,
            postgres_cpu_s=(now[1] - used[1]) * per,
            cores=cores,
        )

    async def _closed_loop(self, requests: Sequence[Request], connections: int) -> Run:
        parts = self.split(requests)
        runs = await asyncio.gather(
            *(
                closed_loop(
                    url, [requests[p][0] for p in part], connections // len(parts)
                )
                for url, part in zip(self.urls, parts, strict=True)
            )
        )
        both = Run()
        for run, part in zip(runs, parts, strict=True):
            if run.refused:
                sys.exit(f"{run.refused} of {len(part)} were refused")
            both.latencies_s += run.latencies_s
            for place in run.acked:
                self.acked += requests[part[place]][1].messages
        return both

    async def told(self) -> None:
        """Wait until nothing is left to be told."""
        until = time.monotonic() + LATE_S
        while await self.connection.fetchval(PENDING):
            if time.monotonic() > until:
                sys.exit(f"the outbox was not empty after {LATE_S:.0f} s")
            await asyncio.sleep(0.05)

    async def missing(self) -> int:
        """Return how many messages were answered 200 and are not in the table."""
        found: int = await self.connection.fetchval(STORED, self.acked)
        return len(set(self.acked)) - found

    def shares(self) -> list[float]:
        """Return which part of the messages each process stored."""
        counts = [log.read_bytes().count(LINE) for log in self.logs]
        return [round(count / max(sum(counts), 1), 2) for count in counts]

    def _cpu(self) -> tuple[float, float]:
        return sum(map(cpu_s, self.pids)), postgres_cpu_s(self.postmaster)


@contextlib.asynccontextmanager
async def several(  # noqa: PLR0913 -- what runs, where, on what, for whom
    processes: int,
    place: Path,
    postgres: EmbeddedPostgres,
    *,
    sink: int | None = None,
    core: int = ANY_CORE,
    apart: bool = False,
) -> AsyncIterator[Several]:
    """Run *processes* routers, each on *core*; the *sink* at that port is told, if given."""
    name = f"by_{processes}{'_apart' * apart}"
    dsn = await _database(postgres, name)
    connection = await asyncpg.connect(dsn)
    logs = [place / f"{name}_{number}.log" for number in range(processes)]
    assert postgres.pid
    ports = [free_port() for _ in range(processes if apart else 1)]
    made = Several(ports, connection, postgres.pid, logs)
    env = settings(sink) | {
        "DATABASE_URL": dsn,
        "PSI_REUSE_PORT": "0" if apart else "1",
        "WHATSAPP_APP_SECRET": SECRET.decode(),
        "PSI_ADMIN_TOKEN": TOKEN,
    }
    with contextlib.ExitStack() as stack:
        for number, log in enumerate(logs):
            env["PORT"] = str(ports[number % len(ports)])
            process = spawn(core, python("router", "serve"), log, **env)
            stack.callback(process.wait, STOP_S)
            stack.callback(process.terminate)
            await _listens(log)
            made.pids.append(process.pid)
        yield made
    await connection.close()


async def _database(postgres: EmbeddedPostgres, name: str) -> str:
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"create database {name}")
    await admin.close()
    await migrate(postgres.dsn(name))
    return postgres.dsn(name)


async def _listens(log: Path) -> None:
    # The port is open already where another one has it: only its own log tells.
    until = time.monotonic() + START_S
    while '"event":"listening"' not in tail(log):
        if time.monotonic() > until:
            sys.exit(f"a router does not listen:\n{tail(log)}")
        await asyncio.sleep(0.02)


def share(cores: float) -> float:
    """Return which part of the machine so many busy cores are."""
    return cores / (os.cpu_count() or 1)


def drawn(requests: Iterator[Request], count: int) -> list[Request]:
    """Return the next *count* requests, made before the load needs its core."""
    return [next(requests) for _ in range(count)]
