"""One process against several at one port, on one database, in turns: what another one adds.

Nothing is pinned: the routers, PostgreSQL, the sink and the load share all cores, as on a
machine of one's own. Each number of processes has a database of its own on the one
PostgreSQL, so that nobody tells what another one stored. Where the cores are used up, a
further process adds nothing; `cores` says how many were busy, and the CPU of a message what
it would take. At the end every message that was answered 200 has to be in its table.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from bench.load import Client, closed_loop, post
from bench.machine import (
    HOST,
    busy_s,
    cpu_s,
    description,
    free_port,
    postgres_cpu_s,
    python,
    server,
    spawn,
    tail,
)
from bench.throughput import (
    DRAIN_S,
    HANDED_OVER,
    PENDING,
    ROUTER,
    SECRET,
    SINK,
    STORED,
    settings,
)
from router.cli.traffic import Body, Traffic
from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate

READY_S = 30.0
WRITTEN = "select pg_current_wal_lsn() - '0/0'::pg_lsn"
SIZE = "select pg_database_size(current_database())"
ANY_CORE = 10**6  # which no machine has, so that nothing is pinned
LINE = b'"event":"message_processed"'


@dataclass(slots=True)
class Turn:
    """One closed loop. CPU in seconds per 10,000 messages, until all are told."""

    rate: float
    p50_ms: float
    p99_ms: float
    routers_cpu_s: float
    postgres_cpu_s: float
    cores: float  # busy with anything, while the loop ran
    wal_bytes: float  # a message
    disk_bytes: float  # a message: tables and indexes, as they grow


@dataclass(slots=True)
class Side:
    """So many processes, their database, and what was measured of them."""

    processes: int
    url: str
    connection: Any
    postmaster: int
    logs: list[Path]
    pids: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    acked: list[str] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Return the median turn's figure."""
        return float(statistics.median(getattr(turn, name) for turn in self.turns))

    def shares(self) -> list[float]:
        """Return which part of the messages each process stored."""
        counts = [log.read_bytes().count(LINE) for log in self.logs]
        return [count / max(sum(counts), 1) for count in counts]

    async def introduce(self, contacts: int, seed: int) -> None:
        """Let everybody have written before, to conversations that people own."""
        for again in range(2):
            crowd = Traffic(
                seed=seed + again, start=int(time.time()), contacts=contacts, batch=50
            )
            client = Client(self.url, 4)
            for body in crowd.bodies(5 * contacts):
                await client.send(post(self.url, body.data, SECRET))
                self.acked += body.messages
            client.close()
            await self.told()
            await self.connection.execute(HANDED_OVER)
        await self.connection.execute("vacuum analyze")

    async def turn(self, bodies: Sequence[Body], connections: int) -> Turn:
        """Post *bodies* as fast as they are answered."""
        requests = [post(self.url, body.data, SECRET) for body in bodies]
        written, size = await self._bytes()
        before, (busy, _) = self._cpu(), busy_s()
        run = await closed_loop(self.url, requests, connections)
        cores = (busy_s()[0] - busy) / run.took_s
        await self.told()
        for place in run.acked:
            self.acked += bodies[place].messages
        if run.refused:
            sys.exit(f"{run.refused} of {len(bodies)} were refused")
        after, share = self._cpu(), 10_000 / len(bodies)
        written_after, size_after = await self._bytes()
        return Turn(
            rate=run.rate,
            p50_ms=run.percentile_ms(0.5),
            p99_ms=run.percentile_ms(0.99),
            routers_cpu_s=(after[0] - before[0]) * share,
            postgres_cpu_s=(after[1] - before[1]) * share,
            cores=cores,
            wal_bytes=(written_after - written) / len(bodies),
            disk_bytes=(size_after - size) / len(bodies),
        )

    async def told(self) -> None:
        """Wait until nothing is left to be told."""
        until = time.monotonic() + DRAIN_S
        while await self.connection.fetchval(PENDING):
            if time.monotonic() > until:
                sys.exit(f"the outbox was not empty after {DRAIN_S:.0f} s")
            await asyncio.sleep(0.05)

    async def missing(self) -> int:
        """Return how many messages were answered 200 and are not in the table."""
        found: int = await self.connection.fetchval(STORED, self.acked)
        return len(set(self.acked)) - found

    async def _bytes(self) -> tuple[int, int]:
        ask = self.connection.fetchval
        return int(await ask(WRITTEN)), int(await ask(SIZE))

    def _cpu(self) -> tuple[float, float]:
        return sum(map(cpu_s, self.pids)), postgres_cpu_s(self.postmaster)


