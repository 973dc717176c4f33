"""One process against several at one port, on one database, in turns: what another one adds.

`apart` is as if each process had a line of its own: a port each, and its own people.
Nothing is pinned: the routers, PostgreSQL, the sink and the load share all cores. Each number
of processes has a database of its own on the one PostgreSQL, so that nobody tells what
another one stored, and gets the same requests. Where the cores are used up a further process
adds nothing; what it costs shows in the CPU of a message.

    python -m bench.scaling --output DIR [--processes 1,2] [--contacts 1000]

Writes scaling.json, scaling.md and scaling.svg. Exit 1 if a message that was answered 200 is
missing.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import uvloop

from bench.bed import SINK, stop_when_told
from bench.contestant import Request, loss, signed
from bench.machine import free_port, python, server
from bench.report import Report, axes, numbers, parser, table
from bench.several import ANY_CORE, Loop, Several, drawn, several, share
from router.cli.traffic import Traffic
from router.store.embedded import EmbeddedPostgres

Loops = dict[str, list[Loop]]  # by what runs


async def measure(options: argparse.Namespace) -> Report:
    """Start everything, give each number of processes its turns, and look for all."""
    stop_when_told()
    async with contextlib.AsyncExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="psi-bench-")
        place = Path(stack.enter_context(temporary))
        postgres = await stack.enter_async_context(EmbeddedPostgres(place / "pg"))
        sink = None if options.untold else free_port()
        if sink:
            command = python("bench.servers", SINK, str(sink))
            log = place / "sink.log"
            await stack.enter_async_context(server(ANY_CORE, sink, command, log))
        sides = {}
        for processes in options.processes:
            for apart in (False, True)[: min(processes, 2)]:
                run = several(processes, place, postgres, sink=sink, apart=apart)
                one = await stack.enter_async_context(run)
                sides[f"{processes}{', apart' * apart}"] = one
        loops = await _turns(options, sides)
        shares = {n: one.shares() for n, one in sides.items()}
        broken = [
            loss(f"{n} processes", missing, len(one.acked))
            for n, one in sides.items()
            if (missing := await one.missing())
        ]
    return report(loops, shares, broken)


async def _turns(options: argparse.Namespace, sides: dict[str, Several]) -> Loops:
    for one in sides.values():
        await one.introduce(options.contacts, options.seed + 1)
    requests, found = _requests(options), Loops()
    for number in range(options.rounds + 1):  # the first one is a warm-up
        these = drawn(requests, options.count)
        for processes, one in sides.items():
            loop = await one.loop(these, options.connections)
            if number:
                found.setdefault(processes, []).append(loop)
                print(f"round {number}: {processes} at {loop.rate:.0f}/s", flush=True)
    return found


def _requests(options: argparse.Namespace) -> Iterator[Request]:
    traffic = Traffic(
        seed=options.seed, start=int(time.time()), contacts=options.contacts
    )
    return (request for body in traffic.bodies() for request in signed([body]))


def report(
    loops: Loops, shares: dict[str, list[float]], broken: Sequence[str]
) -> Report:
    """Return the table, the data and the picture."""
    first = next(iter(loops.values()))
    sides: list[dict[str, Any]] = []
    for processes, taken in loops.items():
        ratios = [a.rate / b.rate for a, b in zip(taken, first, strict=True)]
        medians = {
            name: statistics.median(asdict(loop)[name] for loop in taken)
            for name in (field.name for field in fields(Loop))
        }
        sides.append(
            {"processes": processes, "ratio": statistics.median(ratios)}
            | medians
            | {"shares": shares[processes], "rounds": [asdict(loop) for loop in taken]}
        )
    return Report(
        "scaling",
        f"{_table(sides)}\n\nCPU: seconds per 10,000 messages, until all are told.",
        {"sides": sides},
        _picture(sides),
        broken=list(broken),
    )


def _table(sides: Sequence[dict[str, Any]]) -> str:
    headings = "processes|msg/s|of one|p50 ms|p99 ms|CPU s|PG CPU s|machine busy|shares"
    return table(
        headings.split("|"),
        [
            (
                side["processes"],
                f"{side['rate']:.0f}",
                f"{side['ratio']:.2f} x",
                f"{side['p50_ms']:.1f}",
                f"{side['p99_ms']:.1f}",
                f"{side['cpu_s']:.2f}",
                f"{side['postgres_cpu_s']:.2f}",
                f"{share(side['cores']):.0%}",
                ", ".join(f"{part:.2f}" for part in side["shares"]),
            )
            for side in sides
        ],
    )


def _picture(sides: Sequence[dict[str, Any]]) -> Any:
    picture, on = axes("Several processes", "processes", "messages a second")
    names = [side["processes"] for side in sides]
    on.bar(names, [side["rate"] for side in sides], width=0.5)
    return picture


def main() -> int:
    """Read the options and measure."""
    made = parser("One process against several, at one port and on one database")
    add = made.add_argument
    add("--processes", type=numbers, default=[1, 2], help="default 1,2")
    add("--rounds", type=int, default=3, help="default %(default)s")
    add("--count", type=int, default=4000, help="messages a turn (%(default)s)")
    add("--connections", type=int, default=50, help="default %(default)s")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    add("--untold", action="store_true", help="no destination: what telling costs")
    options = made.parse_args()
    return uvloop.run(measure(options)).write(options)


if __name__ == "__main__":
    sys.exit(main())
