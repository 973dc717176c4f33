"""How fast is durable? Bare aiohttp and the router, in one interleaved run.

Both servers run on core 0, PostgreSQL, the sink and the load on core 1. Each round asks
bare, then the router, with everything switched on: signature, JSON, one transaction a batch,
a log line a message, and a notification to a sink. After each round the outbox has to be
empty before the next one begins. Then both are asked at a fixed rate. At the end every
message that was answered 200 is looked for in the table.

    python -m bench.throughput [--rounds 5] [--count 10000] [--rate 500] [--json FILE]

Exit 1 if a 200 is missing.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from bench.load import Client, Run, closed_loop, open_loop, post
from bench.machine import (
    HOST,
    OTHER_CORE,
    SERVER_CORE,
    cpu_s,
    free_port,
    pin,
    postgres_cpu_s,
    python,
    server,
)
from router.cli.traffic import Body, Traffic
from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate

BARE, ROUTER, SINK = "bare", "router", "sink"
SECRET = b"app-secret-of-the-bench"
DRAIN_S = 300.0
PENDING = "select count(*) from router.outbox where state = 'pending'"
HANDED_OVER = "update conversaciones set router_estado = 'derivada', area = 'Alumnos'"
SILENT = '[[lines]]\nname = "wsp4"\nmenu = ""\n'
STORED = """
select count(distinct whatsapp_message_id) from mensajes
where whatsapp_message_id = any($1::text[])"""


@dataclass(slots=True)
class Result:
    """What was measured of one server."""

    name: str
    rates: list[float] = field(default_factory=list)  # messages answered 200 per second
    p50_ms: list[float] = field(default_factory=list)  # of each closed-loop round
    p99_ms: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(
        default_factory=list
    )  # of the server, per 10,000 messages
    postgres_cpu_s: list[float] = field(default_factory=list)
    told_s: list[float] = field(
        default_factory=list
    )  # from the last 200 to an empty outbox
    open_p50_ms: float = 0.0
    open_p99_ms: float = 0.0
    open_max_ms: float = 0.0
    refused: int = 0

    @property
    def rate(self) -> float:
        """The median round."""
        return statistics.median(self.rates)


@dataclass(slots=True)
class Bench:
    """One session: two servers, one load, one ledger."""

    options: argparse.Namespace
    urls: dict[str, str]
    pids: dict[str, int]
    postmaster: int
    connection: Any
    bodies: Iterator[Body]
    acked: list[str] = field(default_factory=list)  # by the router
    bare: Result = field(default_factory=lambda: Result(BARE))
    router: Result = field(default_factory=lambda: Result(ROUTER))

    async def run(self) -> None:
        """Let everybody be known, warm up, measure the rounds, then the fixed rate."""
        await self._introduce()
        for result in self.both:
            await self._closed_loop(result, self.options.count // 5)
        for number in range(1, self.options.rounds + 1):
            for result in self.both:
                await self._round(result)
            self._say(number)
        for result in self.both:
            await self._fixed_rate(result)

    @property
    def both(self) -> tuple[Result, Result]:
        """What is compared, in the order of a round."""
        return self.bare, self.router

    async def _introduce(self) -> None:
        # A steady state: nearly everybody has written before, and lately.
        await self._crowd(self.options.seed + 1)
        if self.options.owner == "human":
            await self.connection.execute(HANDED_OVER)
            await self._crowd(self.options.seed + 2)
        await self.connection.execute("vacuum analyze")

    async def _crowd(self, seed: int) -> None:
        client = Client(self.urls[ROUTER], 4)
        crowd = Traffic(
            seed=seed,
            start=int(time.time()),
            contacts=self.options.contacts,
            batch=50,
        )
        for body in crowd.bodies(5 * self.options.contacts):
            await client.send(post(self.urls[ROUTER], body.data, SECRET))
            self.acked += body.messages
        client.close()
        await self._told()

    async def _closed_loop(self, result: Result, count: int) -> tuple[Run, float]:
        requests = self._requests(result, count)
        run = await closed_loop(
            self.urls[result.name],
            [request for request, _ in requests],
            self.options.connections,
        )
        return run, await self._ledger(result, run, requests)

    async def _round(self, result: Result) -> None:
        count = self.options.count
        before, pg_before = self._cpu(result)
        run, drained = await self._closed_loop(result, count)
        after, pg_after = self._cpu(result)
        result.rates.append(run.rate)
        result.p50_ms.append(run.percentile_ms(0.5))
        result.p99_ms.append(run.percentile_ms(0.99))
        result.cpu_s.append((after - before) / count * 10_000)
        result.postgres_cpu_s.append((pg_after - pg_before) / count * 10_000)
        result.told_s.append(drained)

    async def _fixed_rate(self, result: Result) -> None:
        rate = self.options.rate
        requests = self._requests(result, int(rate * self.options.seconds))
        run = await open_loop(
            self.urls[result.name], [r for r, _ in requests], rate, 64
        )
        await self._ledger(result, run, requests)
        result.open_p50_ms = run.percentile_ms(0.5)
        result.open_p99_ms = run.percentile_ms(0.99)
        result.open_max_ms = run.percentile_ms(1.0)

    def _requests(self, result: Result, count: int) -> list[tuple[bytes, Body]]:
        # Made beforehand: the load's core has PostgreSQL to run meanwhile.
        url = self.urls[result.name]
        made = [next(self.bodies) for _ in range(count)]
        return [(post(url, body.data, SECRET), body) for body in made]

    async def _ledger(
        self, result: Result, run: Run, requests: Sequence[tuple[bytes, Body]]
    ) -> float:
        result.refused += run.refused
        if result is self.bare:
            return 0.0
        for place in run.acked:
            self.acked += requests[place][1].messages
        return await self._told()

    async def _told(self) -> float:
        # Until nothing is left to be told, so that it does not weigh on the next round.
        began = time.perf_counter()
        while await self.connection.fetchval(PENDING):
            if time.perf_counter() - began > DRAIN_S:
                sys.exit(f"the outbox was not empty after {DRAIN_S:.0f} s")
            await asyncio.sleep(0.1)
        return time.perf_counter() - began

    def _cpu(self, result: Result) -> tuple[float, float]:
        return cpu_s(self.pids[result.name]), postgres_cpu_s(self.postmaster)

    def _say(self, number: int) -> None:
        bare, router = self.bare.rates[-1], self.router.rates[-1]
        print(
            f"round {number}: bare {bare:.0f}/s, router {router:.0f}/s, "
            f"ratio {router / bare:.2f}, told {self.router.told_s[-1]:.1f} s later",
            flush=True,
        )

    async def missing(self) -> int:
        """Return how many messages were answered 200 and are not in the table."""
        found: int = await self.connection.fetchval(STORED, self.acked)
        return len(set(self.acked)) - found


def report(bench: Bench, missing: int) -> dict[str, Any]:
    """Print the table; return the same as data."""
    bare, router = bench.bare, bench.router
    ratios = [r / b for r, b in zip(router.rates, bare.rates, strict=True)]
    print(
        f"\n{'':14}{'msg/s':>8}{'range':>16}{'p50 ms':>8}{'p99 ms':>8}{'CPU':>7}{'PG CPU':>8}"
    )
    for result in (bare, router):
        median = statistics.median
        print(
            f"{result.name:14}{result.rate:8.0f}"
            f"{min(result.rates):9.0f}-{max(result.rates):<6.0f}"
            f"{median(result.p50_ms):8.1f}{median(result.p99_ms):8.1f}"
            f"{median(result.cpu_s):7.2f}{median(result.postgres_cpu_s):8.2f}"
        )
    rate = bench.options.rate
    print("CPU: seconds per 10,000 messages, until all of them are told")
    print(
        f"ratio {statistics.median(ratios):.2f} (rounds {', '.join(f'{r:.2f}' for r in ratios)})"
    )
    for result in (bare, router):
        print(
            f"{result.name} at {rate:.0f}/s: p50 {result.open_p50_ms:.2f} ms, "
            f"p99 {result.open_p99_ms:.2f} ms, max {result.open_max_ms:.1f} ms"
        )
    print(
        f"{len(bench.acked)} answered 200, {missing} not in the table, {router.refused} refused"
    )
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "acked": len(bench.acked),
        "missing": missing,
        "servers": [asdict(bare), asdict(router)],
        "options": {k: v for k, v in vars(bench.options).items() if k != "json"},
    }


@contextlib.asynccontextmanager
async def servers(
    options: argparse.Namespace, place: Path, dsn: str
) -> AsyncIterator[tuple[dict[str, str], dict[str, int]]]:
    """Run all three; lend the URLs and the pids of the two that are compared."""
    ports = {name: free_port() for name in (BARE, ROUTER, SINK)}
    urls = {name: f"http://{HOST}:{port}/webhook" for name, port in ports.items()}
    pids = {}
    async with contextlib.AsyncExitStack() as stack:
        for name in (SINK, BARE):
            port = ports[name]
            run = server(
                OTHER_CORE if name == SINK else SERVER_CORE,
                port,
                python("bench.servers", name, str(port)),
                place / f"{name}.log",
            )
            pids[name] = await stack.enter_async_context(run)
        run = server(
            SERVER_CORE,
            ports[ROUTER],
            python("router", "serve"),
            place / "router.log",
            **settings(ports, dsn, tell=not options.untold),
            **menu(place, on=options.menu == "on"),
        )
        pids[ROUTER] = await stack.enter_async_context(run)
        yield urls, pids


async def measure(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Start everything, measure, and look for every message."""
    pin(0, OTHER_CORE)
    with tempfile.TemporaryDirectory(prefix="psi-bench-") as directory:
        place = Path(directory)
        async with EmbeddedPostgres(place / "pg") as postgres:
            assert postgres.pid
            await migrate(postgres.dsn())
            connection = await asyncpg.connect(postgres.dsn())
            async with servers(options, place, postgres.dsn()) as (urls, pids):
                bodies = Traffic(
                    seed=options.seed, start=int(time.time()), contacts=options.contacts
                ).bodies()
                bench = Bench(options, urls, pids, postgres.pid, connection, bodies)
                await bench.run()
                missing = await bench.missing()
            await connection.close()
    return report(bench, missing), missing


