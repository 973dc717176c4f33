"""How much memory does it hold? At full load, afterwards, and over a soak.

Full load: a closed loop of many connections for some seconds, everything switched on, with
statuses 3:1, media, albums' worth of updates in a body and repeats. Then a rest. Then the
soak: a steady rate for longer, in which a leak would show as a slope: the straight line
through the second half of its readings.

    python -m bench.memory --output DIR [--seconds 15] [--connections 200] [--soak 60]

Writes memory.json, memory.md and memory.svg. Exit 1 if a 200 is missing.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice

import uvloop
from matplotlib.figure import Figure

from bench.bed import bed
from bench.contest import Rules, introduce
from bench.contestant import Contestant, full_load, losses, signed
from bench.load import open_loop
from bench.machine import peak_rss_mb, rss_mb
from bench.report import Report, axes, parser, table
from router.cli.traffic import Body, Traffic

READ_S = 0.5
REST_S = 3.0
CHUNK = 5000  # bodies that are made at a time: what is made lies in this process
SHORTEST_S = 1.0  # of a turn, in which some 200 is expected
SOAK_CONNECTIONS = 100


@dataclass(slots=True)
class Watch:
    """Readings of one process: seconds since the start, and resident memory in 1e6 bytes."""

    pid: int
    began: float = field(default_factory=time.perf_counter)
    readings: list[tuple[float, float]] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)  # when what began

    def read(self) -> float:
        """Take a reading."""
        now = rss_mb(self.pid)
        self.readings.append((time.perf_counter() - self.began, now))
        return now

    def mark(self, name: str) -> None:
        """Note that *name* begins."""
        self.marks[name] = time.perf_counter() - self.began
        self.read()

    async def keep_reading(self) -> None:
        """Read until cancelled."""
        while True:
            self.read()
            await asyncio.sleep(READ_S)


@contextlib.asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Watch]:
    """Read a process's memory until the block ends."""
    watch = Watch(pid)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(watch.keep_reading())
        yield watch
        reading.cancel()


@dataclass(frozen=True, slots=True)
class Memory:
    """What was found, in 1e6 bytes; messages and statuses that were answered 200."""

    idle_mb: float
    peak_mb: float
    rested_mb: float
    soaked_mb: float
    slope_mb: float  # an hour of the soak
    loaded: int
    soaked: int


def slope(readings: Sequence[tuple[float, float]]) -> float:
    """Return how much the least-squares line through *readings* rises in an hour."""
    count = len(readings)
    if count < 2:  # noqa: PLR2004 -- a line
        return 0.0
    mean_t = sum(t for t, _ in readings) / count
    mean_m = sum(m for _, m in readings) / count
    spread = sum((t - mean_t) ** 2 for t, _ in readings)
    return 3600 * sum((t - mean_t) * (m - mean_m) for t, m in readings) / spread


async def measure(options: argparse.Namespace) -> Report:
    """Load, rest, soak."""
    bodies = Traffic(
        seed=options.seed,
        start=int(time.time()),
        contacts=options.contacts,
        batch=options.batch,
        statuses=0.75,
        duplicates=0.02,
    ).bodies()
    async with bed() as here:
        router = await here.start(here.router())
        idle = rss_mb(router.pid)
        rules = Rules(options.seed, 0, 0.0, contacts=options.contacts)
        await introduce([router], rules)
        async with watched(router.pid) as watch:
            watch.mark("load")
            loaded = await _load(router, bodies, options)
            peak = peak_rss_mb(router.pid)
            watch.mark("rest")
            await asyncio.sleep(REST_S)
            rested = watch.read()
            watch.mark("soak")
            soaked = await _soak(router, bodies, options)
        half = (watch.marks["soak"] + watch.readings[-1][0]) / 2
        later = [reading for reading in watch.readings if reading[0] >= half]
        found = Memory(
            idle,
            max(peak, peak_rss_mb(router.pid)),
            rested,
            watch.readings[-1][1],
            slope(later),
            loaded,
            soaked,
        )
        broken = await losses([router])
        if router.refused:
            broken.append(f"{router.refused} bodies refused")
        return report(found, watch, broken)


async def _load(
    router: Contestant, bodies: Iterator[Body], options: argparse.Namespace
) -> int:
    already, until = len(router.acked), time.perf_counter() + options.seconds
    while (left := until - time.perf_counter()) > 0:
        requests = signed(islice(bodies, CHUNK))
        seconds = max(left, SHORTEST_S)
        router.note(
            await full_load(router, requests, seconds, options.connections), requests
        )
    await router.settled(router.acked)
    return len(router.acked) - already


async def _soak(
    router: Contestant, bodies: Iterator[Body], options: argparse.Namespace
) -> int:
    already, rate = len(router.acked), options.rate / options.batch
    left = int(options.soak * rate)
    while left > 0:
        requests = signed(islice(bodies, min(left, CHUNK)))
        left -= len(requests)
        sent = [request for request, _ in requests]
        run = await open_loop(router.url, sent, rate, SOAK_CONNECTIONS)
        router.note(run, requests)
    await router.settled(router.acked)
    return len(router.acked) - already


def report(found: Memory, watch: Watch, broken: list[str]) -> Report:
    """Return what was found, in words, data and a picture."""
    rows = [
        ("before the first message", f"{found.idle_mb:.1f}"),
        (f"peak, under full load ({found.loaded} messages)", f"{found.peak_mb:.1f}"),
        (f"{REST_S:.0f} s after it", f"{found.rested_mb:.1f}"),
        (f"at the end of the soak ({found.soaked} messages)", f"{found.soaked_mb:.1f}"),
        ("rise in an hour, by the soak's second half", f"{found.slope_mb:+.1f}"),
    ]
    note = "Resident memory of the router in 1e6 bytes; three statuses come with each message."
    return Report(
        "memory",
        f"{table(('', 'MB'), rows)}\n\n{note}",
        asdict(found) | {"readings": watch.readings, "marks": watch.marks},
        draw(watch),
        broken=broken,
    )


def draw(watch: Watch) -> Figure:
    """Return the readings over time."""
    picture, plot = axes("Resident memory of the router", "s", "1e6 bytes")
    plot.plot(*zip(*watch.readings, strict=True))
    plot.set_ylim(bottom=0)
    for name, at in watch.marks.items():
        plot.axvline(at, color="0.6", linestyle=":")
        plot.annotate(name, (at, 1), xytext=(3, 3), textcoords="offset points")
    return picture


def main() -> int:
    """Read the options and measure."""
    made = parser("How much memory the router holds")
    add = made.add_argument
    add("--seconds", type=float, default=15.0, help="of full load (%(default)s)")
    add("--connections", type=int, default=200, help="of it (default %(default)s)")
    add("--batch", type=int, default=4, help="updates of a body (default %(default)s)")
    add("--soak", type=float, default=60.0, help="seconds (default %(default)s)")
    add("--rate", type=float, default=200.0, help="updates/s of it (%(default)s)")
    add("--contacts", type=int, default=5000, help="people (default %(default)s)")
    options = made.parse_args()
    print(f"seed {options.seed}", flush=True)
    return uvloop.run(measure(options)).write(options)


if __name__ == "__main__":
    sys.exit(main())
