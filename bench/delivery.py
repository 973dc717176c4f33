"""What telling costs, and how late a CRM hears: beside a destination that hangs or is dead.

    attempts   CPU of the client for one attempt on a sink that costs little
    loans      one row claimed, told and settled, without the attempt: CPU of Python and of
               PostgreSQL, by the size of the claims
    backlog    a claim for a live destination, alone and beside many pending rows of a dead one
    lateness   the whole router with one healthy and one hanging destination: from a webhook's
               200 to the CRM's receipt, and how many a second the CRM gets when all wait

    python -m bench.delivery --output DIR [--parts attempts,loans,backlog,lateness]
                             [--dead 100000] [--rates 50,200] [--seconds 10]

Writes delivery.json, delivery.md and delivery.svg. Exit 1 if the dead destination makes the live one's claim twice as slow, or a 200 is not told.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench.bed import SIGNING, stop_when_told
from bench.delivered import draw, words
from bench.lateness import lateness, stored
from bench.machine import (
    HOST,
    OTHER_CORE,
    free_port,
    pin,
    postgres_cpu_s,
    python,
    server,
)
from bench.report import Report, parser, rates
from router.config import Destination
from router.destinations.client import WebhookClient
from router.model import Attempt, Notification
from router.store import pace
from router.store.database import Database
from router.store.outbox import OutboxQueue

PAYLOAD = (
    b'{"conversationId":"01a20de3-a151-7001-80f8-704d7ee93e57",'
    b'"phone":"5491100000001","message":"Hola","media":null}'
)
OK = Attempt(status=200, latency_ms=3, answer="ok")
FILL = """
insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
select $1, 'psi_' || md5(n::text), md5((n % $3::int)::text), $4,
       now() - interval '1 hour', 'pending'
from generate_series(1, $2::int) n"""
SIZES = (1, 8, 64, 256)  # rows of a claim
LANES = 500
SLOTS = 8
WARM = 400
MOST_SLOWER = 2.0


async def attempts(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the client's CPU against a sink in another process."""
    port, made = free_port(), []
    with tempfile.TemporaryDirectory(prefix="psi-bench-") as directory:
        log = Path(directory) / "sink.log"
        command = python("bench.servers", "sink", str(port))
        async with (
            server(OTHER_CORE, port, command, log),
            WebhookClient(signing_secrets=(SIGNING,), allow_private=()) as client,
        ):
            to = Destination(name="crm", url=f"http://{HOST}:{port}/crm")
            row = Notification(1, "crm", "psi_" + 32 * "0", "lane", PAYLOAD, 0)

            async def tell(count: int) -> None:
                for _ in range(count):
                    assert (await client.tell(to, row)).status == HTTPStatus.OK

            await together(tell, WARM)
            for _ in range(options.rounds):
                began = time.process_time()
                await together(tell, options.attempts)
                made.append((time.process_time() - began) / options.attempts * 1e6)
    return {"cpu_us": round(statistics.median(made), 1)}


