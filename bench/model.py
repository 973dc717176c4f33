"""A model of the router, fitted to what was measured, and asked about what was not fitted.

Measured, in closed loops of some numbers of connections: CPU of the router and of PostgreSQL
for each message, how many messages shared a transaction, and the load's own CPU. Fitted to
that: what a message and what a batch cost each of the two, and for how long a commit waits
for nothing that costs CPU. Then the same loops run in SimPy, also with numbers of connections
that the fit has not seen, and the two are printed beside each other.

As in bench/throughput.py the router has core 0, PostgreSQL and the load have core 1; no
destination is told. What the model leaves out: that a core is shared in slices, garbage,
checkpoints, and whoever else uses the machine.

    python -m bench.model --output DIR [--fit 1,4,16,64] [--check 8,32]

Writes model.json, model.md and model.svg. Exit 1 if a message that was answered 200 is
missing.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from bench.bed import stop_when_told
from bench.contestant import PER, Request, loss, signed
from bench.fit import Costs, Model, Point, fitted
from bench.load import Connection
from bench.machine import HOST, OTHER_CORE, SERVER_CORE, pin
from bench.report import PACKAGES, Report, axes, numbers, parser, table
from bench.several import TOKEN, Several, drawn, several
from router.cli.traffic import Traffic
from router.store.embedded import EmbeddedPostgres

BATCHES = "psi_persist_batch_size"


async def measure(options: argparse.Namespace) -> Report:
    """Measure a closed loop of each number of connections, in turns; fit; compare."""
    stop_when_told()
    pin(0, OTHER_CORE)
    loops = sorted({*options.fit, *options.check})
    with tempfile.TemporaryDirectory(prefix="psi-bench-") as directory:
        place = Path(directory)
        async with (
            EmbeddedPostgres(place / "pg") as postgres,
            several(1, place, postgres, core=SERVER_CORE) as router,
        ):
            await router.introduce(options.contacts, options.seed + 1)
            requests, taken = _requests(options), []
            for _ in range(options.rounds):
                for connections in loops:
                    count = options.count if connections > 1 else options.count // 5
                    these = drawn(requests, count)
                    taken.append(await _point(router, these, connections))
            missing = await router.missing()
            broken = [loss("router", missing, len(router.acked))] * bool(missing)
    measured = [_median([p for p in taken if p.connections == n]) for n in loops]
    costs = fitted([p for p in measured if p.connections not in options.check])
    return report(options, costs, measured, broken)


def _requests(options: argparse.Namespace) -> Iterator[Request]:
    traffic = Traffic(
        seed=options.seed, start=int(time.time()), contacts=options.contacts
    )
    return (request for body in traffic.bodies() for request in signed([body]))


async def _point(
    router: Several, requests: Sequence[Request], connections: int
) -> Point:
    before, load = await _batches(router.ports[0]), time.process_time()
    loop = await router.loop(requests, connections)
    load = time.process_time() - load
    after = await _batches(router.ports[0])
    events, batches = (b - a for a, b in zip(before, after, strict=True))
    return Point(
        connections,
        loop.rate,
        loop.p50_ms,
        events / batches,
        loop.cpu_s / PER,
        loop.postgres_cpu_s / PER,
        load / len(requests),
    )


def _median(taken: Sequence[Point]) -> Point:
    found = [statistics.median(values) for values in zip(*taken, strict=True)]
    return Point(int(found[0]), *found[1:])


async def _batches(port: int) -> tuple[float, float]:
    """Return how many events were stored, in how many batches, since the start."""
    connection = await Connection.open(HOST, port)
    asked = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    text = (await connection.send(asked.encode())).body.decode()
    connection.close()
    lines = dict(
        line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(BATCHES)
    )
    return float(lines[f"{BATCHES}_sum"]), float(lines[f"{BATCHES}_count"])


def report(
    options: argparse.Namespace,
    costs: Costs,
    measured: Sequence[Point],
    broken: Sequence[str] = (),
) -> Report:
    """Return what was measured beside what the model says."""
    points = []
    for point in measured:
        rate, p50_ms, batch = Model(costs, point.connections).run(options.simulated)
        points.append(
            point._asdict()
            | {"model_rate": rate, "model_p50_ms": p50_ms, "model_batch": batch}
            | {"error": rate / point.rate - 1}
            | {"held_out": point.connections in options.check}
        )
    data = {"costs": asdict(costs), "points": points}
    text = f"{_costs_table(costs)}\n\n{_points_table(points)}"
    packages = (*PACKAGES, "simpy")
    return Report("model", text, data, _picture(points), packages, broken=list(broken))


def _costs_table(costs: Costs) -> str:
    rows = [(name, f"{cost * 1e6:.0f}") for name, cost in asdict(costs).items()]
    return table(("cost", "us"), rows)


def _points_table(points: Sequence[dict[str, Any]]) -> str:
    headings = "connections|msg/s|model|error|p50 ms|model|batch|model|"
    rows = [
        (
            str(p["connections"]),
            f"{p['rate']:.0f}",
            f"{p['model_rate']:.0f}",
            f"{p['error']:+.0%}",
            f"{p['p50_ms']:.2f}",
            f"{p['model_p50_ms']:.2f}",
            f"{p['batch']:.1f}",
            f"{p['model_batch']:.1f}",
            "not fitted" if p["held_out"] else "fitted",
        )
        for p in points
    ]
    return table(headings.split("|"), rows)


def _picture(points: Sequence[dict[str, Any]]) -> Any:
    picture, on = axes("The router and its model", "connections", "messages a second")
    at = [p["connections"] for p in points]
    on.plot(at, [p["rate"] for p in points], "o", label="measured")
    on.plot(at, [p["model_rate"] for p in points], "-", label="model")
    on.set_xscale("log", base=2)
    on.legend()
    return picture


def main() -> int:
    """Read the options, measure, fit, and ask the model."""
    made = parser("A model of the router beside the router")
    add = made.add_argument
    add("--fit", type=numbers, default=[1, 4, 16, 64], help="connections (1,4,16,64)")
    add("--check", type=numbers, default=[8, 32], help="not fitted (default 8,32)")
    add("--rounds", type=int, default=3, help="default %(default)s")
    add("--count", type=int, default=4000, help="messages a loop (%(default)s)")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    add("--simulated", type=int, default=5000, help="messages (default %(default)s)")
    options = made.parse_args()
    if options.fit[0] != 1 or len(options.fit) < 2:  # noqa: PLR2004 -- a line
        made.error("--fit begins with 1, and has another one")
    return uvloop.run(measure(options)).write(options)


if __name__ == "__main__":
    sys.exit(main())
