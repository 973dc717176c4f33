"""The router and everything that anybody would build instead, in one interleaved run.

Every server runs on core 0; PostgreSQL, the sink and the load on core 1. Each has a database
of its own on the same PostgreSQL. First everybody writes to each of them, so that contacts
exist; then a warm-up that does not count; then the rounds, A B C ... A B C ..., each with the
same bodies for all, as fast as they are answered for so many seconds. What a server stores or
tells later is waited for, and counted. At the end every message that was answered 200 is
looked for in the table.

    python -m bench.compare --output DIR [--rounds 5] [--seconds 2] [--peers bare,cte,go]

Writes compare.json, compare.md and compare.svg. Exit 1 if a 200 is missing.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from bench.comparison import ROUTER, Figures, data, draw, notes, table
from bench.contest import Contest, Contestant
from bench.machine import (
    HOST,
    OTHER_CORE,
    SERVER_CORE,
    description,
    free_port,
    pin,
    python,
    server,
)
from bench.peers import PEERS, Peer, make_tables
from bench.throughput import SECRET, SINK, settings
from router.cli.traffic import Traffic
from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate

PACKAGES = ("aiohttp", "asyncpg", "fastapi", "uvicorn", "httptools", "uvloop", "orjson")


@contextlib.asynccontextmanager
async def database(
    postgres: EmbeddedPostgres, peer: Peer
) -> AsyncIterator[tuple[str, asyncpg.Connection | None]]:
    """Make *peer*'s own database; lend its DSN and a connection to it."""
    if not peer.stores:
        yield "", None
        return
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"create database bench_{peer.name}")
    await admin.close()
    dsn = postgres.dsn(f"bench_{peer.name}")
    await (migrate(dsn) if peer.name == ROUTER else make_tables(dsn))
    connection = await asyncpg.connect(dsn)
    try:
        yield dsn, connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def contestants(
    peers: Sequence[Peer], postgres: EmbeddedPostgres, place: Path
) -> AsyncIterator[list[Contestant]]:
    """Run all of *peers*, each on its own database, and lend them."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for peer in peers:
            port, log = free_port(), place / f"{peer.name}.log"
            dsn, connection = await stack.enter_async_context(database(postgres, peer))
            running = server(
                SERVER_CORE,
                port,
                peer.arguments(port),
                log,
                **peer.settings(port, dsn, SECRET),
            )
            pid = await stack.enter_async_context(running)
            url = f"http://{HOST}:{port}/webhook"
            found.append(Contestant(Figures(peer), url, pid, connection))
        yield found


def router(sink: int, *, tell: bool) -> Peer:
    """Return the router; it tells a sink at that port of each message."""
    env = settings({ROUTER: 0, SINK: sink}, "", tell=tell)
    what = "the router" if tell else "the router, telling nobody"
    return Peer(ROUTER, what, python("router", "serve"), env=env)


def stop_when_told() -> None:
    """Let SIGTERM end the running task as SIGINT does, so that nothing is left behind."""
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def measure(options: argparse.Namespace, peers: Sequence[Peer]) -> list[Figures]:
    """Start everything and measure."""
    stop_when_told()
    pin(0, OTHER_CORE)
    bodies = Traffic(
        seed=options.seed, start=int(time.time()), contacts=options.contacts
    ).bodies()
    with tempfile.TemporaryDirectory(prefix="psi-bench-") as directory:
        place, port = Path(directory), free_port()
        sink = server(
            OTHER_CORE,
            port,
            python("bench.servers", SINK, str(port)),
            place / "sink.log",
        )
        async with EmbeddedPostgres(place / "pg") as postgres, sink as sink_pid:
            assert postgres.pid
            all_peers = [*peers, router(port, tell=not options.untold)]
            async with contestants(all_peers, postgres, place) as running:
                contest = Contest(options, running, postgres.pid, sink_pid, bodies)
                await contest.run()
    return [contestant.figures for contestant in running]


def chosen(names: Sequence[str]) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that can run, and why the others cannot."""
    peers = [peer for peer in PEERS if peer.name in names]
    left_out = {peer.name: peer.missing() for peer in peers if peer.missing()}
    return [peer for peer in peers if peer.name not in left_out], left_out


def write(
    options: argparse.Namespace, figures: Sequence[Figures], left_out: dict[str, str]
) -> None:
    """Print the table; write it, the data and the picture to the output directory."""
    text = "\n".join([table(figures), "", *notes(figures, left_out)])
    print(f"\n{text}")
    result: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": description(*PACKAGES),
        "options": {k: v for k, v in vars(options).items() if k != "output"},
        "left_out": left_out,
        "contestants": data(figures),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "compare.md").write_text(text + "\n")
    (options.output / "compare.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(figures, options.output / "compare.svg")


def arguments() -> argparse.Namespace:
    """Read the options."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        description="The router and its alternatives, interleaved; see bench/README.md.",
        epilog="; ".join(f"{peer.name}: {peer.what}" for peer in PEERS),
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="a directory for the results")
    add("--rounds", type=int, default=5, help="default %(default)s")
    add("--seconds", type=float, default=2.0, help="of a turn (default %(default)s)")
    add("--most", type=int, default=30_000, help="messages of a turn (%(default)s)")
    add("--connections", type=int, default=50, help="default %(default)s")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    add("--peers", type=lambda text: text.split(","), default=names, help="all of them")
    add("--untold", action="store_true", help="the router tells nobody")
    add("--seed", type=int, default=secrets.randbelow(2**31), help="default: a new one")
    options = parser.parse_args()
    if unknown := set(options.peers) - set(names):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Measure, and say what was left out."""
    options = arguments()
    peers, left_out = chosen(options.peers)
    print(f"seed {options.seed}", flush=True)
    for name, what in left_out.items():
        print(f"left out: {name}, needs {what}", flush=True)
    figures = uvloop.run(measure(options, peers))
    write(options, figures, left_out)
    return 1 if any(f.missing for f in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
