"""What every measurement stands on: PostgreSQL, a sink, servers with databases of their own.

Servers run on core 0; PostgreSQL, the sink and the load on core 1.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from bench.contestant import SECRET, Contestant, Request, Turn, full_load, turn
from bench.machine import (
    HOST,
    OTHER_CORE,
    SERVER_CORE,
    busy_s,
    cpu_s,
    free_port,
    pin,
    postgres_cpu_s,
    python,
    server,
)
from bench.peers import PEERS, Peer, make_tables
from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate

SEGMENTS = 24  # of the WAL, 16 MB each
BARE, ROUTER, SINK = "bare", "router", "sink"
SIGNING = "whsec_" + "YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gh"


@dataclass(slots=True)
class Bed:
    """Who runs: PostgreSQL, the sink, and the contestants in the order of their start."""

    place: Path
    postgres: EmbeddedPostgres
    sink: int  # its port
    sink_pid: int
    stack: contextlib.AsyncExitStack
    contestants: list[Contestant] = field(default_factory=list)

    @property
    def postmaster(self) -> int:
        """The pid of PostgreSQL."""
        assert self.postgres.pid
        return self.postgres.pid

    async def database(self, peer: Peer) -> str:
        """Make *peer*'s own database; return its DSN, '' where it stores nothing."""
        if not peer.stores:
            return ""
        admin = await asyncpg.connect(self.postgres.dsn())
        await admin.execute(f"create database bench_{peer.name}")
        await admin.close()
        dsn = self.postgres.dsn(f"bench_{peer.name}")
        await (migrate(dsn) if peer.tells else make_tables(dsn))
        return dsn

    async def connect(self, dsn: str) -> asyncpg.Connection:
        """Return a connection that is closed with the bed."""
        connection = await asyncpg.connect(dsn)
        self.stack.push_async_callback(connection.close)
        return connection

    async def start(self, peer: Peer, dsn: str | None = None) -> Contestant:
        """Run *peer* on its database until the bed is cleared away."""
        port, log = free_port(), self.place / f"{peer.name}.log"
        dsn = await self.database(peer) if dsn is None else dsn
        connection = await self.connect(dsn) if dsn else None
        env = peer.settings(port, dsn, SECRET)
        running = server(SERVER_CORE, port, peer.arguments(port), log, **env)
        pid = await self.stack.enter_async_context(running)
        url = f"http://{HOST}:{port}/webhook"
        made = Contestant(peer, url, pid, dsn, connection)
        self.contestants.append(made)
        return made

    def router(
        self, name: str = ROUTER, *, told: bool = True, menu: bool = True
    ) -> Peer:
        """Return the router; *told*: the sink hears of each message."""
        env = settings(self.sink if told else None)
        if not menu:
            silent = self.place / "silent.toml"
            silent.write_text('[[lines]]\nname = "wsp4"\nmenu = ""\n')
            env["PSI_CONFIG"] = str(silent)
        what = "the router" if told else "the router, telling nobody"
        return Peer(name, what, python("router", "serve"), env=env, tells=True)

    async def turn(
        self,
        contestant: Contestant,
        requests: Sequence[Request],
        seconds: float,
        connections: int,
    ) -> Turn:
        """Load one server in a closed loop; wait until all is stored and told."""
        before, began = self._used(contestant), time.perf_counter()
        run = await full_load(contestant, requests, seconds, connections)
        wamids = contestant.note(run, requests)
        await contestant.settled(wamids)
        took = time.perf_counter() - began
        used = [b - a for a, b in zip(before, self._used(contestant), strict=True)]
        return turn(contestant.peer, run, len(wamids), took, used)

    def _used(self, contestant: Contestant) -> tuple[float, float, float, float, float]:
        # CPU seconds so far: server, PostgreSQL, all of ours, the machine's, stolen ones.
        postgres = postgres_cpu_s(self.postmaster)
        pids = [os.getpid(), self.sink_pid, *(c.pid for c in self.contestants)]
        ours = postgres + sum(cpu_s(pid) for pid in pids)
        return cpu_s(contestant.pid), postgres, ours, *busy_s()


@contextlib.asynccontextmanager
async def bed() -> AsyncIterator[Bed]:
    """Run PostgreSQL and a sink; stop all, and leave nothing behind, at the end."""
    stop_when_told()
    pin(0, OTHER_CORE)
    async with contextlib.AsyncExitStack() as stack:
        directory = tempfile.TemporaryDirectory(prefix="psi-bench-")
        place, port = Path(stack.enter_context(directory)), free_port()
        postgres = await stack.enter_async_context(EmbeddedPostgres(place / "pg"))
        await _run_in(postgres.dsn())
        command = python("bench.servers", SINK, str(port))
        sink = server(OTHER_CORE, port, command, place / "sink.log")
        pid = await stack.enter_async_context(sink)
        yield Bed(place, postgres, port, pid, stack)


async def _run_in(dsn: str) -> None:
    # A server that has run for a while uses the files of its WAL again. A new one makes each,
    # in some 70 ms in which nobody's commit ends: every 8,000 messages of the router's.
    connection = await asyncpg.connect(dsn)
    for _ in range(SEGMENTS):
        await connection.execute("select pg_logical_emit_message(false, 'bench', '')")
        await connection.execute("select pg_switch_wal()")
    await connection.execute("checkpoint")
    await connection.close()


def bare() -> Peer:
    """Return the server that does nothing."""
    return next(peer for peer in PEERS if peer.name == BARE)


def settings(sink: int | None) -> dict[str, str]:
    """Return the router's environment, without what every peer is told."""
    told = f"http://{HOST}:{sink}/crm"
    return ({"N8N_WEBHOOK_INGESTA_ROUTER_WSP4": told} if sink else {}) | {
        "WHATSAPP_VERIFY_TOKEN": "bench",
        "PSI_SIGNING_SECRET": SIGNING,
    }


def stop_when_told() -> None:
    """Let SIGTERM end the running task as SIGINT does, so that nothing is left behind."""
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
