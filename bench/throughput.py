"""How fast is durable? Bare aiohttp and the router, in one interleaved run.

Both servers run on core 0, PostgreSQL, the sink and the load on core 1. Each round asks bare,
then the router, with each number of connections, with everything switched on: signature,
JSON, one transaction a batch, a log line a message, and a notification to a sink. A turn ends
when nothing is left to be told. Then both are asked at a fixed rate; last, what a message
weighs in the WAL and in the tables. Every message that was answered 200 is looked for.

    python -m bench.throughput --output DIR [--rounds 5] [--count 10000] [--connections 50,200]

Writes throughput.json, throughput.md and throughput.svg. Exit 1 if a 200 is missing.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

import uvloop
from matplotlib.figure import Figure

from bench.bed import Bed, bare, bed
from bench.comparison import Figures, data, notes
from bench.contest import Contest, Rules, entry
from bench.contestant import PER, Contestant, losses, signed
from bench.load import open_loop
from bench.report import Report, canvas, numbers, parser, table
from bench.volume import HOURS_S, volume, words
from router.cli.traffic import Traffic

HEADINGS = ("", "msg/s", "rounds", "of bare", "p50 ms", "p99 ms", "CPU s", "PG CPU s")
OPEN_CONNECTIONS = 200


async def measure(options: argparse.Namespace) -> Report:
    """Start everything; measure rounds, a fixed rate, and what a message weighs."""
    rules = Rules(
        options.seed,
        options.rounds,
        HOURS_S,
        options.count,
        options.contacts,
        options.owner,
    )
    async with bed() as here:
        await here.start(bare())
        peer = here.router(told=not options.untold, menu=options.menu == "on")
        router = await here.start(peer)
        entries = [
            entry(one, connections)
            for connections in options.connections
            for one in here.contestants
        ]
        figures = await Contest(here, rules, entries).run()
        rated = await _fixed_rate(here, options)
        found = await _weight(here, router, options)
        broken = await losses(here.contestants)
        if router.refused:
            broken.append(f"{router.refused} refused")
    return report(options, figures, rated, found, broken)


async def _fixed_rate(here: Bed, options: argparse.Namespace) -> list[dict[str, Any]]:
    count = int(options.rate * options.seconds)
    bodies = Traffic(
        seed=options.seed + 100, start=int(time.time()), contacts=options.contacts
    ).bodies(count)
    requests, found = signed(bodies), []
    for one in here.contestants:
        sent = [request for request, _ in requests]
        run = await open_loop(one.url, sent, options.rate, OPEN_CONNECTIONS)
        await one.settled(one.note(run, requests))
        marks = {f"p{part * 100:g}": run.percentile_ms(part) for part in (0.5, 0.99)}
        found.append({"name": one.peer.name, **marks, "max": run.percentile_ms(1.0)})
    return found


async def _weight(
    here: Bed, router: Contestant, options: argparse.Namespace
) -> dict[str, Any]:
    bodies = Traffic(
        seed=options.seed + 200, start=int(time.time()), contacts=options.contacts
    ).bodies()
    warm, requests = (signed(islice(bodies, options.count)) for _ in range(2))
    return (await volume(here, router, warm, requests)).per_message()


def report(
    options: argparse.Namespace,
    figures: Sequence[Figures],
    rated: Sequence[dict[str, Any]],
    weight: dict[str, Any],
    broken: list[str],
) -> Report:
    """Return what was found, in words, data and a picture."""
    pairs = list(zip(figures[::2], figures[1::2], strict=True))
    rows = [
        row
        for both, n in zip(pairs, options.connections, strict=True)
        for row in _rows(*both, n)
    ]
    at_rate = [
        f"{one['name']} at {options.rate:g}/s: p50 {one['p50']:.2f} ms, "
        f"p99 {one['p99']:.2f} ms, max {one['max']:.1f} ms"
        for one in rated
    ]
    tail = [*notes(figures, {}), *at_rate, "", words(weight)]
    text = "\n".join([table(HEADINGS, rows), "", *tail])
    return Report(
        "throughput",
        text,
        {
            "by_connections": [
                {
                    "connections": n,
                    "ratio": router.ratio(plain),
                    "servers": data([plain, router]),
                }
                for n, (plain, router) in zip(options.connections, pairs, strict=True)
            ],
            "fixed_rate": list(rated),
            "per_message": weight,
        },
        draw(options.connections, pairs, weight),
        broken=broken,
    )


def _rows(plain: Figures, router: Figures, connections: int) -> list[tuple[str, ...]]:
    return [
        (
            f"{f.name}, {connections} connections",
            f"{f.median('rate'):.0f}",
            f"{min(f.all('rate')):.0f}-{max(f.all('rate')):.0f}",
            f"{f.ratio(plain):.2f} x",
            *(f"{f.median(name):.1f}" for name in ("p50_ms", "p99_ms")),
            *(f"{f.median(name):.2f}" for name in ("cpu_s", "postgres_cpu_s")),
        )
        for f in (plain, router)
    ]


def draw(
    connections: Sequence[int],
    pairs: Sequence[tuple[Figures, Figures]],
    weight: dict[str, Any],
) -> Figure:
    """Return the rates of the rounds, and what a message leaves behind."""
    picture = canvas(10, 4)
    left, right = picture.subplots(1, 2)
    for count, both in zip(connections, pairs, strict=True):
        for f in both:
            rates = f.all("rate")
            left.plot(range(1, len(rates) + 1), rates, "o-", label=f"{f.name}, {count}")
    left.set_ylim(bottom=0)
    left.set_xlabel("round")
    left.set_ylabel("durable messages/s")
    left.legend()
    names = list(weight["tables"])
    rows = [weight["tables"][name]["rows"] for name in names]
    right.barh(names, rows, label="rows")
    indexes = [weight["tables"][name]["indexes"] for name in names]
    right.barh(names, indexes, left=rows, label="indexes")
    right.invert_yaxis()
    right.set_xlabel("bytes a message")
    right.legend()
    return picture


def arguments() -> argparse.Namespace:
    """Read the options."""
    made = parser("Bare aiohttp and the router, interleaved")
    add = made.add_argument
    add("--rounds", type=int, default=5, help="default %(default)s")
    add("--count", type=int, default=PER, help="messages a turn (%(default)s)")
    add("--connections", type=numbers, default=[50], help="default: 50")
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
    return made.parse_args()


def main() -> int:
    """Read the options and measure."""
    options = arguments()
    print(f"seed {options.seed}", flush=True)
    return uvloop.run(measure(options)).write(options)


if __name__ == "__main__":
    sys.exit(main())
