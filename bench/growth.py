"""Does it get slower with the years? Throughput with many rows in `mensajes`, and with none.

A router for each size, each with a database of its own on the same PostgreSQL, in turns. The
rows that are there are made beforehand (bench/filling.py), the people who write are new to
both; the tables are vacuumed, and everything is switched on.

    python -m bench.growth --output DIR [--rows 0,1000000] [--rounds 5] [--seconds 3]

Writes growth.json, growth.md and growth.svg. Exit 1 if a 200 is missing.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from matplotlib.figure import Figure

from bench.bed import Bed, bed
from bench.comparison import Figures, notes
from bench.contest import Contest, Rules, entry
from bench.contestant import Contestant, losses
from bench.filling import fill
from bench.report import Report, axes, numbers, parser, table

MOST_ROWS = 10_000_000
SIZE = "select pg_total_relation_size('mensajes'), (select count(*) from mensajes)"
HEADINGS = (
    "rows in mensajes",
    "table with indexes",
    "msg/s",
    "rounds",
    "of the first",
    "p99 ms",
    "CPU s",
    "PG CPU s",
)


async def measure(options: argparse.Namespace) -> Report:
    """Fill the databases, and let the routers take turns."""
    rules = Rules(
        options.seed,
        options.rounds,
        options.seconds,
        options.most,
        options.contacts,
    )
    async with bed() as here:
        for rows in options.rows:
            await _grown(here, rows)
        sizes = [await _size(one) for one in here.contestants]
        entries = [entry(one, options.connections) for one in here.contestants]
        figures = await Contest(here, rules, entries).run()
        return report(sizes, figures, await losses(here.contestants))


async def _grown(here: Bed, rows: int) -> None:
    # Filled before its router starts: what that remembers is read from what is there.
    peer = here.router(f"rows_{rows}")
    dsn = await here.database(peer)
    connection = await here.connect(dsn)
    await fill(connection, rows)
    await connection.execute("vacuum analyze")
    await here.start(peer, dsn)


async def _size(one: Contestant) -> dict[str, Any]:
    assert one.connection
    size, rows = await one.connection.fetchrow(SIZE)
    return {"rows": rows, "bytes": size}


def report(
    sizes: Sequence[dict[str, Any]], figures: Sequence[Figures], broken: list[str]
) -> Report:
    """Return what was found, in words, data and a picture."""
    first, pairs = figures[0], list(zip(sizes, figures, strict=True))
    data = [
        size | {"ratio": f.ratio(first), "rates": f.all("rate")} for size, f in pairs
    ]
    rows = [_row(size, f, first) for size, f in pairs]
    text = "\n".join([table(HEADINGS, rows), "", *notes(figures, {})])
    return Report("growth", text, {"sizes": data}, draw(pairs), broken=broken)


def _row(size: dict[str, Any], f: Figures, first: Figures) -> tuple[str, ...]:
    return (
        f"{size['rows']:,}",
        f"{size['bytes'] / 1e6:,.0f} MB",
        f"{f.median('rate'):.0f}",
        f"{min(f.all('rate')):.0f}-{max(f.all('rate')):.0f}",
        f"{f.ratio(first):.2f} x",
        f"{f.median('p99_ms'):.1f}",
        *(f"{f.median(name):.2f}" for name in ("cpu_s", "postgres_cpu_s")),
    )


def draw(pairs: Sequence[tuple[dict[str, Any], Figures]]) -> Figure:
    """Return the rates of the rounds, a line a size."""
    picture, plot = axes("Rows already there", "round", "durable messages/s")
    for size, f in pairs:
        rates = f.all("rate")
        plot.plot(range(1, len(rates) + 1), rates, "o-", label=f"{size['rows']:,}")
    plot.set_ylim(bottom=0)
    plot.legend(title="rows at the start")
    return picture


def main() -> int:
    """Read the options and measure."""
    made = parser("Throughput with many rows already there")
    add = made.add_argument
    add("--rows", type=numbers, default=[0, 1_000_000], help="the first is the measure")
    add("--rounds", type=int, default=5, help="default %(default)s")
    add("--seconds", type=float, default=3.0, help="of a turn (default %(default)s)")
    add("--most", type=int, default=30_000, help="messages of a turn (%(default)s)")
    add("--connections", type=int, default=50, help="default %(default)s")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    options = made.parse_args()
    if len(set(options.rows)) < len(options.rows) or max(options.rows) > MOST_ROWS:
        made.error(f"--rows takes different numbers up to {MOST_ROWS:,}")
    print(f"seed {options.seed}", flush=True)
    return uvloop.run(measure(options)).write(options)


if __name__ == "__main__":
    sys.exit(main())
