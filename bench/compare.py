"""The router and everything that anybody would build instead, in one interleaved run.

Every server runs on core 0; PostgreSQL, the sink and the load on core 1. Each has a database
of its own on the same PostgreSQL. They take turns (bench/contest.py), each with the same
bodies, as fast as they are answered for so many seconds. What a server stores or tells later
is waited for, and counted. At the end every message that was answered 200 is looked for.

    python -m bench.compare --output DIR [--connections 50,200] [--peers bare,cte,go]

Writes compare.json, compare.md and compare.svg. Exit 1 if a 200 is missing.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

import uvloop

from bench.bed import bed
from bench.comparison import Figures, data, draw, notes, table
from bench.contest import Contest, Rules, entry
from bench.contestant import loss
from bench.peers import PEERS, Peer
from bench.report import PACKAGES, Report, numbers, parser


async def measure(
    options: argparse.Namespace, peers: Sequence[Peer]
) -> dict[int, list[Figures]]:
    """Start everything and measure, by connections; the router comes last."""
    rules = Rules(
        options.seed,
        options.rounds,
        options.seconds,
        options.most,
        options.contacts,
    )
    async with bed() as here:
        for peer in (*peers, here.router(told=not options.untold)):
            await here.start(peer)
        entries = [
            entry(one, connections)
            for connections in options.connections
            for one in here.contestants
        ]
        figures = await Contest(here, rules, entries).run()
        count = len(here.contestants)
    return {
        connections: figures[place * count : (place + 1) * count]
        for place, connections in enumerate(options.connections)
    }


def chosen(names: Sequence[str]) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that can run, and why the others cannot."""
    peers = [peer for peer in PEERS if peer.name in names]
    left_out = {peer.name: peer.missing() for peer in peers if peer.missing()}
    return [peer for peer in peers if peer.name not in left_out], left_out


def report(found: Mapping[int, Sequence[Figures]], left_out: dict[str, str]) -> Report:
    """Return what was found, by connections, in words, data and a picture."""
    text = []
    for connections, figures in found.items():
        text += [f"{connections} connections:", "", table(figures), ""]
    *_, last = found.values()
    rows = [
        {"connections": connections, **row}
        for connections, figures in found.items()
        for row in data(figures)
    ]
    return Report(
        "compare",
        "\n".join([*text, *notes(last, left_out)]),
        {"left_out": left_out, "contestants": rows},
        draw(last),
        (*PACKAGES, "fastapi", "uvicorn", "httptools"),
        [loss(f.name, f.missing, f.acked) for f in last if f.missing],
    )


def arguments() -> argparse.Namespace:
    """Read the options."""
    names = [peer.name for peer in PEERS]
    made = parser(
        "The router and its alternatives, interleaved",
        epilog="; ".join(f"{peer.name}: {peer.what}" for peer in PEERS),
    )
    add = made.add_argument
    add("--rounds", type=int, default=5, help="default %(default)s")
    add("--seconds", type=float, default=2.0, help="of a turn (default %(default)s)")
    add("--most", type=int, default=30_000, help="messages of a turn (%(default)s)")
    add("--connections", type=numbers, default=[50], help="default: 50")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    add("--peers", type=lambda text: text.split(","), default=names, help="all of them")
    add("--untold", action="store_true", help="the router tells nobody")
    options = made.parse_args()
    if unknown := set(options.peers) - set(names):
        made.error(f"no such peers: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Measure, and say what was left out."""
    options = arguments()
    peers, left_out = chosen(options.peers)
    print(f"seed {options.seed}", flush=True)
    for name, what in left_out.items():
        print(f"left out: {name}, needs {what}", flush=True)
    return report(uvloop.run(measure(options, peers)), left_out).write(options)


if __name__ == "__main__":
    sys.exit(main())
