"""What do large bodies save? Updates a second in bodies of 1, 10, 100 and 1000.

One router takes turns with bodies of each size, in a closed loop, everything switched on. A
body of a thousand messages is answered when all of them are stored.

    python -m bench.batch --output DIR [--sizes 1,10,100,1000] [--rounds 3] [--seconds 2]

Writes batch.json, batch.md and batch.svg. Exit 1 if a 200 is missing.
"""

import argparse
import sys
from collections.abc import Sequence

import uvloop
from matplotlib.figure import Figure

from bench.bed import bed
from bench.comparison import Figures, notes
from bench.contest import Contest, Rules, entry
from bench.contestant import losses
from bench.report import Report, axes, numbers, parser, table

UPDATES_IN_FLIGHT = 2000  # what the router's queues hold: more would be refused
HEADINGS = (
    "updates a body",
    "updates/s",
    "rounds",
    "of bodies of 1",
    "p50 ms",
    "p99 ms",
    "CPU s",
    "PG CPU s",
)


async def measure(options: argparse.Namespace) -> Report:
    """Let one router take turns with all sizes."""
    rules = Rules(
        options.seed, options.rounds, options.seconds, options.most, options.contacts
    )
    async with bed() as here:
        router = await here.start(here.router(told=not options.untold))
        entries = [
            entry(
                router,
                min(options.connections, max(2, UPDATES_IN_FLIGHT // size)),
                size,
            )
            for size in options.sizes
        ]
        figures = await Contest(here, rules, entries).run()
        broken = await losses(here.contestants)
        if router.refused:
            broken.append(f"{router.refused} bodies refused")
    return report(options.sizes, [one.connections for one in entries], figures, broken)


def report(
    sizes: Sequence[int],
    connections: Sequence[int],
    figures: Sequence[Figures],
    broken: list[str],
) -> Report:
    """Return what was found, in words, data and a picture."""
    single = figures[0]
    rows = [_row(size, f, single) for size, f in zip(sizes, figures, strict=True)]
    data = [
        {
            "size": size,
            "connections": count,
            "ratio": f.ratio(single),
            "rates": f.all("rate"),
            "p99_ms": f.median("p99_ms"),
        }
        for size, count, f in zip(sizes, connections, figures, strict=True)
    ]
    text = "\n".join([table(HEADINGS, rows), "", *notes(figures[:1], {})])
    return Report("batch", text, {"sizes": data}, draw(sizes, figures), broken=broken)


def _row(size: int, f: Figures, single: Figures) -> tuple[str, ...]:
    return (
        str(size),
        f"{f.median('rate'):.0f}",
        f"{min(f.all('rate')):.0f}-{max(f.all('rate')):.0f}",
        f"{f.ratio(single):.2f} x",
        *(f"{f.median(name):.1f}" for name in ("p50_ms", "p99_ms")),
        *(f"{f.median(name):.2f}" for name in ("cpu_s", "postgres_cpu_s")),
    )


def draw(sizes: Sequence[int], figures: Sequence[Figures]) -> Figure:
    """Return the rates over the size of a body."""
    picture, plot = axes("The size of a body", "updates a body", "durable updates/s")
    for size, f in zip(sizes, figures, strict=True):
        plot.plot([size] * len(f.turns), f.all("rate"), ".", color="0.6")
    plot.plot(sizes, [f.median("rate") for f in figures], "o-")
    plot.set_xscale("log")
    plot.set_ylim(bottom=0)
    return picture


def main() -> int:
    """Read the options and measure."""
    made = parser("What large bodies save")
    add = made.add_argument
    add(
        "--sizes",
        type=numbers,
        default=[1, 10, 100, 1000],
        help="the first is the measure",
    )
    add("--rounds", type=int, default=3, help="default %(default)s")
    add("--seconds", type=float, default=2.0, help="of a turn (default %(default)s)")
    add("--most", type=int, default=60_000, help="updates of a turn (%(default)s)")
    add("--connections", type=int, default=50, help="at most (default %(default)s)")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    add("--untold", action="store_true", help="no destination: what telling costs")
    options = made.parse_args()
    print(f"seed {options.seed}", flush=True)
    return uvloop.run(measure(options)).write(options)


if __name__ == "__main__":
    sys.exit(main())
