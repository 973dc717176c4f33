"""A model of the router, fitted to what was measured, and asked about what was not fitted.

Measured, in closed loops of some numbers of connections: CPU of the router and of PostgreSQL
for each message, how many messages shared a transaction, and the load's own CPU. Fitted to
that: what a message and what a batch cost each of the two, and for how long a commit waits
for nothing that costs CPU. Then the same loops run in SimPy, also with numbers of connections
that the fit has not seen, and the two are printed beside each other.

As in bench/throughput.py the router has core 0, PostgreSQL and the load have core 1; no
destination is told. What the model leaves out: that a core is shared in slices, garbage,
checkpoints, and whoever else uses the machine.
"""

import argparse
import json
import math
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import simpy
import uvloop

from bench.load import Connection
from bench.machine import HOST, OTHER_CORE, SERVER_CORE, description, pin
from bench.scaling import Side, side, traffic
from router.store.embedded import EmbeddedPostgres

MOST = 500  # messages in a batch
TRIED = 1000  # messages, to see whether a wait explains a point
FACTORS = tuple(1.15**step for step in range(-12, 7))
LEAST_WAIT_S = 50e-6
BATCHES = "psi_persist_batch_size"

Steps = Generator[simpy.Event, Any, None]


class Point(NamedTuple):
    """What one closed loop came to; seconds, for each message."""

    connections: int
    rate: float
    p50_ms: float
    batch: float  # messages in a transaction, on average
    router_s: float
    postgres_s: float
    load_s: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What the model knows, in seconds."""

    message: float  # of the router's loop, each
    batch: float
    row: float  # of PostgreSQL, each message
    commit: float
    wait: float  # of a batch, on nobody's CPU
    load: float  # of the load, each message


def fitted(points: Sequence[Point]) -> Costs:
    """Return the costs that explain *points* best; the first has one connection.

    CPU for a message is a line over 1 / batch. With one connection nobody waits for anybody,
    so what is left of its time is about the wait; of waits near it the one is taken with
    which the model's rates are nearest to all that were measured.
    """
    inverse = [1 / point.batch for point in points]
    batch, message = _line(inverse, [point.router_s for point in points])
    commit, row = _line(inverse, [point.postgres_s for point in points])
    load = statistics.fmean(point.load_s for point in points)
    alone = points[0]
    spent = alone.router_s + alone.postgres_s + alone.load_s
    wait = max(1 / alone.rate - spent, LEAST_WAIT_S)
    tried = [
        Costs(message, batch, row, commit, wait * factor, load) for factor in FACTORS
    ]
    return min(tried, key=lambda costs: _distance(costs, points))


def _distance(costs: Costs, points: Sequence[Point]) -> float:
    return sum(
        math.log(Model(costs, point.connections).run(TRIED)[0] / point.rate) ** 2
        for point in points
    )


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    slope, start = statistics.linear_regression(xs, ys)
    # A cost is none below nothing; then the other one explains it alone.
    if slope < 0:
        return 0.0, statistics.fmean(ys)
    if start < 0:
        return statistics.fmean(ys) / statistics.fmean(xs), 0.0
    return slope, start


class Model:
    """A closed loop through the router. `others` is the core that it does not have."""

    def __init__(self, costs: Costs, connections: int) -> None:
        self.env = simpy.Environment()
        self._costs = costs
        self._loop = simpy.Resource(self.env)
        self._others = simpy.Resource(self.env)
        self._inbox = simpy.Store(self.env)
        self._connections = connections
        self.latencies_s: list[float] = []
        self.batches: list[int] = []

    def run(self, messages: int) -> tuple[float, float, float]:
        """Return the rate, the median latency (ms) and the mean batch of so many messages."""
        self.env.process(self._writer())
        for _ in range(self._connections):
            self.env.process(self._client())
        while len(self.latencies_s) < messages:
            self.env.step()
        return (
            messages / self.env.now,
            statistics.median(self.latencies_s) * 1000,
            statistics.fmean(self.batches),
        )

    def _client(self) -> Steps:
        while True:
            yield from self._hold(self._others, self._costs.load)
            began = self.env.now
            yield from self._hold(self._loop, self._costs.message)
            stored = self.env.event()
            yield self._inbox.put(stored)
            yield stored
            self.latencies_s.append(self.env.now - began)

    def _writer(self) -> Steps:
        # Whatever has arrived is the batch: router/queues/memory.py.
        while True:
            batch = [(yield self._inbox.get())]
            while self._inbox.items and len(batch) < MOST:
                batch.append((yield self._inbox.get()))
            self.batches.append(len(batch))
            yield from self._hold(self._loop, self._costs.batch)
            yield self.env.timeout(self._costs.wait)
            cost = self._costs.commit + self._costs.row * len(batch)
            yield from self._hold(self._others, cost)
            for stored in batch:
                stored.succeed()

    def _hold(self, resource: simpy.Resource, seconds: float) -> Steps:
        with resource.request() as turn:
            yield turn
            yield self.env.timeout(seconds)


async def points(options: argparse.Namespace, loops: Sequence[int]) -> list[Point]:
    """Measure a closed loop of each of these numbers of connections, in turns."""
    pin(0, OTHER_CORE)
    with tempfile.TemporaryDirectory(prefix="psi-model-") as directory:
        place = Path(directory)
        async with (
            EmbeddedPostgres(place / "pg") as postgres,
            side(1, place, postgres, core=SERVER_CORE) as router,
        ):
            await router.introduce(options.contacts, options.seed + 1)
            bodies = traffic(options)
            taken = []
            for _ in range(options.rounds):
                for connections in loops:
                    count = options.count if connections > 1 else options.count // 5
                    drawn = [next(bodies) for _ in range(count)]
                    taken.append(await _point(router, drawn, connections))
            if missing := await router.missing():
                sys.exit(f"{missing} were answered 200 and are not in the table")
    return [_median([p for p in taken if p.connections == n]) for n in loops]


async def _point(router: Side, bodies: Sequence[Any], connections: int) -> Point:
    before, load = await _batches(router.url), time.process_time()
    turn = await router.turn(bodies, connections)
    load = time.process_time() - load
    after = await _batches(router.url)
    events, batches = (b - a for a, b in zip(before, after, strict=True))
    return Point(
        connections,
        turn.rate,
        turn.p50_ms,
        events / batches,
        turn.routers_cpu_s / 10_000,
        turn.postgres_cpu_s / 10_000,
        load / len(bodies),
    )


def _median(taken: Sequence[Point]) -> Point:
    found = [statistics.median(values) for values in zip(*taken, strict=True)]
    return Point(int(found[0]), *found[1:])


async def _batches(url: str) -> tuple[float, float]:
    """Return how many events were stored, in how many batches, since the start."""
    port = int(url.rsplit(":", 1)[1].partition("/")[0])
    connection = await Connection.open(HOST, port)
    asked = "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bench\r\n\r\n"
    text = (await connection.send(asked.encode())).body.decode()
    connection.close()
    lines = dict(
        line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(BATCHES)
    )
    return float(lines[f"{BATCHES}_sum"]), float(lines[f"{BATCHES}_count"])


def report(
    options: argparse.Namespace, costs: Costs, measured: Sequence[Point]
) -> dict[str, Any]:
    """Print what was measured beside what the model says; return the same as data."""
    for name, value in asdict(costs).items():
        print(f"{name:9}{value * 1e6:8.0f} us")
    print(
        f"\n{'connections':>11}{'msg/s':>8}{'model':>8}{'':>7}"
        f"{'p50 ms':>9}{'model':>7}{'batch':>8}{'model':>7}"
    )
    rows = []
    for point in measured:
        rate, p50_ms, batch = Model(costs, point.connections).run(options.simulated)
        error = rate / point.rate - 1
        held_out = point.connections in options.check
        rows.append(
            point._asdict()
            | {"model_rate": rate, "model_p50_ms": p50_ms, "model_batch": batch}
            | {"error": error, "held_out": held_out}
        )
        print(
            f"{point.connections:11}{point.rate:8.0f}{rate:8.0f}{error:+7.0%}"
            f"{point.p50_ms:9.2f}{p50_ms:7.2f}{point.batch:8.1f}{batch:7.1f}"
            f"{'  not fitted' if held_out else ''}"
        )
    wanted = {k: v for k, v in vars(options).items() if k != "json"}
    return {
        "costs": asdict(costs),
        "points": rows,
        "options": wanted,
        "machine": description("aiohttp", "asyncpg", "uvloop", "simpy"),
    }


def main() -> int:
    """Read the options, measure, fit, and ask the model."""
    parser = argparse.ArgumentParser(
        description="A SimPy model of the router beside the router; see bench/README.md."
    )
    add = parser.add_argument
    add("--fit", type=int, nargs="+", default=[1, 4, 16, 64], help="connections")
    add("--check", type=int, nargs="+", default=[8, 32], help="connections not fitted")
    add("--rounds", type=int, default=3, help="default %(default)s")
    add("--count", type=int, default=4000, help="messages a loop (%(default)s)")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    add("--simulated", type=int, default=5000, help="messages (default %(default)s)")
    add("--seed", type=int, default=secrets.randbelow(2**31), help="default: a new one")
    add("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    if options.fit[0] != 1 or len(options.fit) < 2:  # noqa: PLR2004 -- a line
        parser.error("--fit begins with 1, and has another one")
    loops = sorted({*options.fit, *options.check})
    measured = uvloop.run(points(options, loops))
    fit_to = [p for p in measured if p.connections not in options.check]
    data = report(options, fitted(fit_to), measured)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