@contextlib.asynccontextmanager
async def side(
    processes: int,
    place: Path,
    postgres: EmbeddedPostgres,
    *,
    sink: int | None = None,
    core: int = ANY_CORE,
) -> AsyncIterator[Side]:
    """Run *processes* routers at one port, on a new database; *sink* is told, if given."""
    assert postgres.pid
    name, port = f"by_{processes}", free_port()
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"create database {name}")
    await admin.close()
    dsn = postgres.dsn(name)
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    logs = [place / f"{name}_{number}.log" for number in range(processes)]
    made = Side(
        processes, f"http://{HOST}:{port}/webhook", connection, postgres.pid, logs
    )
    ports = {ROUTER: port, SINK: sink or 0}
    env = settings(ports, dsn, tell=sink is not None)
    env |= {"PSI_REUSE_PORT": "1", "PSI_ADMIN_TOKEN": "bench"}
    started = []
    try:
        for log in logs:
            process = spawn(core, python("router", "serve"), log, **env)
            started.append(process)
            await _listens(log)
            made.pids.append(process.pid)
        yield made
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
        await connection.close()


async def _listens(log: Path) -> None:
    # The port is open already where another one has it: only its own log tells.
    until = time.monotonic() + READY_S
    while not tail(log).count('"event":"listening"'):
        if time.monotonic() > until:
            sys.exit(f"a router does not listen:\n{tail(log)}")
        await asyncio.sleep(0.02)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start everything, give each number of processes its turns, and look for all."""
    with tempfile.TemporaryDirectory(prefix="psi-scaling-") as directory:
        place = Path(directory)
        async with contextlib.AsyncExitStack() as stack:
            postgres = await stack.enter_async_context(EmbeddedPostgres(place / "pg"))
            sink = None if options.untold else free_port()
            if sink:
                command = python("bench.servers", SINK, str(sink))
                run = server(ANY_CORE, sink, command, place / "sink.log")
                await stack.enter_async_context(run)
            sides = [
                await stack.enter_async_context(side(n, place, postgres, sink=sink))
                for n in options.processes
            ]
            await _turns(options, sides)
            missing = [await each.missing() for each in sides]
            return report(options, sides, missing)


async def _turns(options: argparse.Namespace, sides: Sequence[Side]) -> None:
    for each in sides:
        await each.introduce(options.contacts, options.seed + 1)
        bodies = traffic(options)
        await each.turn([next(bodies) for _ in range(options.count // 5)], 8)
    bodies = traffic(options, options.seed + 7)
    for number in range(1, options.rounds + 1):
        drawn = [next(bodies) for _ in range(options.count)]
        for each in sides:
            each.turns.append(await each.turn(drawn, options.connections))
        rates = ", ".join(f"{e.processes}: {e.turns[-1].rate:.0f}/s" for e in sides)
        print(f"round {number}: {rates}", flush=True)


def traffic(options: argparse.Namespace, seed: int | None = None) -> Iterator[Body]:
    """Return bodies of one message each, of the people who have written before."""
    return Traffic(
        seed=options.seed if seed is None else seed,
        start=int(time.time()),
        contacts=options.contacts,
    ).bodies()


def report(
    options: argparse.Namespace, sides: Sequence[Side], missing: Sequence[int]
) -> dict[str, Any]:
    """Print the table; return the same as data."""
    first = sides[0]
    print(
        f"\n{'processes':>9}{'msg/s':>8}{'ratio':>7}{'p50 ms':>8}{'p99 ms':>8}"
        f"{'CPU':>7}{'PG CPU':>8}{'cores':>7}{'WAL kB':>8}{'disk kB':>9}  shares"
    )
    rows = []
    for each in sides:
        ratio = statistics.median(
            turn.rate / base.rate
            for turn, base in zip(each.turns, first.turns, strict=True)
        )
        names = [field.name for field in fields(Turn)]
        row = {name: each.median(name) for name in names}
        shares = [round(share, 2) for share in each.shares()]
        rows.append(
            row | {"processes": each.processes, "ratio": ratio, "shares": shares}
        )
        print(
            f"{each.processes:9}{row['rate']:8.0f}{ratio:7.2f}{row['p50_ms']:8.1f}"
            f"{row['p99_ms']:8.1f}{row['routers_cpu_s']:7.2f}"
            f"{row['postgres_cpu_s']:8.2f}{row['cores']:7.2f}"
            f"{row['wal_bytes'] / 1e3:8.2f}{row['disk_bytes'] / 1e3:9.2f}  {shares}"
        )
    print("ratio: median of the rounds; CPU: seconds per 10,000 messages; kB: of one")
    acked = sum(len(set(each.acked)) for each in sides)
    print(f"{acked} answered 200, {sum(missing)} not in the table")
    wanted = {k: v for k, v in vars(options).items() if k != "json"}
    return {
        "sides": rows,
        "missing": sum(missing),
        "options": wanted,
        "machine": description("aiohttp", "asyncpg", "uvloop"),
    }


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--processes", type=int, nargs="+", default=[1, 2], help="default 1 2")
    add("--rounds", type=int, default=3, help="default %(default)s")
    add("--count", type=int, default=5000, help="messages a turn (%(default)s)")
    add("--connections", type=int, default=50, help="default %(default)s")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    add("--untold", action="store_true", help="no destination: what telling costs")
    add("--seed", type=int, default=secrets.randbelow(2**31), help="default: a new one")
    add("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    data = uvloop.run(measure(options))
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 1 if data["missing"] else 0


if __name__ == "__main__":
    sys.exit(main())
