"""A long run under load, beside a destination that flaps: nothing grows, nothing is lost.

    python -m tests.faults.soak [--seconds 1200] [--rate 300]

`make soak` runs it for 20 minutes, `make soak SOAK_S=90` for less. One destination is up and
down by turns (refuses, or hangs), the other is well. Memory, descriptors and tasks of the
router are looked at every few seconds, and so is what the outbox's hot indexes weigh. Exit 1
if something grew, if the well one had to wait for the sick one, or a promise broke.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from aiohttp import web

from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate
from tests.faults.harness import (
    Load,
    Service,
    Sink,
    check,
    connected,
    free_port,
    quiet,
    say,
    service,
)

SECONDS, RATE, SEED = 1200.0, 300.0, 20261124
EVERY_S = 2.0  # between two looks
UP_S, DOWN_S = 20.0, 5.0
WARM = 0.25  # of the run, in which caches fill and connections are opened
QUIET_S = 120.0  # for what is left to be told at the end
# What it falls back to may be so much more in the last third than in the one before it.
MORE_MB, MORE_SHARE, MORE_FILES, MORE_TASKS = 8.0, 0.05, 16, 16
# The well destination catches up again and again, also where others use the machine: telling
# yields to senders that wait.
CAUGHT_UP_S = 3.0
HOT_MB = 24.0  # of the indexes of what must still be told
ADMIN = "soak-token"

CONFIG = """
[[destinations]]
name = "well"
url = "{}"
events = ["message.received"]
"""
HOT = """
select (pg_relation_size('router.outbox_due') + pg_relation_size('router.outbox_lane'))
       / 1048576.0 as mb,
  (select count(*) from router.outbox where state = 'pending' and destination = 'well')
    as well,
  (select count(*) from router.outbox where state = 'pending' and destination <> 'well')
    as sick,
  (select coalesce(extract(epoch from now() - min(created_at)), 0)::float8
   from router.outbox where state = 'pending' and destination = 'well') as oldest_s"""


@dataclass(frozen=True, slots=True)
class Look:
    """How the router and its outbox stood at a moment."""

    memory_mb: float
    files: int
    tasks: int
    hot_mb: float
    well: int  # pending rows of the destination that is well
    sick: int  # and of the one that flaps
    oldest_s: float  # of those of the well one


class Flapping(Sink):
    """A CRM that is up, refuses, is up again, hangs, by turns."""

    downs = 0

    async def take(self, request: web.Request) -> web.Response:
        """Refuse and hang while it is down."""
        turn, into_s = divmod(asyncio.get_running_loop().time(), UP_S + DOWN_S)
        if into_s < UP_S:
            return await super().take(request)
        self.downs += 1
        if turn % 2:
            await asyncio.Event().wait()  # until the router hangs up
        return web.Response(status=503)


class Well(Sink):
    """A destination that takes everything, in the envelope of the TOML file's."""

    async def take(self, request: web.Request) -> web.Response:
        """Note whose message it was."""
        message = orjson.loads(await request.read())["data"]["message_id"]
        self.told[message].add(request.headers["webhook-id"])
        return web.Response()


async def soak(directory: Path, dsn: str, seconds: float, rate: float) -> list[str]:
    """Run for so many *seconds*; return what went wrong."""
    say(f"seed {SEED}, {seconds:.0f} s at {rate:.0f} messages/s")
    sick, well = Flapping(SEED), Well(SEED)
    async with sick.running(), well.running():
        config = directory / "soak.toml"
        config.write_text(CONFIG.format(well.url))
        more = {"PSI_ADMIN_TOKEN": ADMIN, "PSI_CONFIG": str(config)}
        async with service(directory, dsn, sick, **more) as router:
            load = Load(router.url, SEED, rate=rate, statuses=0.0)
            looks: list[Look] = []
            async with load.running():
                await load.acks()
                await _look_for(seconds, router, dsn, looks)
            await load.settle()
            await quiet(dsn, within_s=QUIET_S)
            broken = await check(dsn, load.ledger, sick)
            broken |= {
                "never told to the well one": sorted(
                    load.ledger.acked - well.told.keys()
                ),
                "two ids for the well one": [
                    key for key, ids in well.told.items() if len(ids) != 1
                ],
                "dead letters": await _dead_letters(dsn),
            }
    say(_report(looks, load, sick))
    problems = [f"{name}: {who[:5]} …" for name, who in broken.items() if who]
    if load.ledger.sent != load.ledger.acked:
        problems.append("not all was answered 200")
    if len(load.ledger.acked) < 0.9 * rate * seconds:
        problems.append(f"only {len(load.ledger.acked)} messages in {seconds:.0f} s")
    if not sick.downs:
        problems.append("the destination was never down")
    return problems + grown(looks)