async def together(work: Callable[[int], Awaitable[None]], count: int) -> None:
    """Share *count* among as many as a destination's attempts at once."""
    await asyncio.gather(*(work(count // SLOTS) for _ in range(SLOTS)))


async def loans(options: argparse.Namespace) -> dict[str, Any]:
    """Measure claims and settlements, without a pause between them."""
    found = {}
    async with stored() as (database, pid, _):
        for size in SIZES:
            found[str(size)] = await _loans(database, pid, size, options.rows)
    return found


async def _loans(
    database: Database, postmaster: int, size: int, most: int
) -> dict[str, Any]:
    count = min(most, 200 * size)
    await database.execute("truncate router.outbox, router.attempts")
    await database.execute(FILL, "crm", count, LANES, PAYLOAD)
    await database.execute("analyze router.outbox")
    queue = OutboxQueue(database, Destination(name="crm", url="http://crm.invalid/"))
    wall, cpu, postgres = (
        time.perf_counter(),
        time.process_time(),
        postgres_cpu_s(postmaster),
    )
    told = 0
    while told < count:
        for lease in (lent := await queue.lease(size)):
            queue.record(lease.item, OK)
            lease.ack()
        told += len(lent)
    await queue.flush()
    return {
        "rows": count,
        "python_us": round((time.process_time() - cpu) / count * 1e6, 1),
        "postgres_us": round((postgres_cpu_s(postmaster) - postgres) / count * 1e6, 1),
        "wall_us": round((time.perf_counter() - wall) / count * 1e6, 1),
    }


async def backlog(options: argparse.Namespace) -> dict[str, Any]:
    """Measure a live destination's claims before and after a dead one's rows are there."""
    async with stored() as (database, _, _):
        live = OutboxQueue(database, Destination(name="live", url="http://x.invalid/"))
        alone = await _claims(database, live, options.claims)
        began = time.perf_counter()
        for _ in range(10):
            await database.execute(FILL, "dead", options.dead // 10, 5000, PAYLOAD)
        filled_s = time.perf_counter() - began
        await database.execute("analyze router.outbox")  # autovacuum would, in a minute
        beside = await _claims(database, live, options.claims)
    return {
        "dead_rows": options.dead,
        "filled_s": round(filled_s, 1),
        "alone_ms": round(alone, 3),
        "beside_ms": round(beside, 3),
        "ratio": round(beside / alone, 2),
    }


async def _claims(database: Database, live: OutboxQueue, count: int) -> float:
    took = []
    for _ in range(count):
        await database.execute(FILL, "live", 8, 8, PAYLOAD)
        live.wake()
        began = time.perf_counter()
        leases = await live.lease(64)
        took.append((time.perf_counter() - began) * 1000)
        for lease in leases:
            live.record(lease.item, OK)
            lease.ack()
        await live.flush()
    return statistics.median(took)


PARTS: dict[str, Callable[[argparse.Namespace], Awaitable[dict[str, Any]]]] = {
    "attempts": attempts,
    "loans": loans,
    "backlog": backlog,
    "lateness": lateness,
}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the parts that were asked for; print each as it ends."""
    stop_when_told()
    pin(0, OTHER_CORE)
    pace.LEAST_S = 0.0  # of this process: it measures statements, not pauses
    found: dict[str, Any] = {}
    for name in options.parts:
        found[name] = await PARTS[name](options)
        print(f"{name}: {orjson.dumps(found[name]).decode()}", flush=True)
    return found


def broken(found: dict[str, Any]) -> list[str]:
    """Return, in words, which promises were not kept."""
    ratio = found.get("backlog", {}).get("ratio", 0.0)
    said = [
        f"lateness, {name}: {part['missing']} answered 200 were not told"
        for name, part in found.get("lateness", {}).items()
        if part["missing"]
    ]
    if ratio >= MOST_SLOWER:
        said.append(f"backlog: a dead destination makes a live claim {ratio} x as slow")
    return said


def report(found: dict[str, Any]) -> Report:
    """Return what was found, in words, data and a picture."""
    parts = {"parts": found}
    return Report("delivery", words(found), parts, draw(found), broken=broken(found))


def main() -> int:
    """Read the options and measure."""
    made = parser("What telling costs, and how late a CRM hears")
    add = made.add_argument
    add("--parts", type=lambda text: text.split(","), default=list(PARTS))
    add("--attempts", type=int, default=4000, help="a round (default %(default)s)")
    add("--rounds", type=int, default=5, help="of attempts (default %(default)s)")
    add("--rows", type=int, default=8000, help="of loans, at most (%(default)s)")
    add("--dead", type=int, default=100_000, help="pending rows (%(default)s)")
    add("--claims", type=int, default=60, help="of a median (default %(default)s)")
    add("--rates", type=rates, default=[50.0, 200.0], help="messages/s")
    add("--seconds", type=float, default=10.0, help="at each rate (%(default)s)")
    add("--burst", type=int, default=5000, help="messages at once (%(default)s)")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    options = made.parse_args()
    print(f"seed {options.seed}", flush=True)
    return report(uvloop.run(measure(options))).write(options)


if __name__ == "__main__":
    sys.exit(main())