def settings(ports: dict[str, int], dsn: str, *, tell: bool) -> dict[str, str]:
    """Return the router's environment."""
    told = {"N8N_WEBHOOK_INGESTA_ROUTER_WSP4": f"http://{HOST}:{ports[SINK]}/crm"}
    return (told if tell else {}) | {
        "DATABASE_URL": dsn,
        "PORT": str(ports[ROUTER]),
        "WHATSAPP_APP_SECRET": SECRET.decode(),
        "WHATSAPP_VERIFY_TOKEN": "bench",
        "PSI_SIGNING_SECRET": "whsec_" + "YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gh",
    }


def menu(place: Path, *, on: bool) -> dict[str, str]:
    """Return what switches the menu off, where it is to be off."""
    if on:
        return {}
    (place / "silent.toml").write_text(SILENT)
    return {"PSI_CONFIG": str(place / "silent.toml")}


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        description="Bare aiohttp and the router, interleaved; see bench/README.md."
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="default %(default)s")
    add("--count", type=int, default=10_000, help="messages a round (%(default)s)")
    add("--connections", type=int, default=50, help="default %(default)s")
    add("--contacts", type=int, default=2000, help="people (default %(default)s)")
    add("--rate", type=float, default=500.0, help="of the fixed-rate run (%(default)s)")
    add("--seconds", type=float, default=10.0, help="of it (default %(default)s)")
    add("--untold", action="store_true", help="no destination: what telling costs")
    add(
        "--owner",
        choices=("human", "bot"),
        default="human",
        help="of the conversations: an area, or the menu, which answers (%(default)s)",
    )
    add("--menu", choices=("on", "off"), default="on", help="default %(default)s")
    add("--seed", type=int, default=secrets.randbelow(2**31), help="default: a new one")
    add("--json", type=Path, help="a file for the figures; else they are printed")
    options = parser.parse_args()
    print(
        f"seed {options.seed}, {options.connections} connections, "
        f"{options.count} messages a round, "
        f"{'no destination' if options.untold else 'one destination'}, "
        f"owner {options.owner}, menu {options.menu}",
        flush=True,
    )
    data, missing = uvloop.run(measure(options))
    text = json.dumps(data, indent=None if options.json is None else 1)
    if options.json:
        options.json.write_text(text + "\n")
    else:
        print(text)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
