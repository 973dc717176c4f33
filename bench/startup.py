"""How long from the start to ready? On a migrated database, several starts.

From the fork of `psi-router serve` to the first 200 of `GET /ready`, asked every 5 ms; then
how long SIGTERM takes. The first start finds the files in no cache of this session, the
median is of all of them.

    python -m bench.startup --output DIR [--starts 7]

Writes startup.json, startup.md and startup.svg. Exit 1 if it does not get ready.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from http import HTTPStatus

import uvloop

from bench.bed import Bed, bed
from bench.contestant import SECRET
from bench.load import Connection
from bench.machine import (
    HOST,
    SERVER_CORE,
    START_S,
    STOP_S,
    cpu_s,
    free_port,
    rss_mb,
    spawn,
    tail,
)
from bench.report import Report, axes, parser, table

ASK_S = 0.005
READY = f"GET /ready HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Start:
    """One start."""

    ready_s: float  # since the fork
    cpu_s: float  # until then
    rss_mb: float  # then
    stop_s: float


async def measure(options: argparse.Namespace) -> Report:
    """Start and stop the router, one time after the other."""
    async with bed() as here:
        dsn = await here.database(here.router())
        starts = []
        for number in range(1, options.starts + 1):
            starts.append(await _start(here, dsn))
            print(f"start {number}: ready in {starts[-1].ready_s:.3f} s", flush=True)
    return report(starts)


async def _start(here: Bed, dsn: str) -> Start:
    port, peer, log = free_port(), here.router(), here.place / "router.log"
    env = peer.settings(port, dsn, SECRET)
    began = time.perf_counter()
    process = spawn(SERVER_CORE, peer.arguments(port), log, **env)
    try:
        if not await _gets_ready(port, process):
            sys.exit(f"the router does not get ready:\n{tail(log)}")
        ready = time.perf_counter() - began
        used, memory = cpu_s(process.pid), rss_mb(process.pid)
    finally:
        stop = time.perf_counter()
        process.terminate()
        await asyncio.to_thread(_wait, process)
    return Start(ready, used, memory, time.perf_counter() - stop)


def _wait(process: subprocess.Popen[bytes]) -> None:
    process.wait(STOP_S)


async def _gets_ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while process.poll() is None:
                if await _ready(port):
                    return True
                await asyncio.sleep(ASK_S)
    return False


async def _ready(port: int) -> bool:
    try:
        connection = await Connection.open(HOST, port)
        answer = await connection.send(READY)
    except OSError:
        return False
    connection.close()
    return answer.status == HTTPStatus.OK


def report(starts: list[Start]) -> Report:
    """Return what was found, in words, data and a picture."""
    names = ("ready_s", "cpu_s", "rss_mb", "stop_s")
    words = ("ready after, s", "CPU until then, s", "memory then, MB", "stop, s")
    columns = [[getattr(start, name) for start in starts] for name in names]
    rows = [
        (word, *(f"{pick(column):.3f}" for pick in (statistics.median, min, max)))
        for word, column in zip(words, columns, strict=True)
    ]
    picture, plot = axes("From the start to ready", "start", "s")
    plot.bar(range(1, len(starts) + 1), columns[0])
    plot.axhline(statistics.median(columns[0]), color="0.3", linestyle=":")
    return Report(
        "startup",
        table((f"{len(starts)} starts", "median", "fastest", "slowest"), rows),
        {
            "median_s": statistics.median(columns[0]),
            "starts": [asdict(start) for start in starts],
        },
        picture,
    )


def main() -> int:
    """Read the options and measure."""
    made = parser("How long from the start to ready")
    made.add_argument("--starts", type=int, default=7, help="default %(default)s")
    return uvloop.run(measure(options := made.parse_args())).write(options)


if __name__ == "__main__":
    sys.exit(main())