async def _look_for(
    seconds: float, router: Service, dsn: str, looks: list[Look]
) -> None:
    until = asyncio.get_running_loop().time() + seconds
    async with connected(dsn) as connection:
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(EVERY_S)
            row = await connection.fetchrow(HOT)
            looks.append(
                Look(
                    router.memory_mb("VmRSS"),
                    len(list(Path(f"/proc/{router.running.pid}/fd").iterdir())),
                    await _tasks(router),
                    float(row["mb"]),
                    row["well"],
                    row["sick"],
                    row["oldest_s"],
                )
            )


async def _tasks(router: Service) -> int:
    answer = await router.get("/metrics", Authorization=f"Bearer {ADMIN}")
    found = re.search(rb"^psi_tasks (\d+)", answer.body, re.MULTILINE)
    assert found, answer.status
    return int(found[1])


async def _dead_letters(dsn: str) -> list[Any]:
    async with connected(dsn) as connection:
        rows = await connection.fetch("select id, reason from router.dead_letters")
    return [tuple(row) for row in rows]


def grown(looks: Sequence[Look]) -> list[str]:
    """Return what is more in the last third of the warm run than in the middle one."""
    warm = looks[int(len(looks) * WARM) :]
    third = len(warm) // 3
    if not third:
        return ["too short to say anything"]
    middle, last = warm[third : 2 * third], warm[-third:]
    problems = []
    for name, more in (
        ("memory_mb", MORE_MB + MORE_SHARE * _least(middle, "memory_mb")),
        ("files", MORE_FILES),
        ("tasks", MORE_TASKS),
    ):
        before, after = _least(middle, name), _least(last, name)
        if after > before + more:
            problems.append(f"{name} grew from {before:.0f} to {after:.0f}")
    if (hot := max(look.hot_mb for look in looks)) > HOT_MB:
        problems.append(f"the hot indexes weigh {hot:.1f} MB")
    if (waits := _least(last, "oldest_s")) > CAUGHT_UP_S:
        problems.append(f"the well destination always waits, {waits:.1f} s at least")
    return problems


def _least(looks: Sequence[Look], name: str) -> float:
    return float(min(getattr(look, name) for look in looks))


def _median(looks: Sequence[Look], name: str) -> float:
    return float(median(getattr(look, name) for look in looks))


def _report(looks: Sequence[Look], load: Load, sick: Flapping) -> str:
    ledger, late = load.ledger, sorted(load.ledger.latencies_s)
    half, most = late[len(late) // 2] * 1000, late[int(len(late) * 0.99)] * 1000
    answered = f"200 after {half:.1f} ms (median), {most:.1f} ms (p99)"
    met = f"{sick.downs} notifications met it down"
    lines = [f"{len(ledger.acked)} messages, {dict(ledger.answers)}; {answered}; {met}"]
    fifth = max(len(looks) // 5, 1)
    for start in range(0, len(looks), fifth):
        part = looks[start : start + fifth]
        lines.append(
            f"  {start * EVERY_S:5.0f} s: {_median(part, 'memory_mb'):.0f} MB,"
            f" {_median(part, 'files'):.0f} files, {_median(part, 'tasks'):.0f} tasks,"
            f" hot {max(look.hot_mb for look in part):.1f} MB,"
            f" the well one waits {_median(part, 'oldest_s'):.1f} s,"
            f" pending at most {max(look.well for look in part)} well,"
            f" {max(look.sick for look in part)} sick"
        )
    return "\n".join(lines)


@asynccontextmanager
async def _own_database(directory: Path) -> AsyncIterator[str]:
    async with EmbeddedPostgres(directory, port=free_port()) as server:
        await migrate(server.dsn())
        yield server.dsn()


async def _main(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with _own_database(directory / "postgres") as dsn:
            problems = await soak(directory, dsn, options.seconds, options.rate)
    for problem in problems:
        say(f"FAILED: {problem}")
    return 1 if problems else 0


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rate", type=float, default=RATE)
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
