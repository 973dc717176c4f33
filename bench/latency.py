"""How long does a 200 take, at a rate that is given? Open loop, by the clock.

A request's latency counts from the instant at which it was due, so a server that stalls is
charged for everything that it kept waiting (no coordinated omission). Three servers are
asked in turns at each rate: bare aiohttp, which shows what the load itself costs; the router
without a destination; the router that tells one. A percentile is shown where there are five
answers beyond it.

    python -m bench.latency --output DIR [--rates 50,200,500,1000] [--seconds 10] [--idle 30]

Writes latency.json, latency.md and latency.svg. Exit 1 if a 200 is missing or one is refused.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bench.bed import bare, bed
from bench.contest import Rules, introduce
from bench.contestant import Contestant, losses, signed
from bench.load import Run, open_loop
from bench.report import Report, canvas, parser, rates, table
from router.cli.traffic import Traffic

CONNECTIONS = 200  # more than are ever in flight, unless a server stalls
IDLE = 0.5  # messages/s: 30 a minute
STAGGER_S = 0.5  # between the idle ones
BEYOND = 5  # answers slower than a percentile, for it to be one
POINTS = 100  # of a curve, evenly spaced on its logarithmic axis
PARTS = (0.5, 0.9, 0.95, 0.99, 0.999)
NAMES = tuple(f"p{part * 100:g}" for part in PARTS)


@dataclass(slots=True)
class Series:
    """The answers of one server at one rate, of all rounds."""

    name: str
    rate: float
    latencies_ms: list[float] = field(default_factory=list)  # in order
    late_ms: list[float] = field(default_factory=list)  # of the load's own sending
    refused: int = 0

    def take(self, run: Run) -> None:
        """Add what a round came to."""
        self.latencies_ms = sorted(
            [*self.latencies_ms, *(s * 1000 for s in run.latencies_s)]
        )
        self.late_ms = sorted([*self.late_ms, *(s * 1000 for s in run.late_s)])
        self.refused += run.refused

    def percentile(self, part: float) -> float | None:
        """Return milliseconds; None where too few answers were slower."""
        return percentile(self.latencies_ms, part)

    def data(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "name": self.name,
            "rate": self.rate,
            "answers": len(self.latencies_ms),
            "refused": self.refused,
            **{n: self.percentile(p) for n, p in zip(NAMES, PARTS, strict=True)},
            "max": self.latencies_ms[-1],
            "late_p99": percentile(self.late_ms, 0.99),
            "curve": self.curve(),
        }

    def curve(self) -> list[tuple[float, float]]:
        """Return the latency in ms over the share of answers that took as long or longer."""
        count = len(self.latencies_ms)
        ranks = sorted({int(count ** (n / POINTS)) for n in range(POINTS + 1)})
        slowest = self.latencies_ms[::-1]
        return [(rank / count, round(slowest[rank - 1], 3)) for rank in ranks]


def percentile(ordered: Sequence[float], part: float) -> float | None:
    """Return the value that *part* of *ordered* lie below, if five or more lie above."""
    place = round(part * len(ordered), 6)
    if part > PARTS[0] and len(ordered) - place < BEYOND:
        return None
    return ordered[min(len(ordered) - 1, int(place))]


async def measure(options: argparse.Namespace) -> Report:
    """Ask everybody at every rate, a round at a time; then the idle ones."""
    async with bed() as here:
        await here.start(bare())
        await here.start(here.router("untold", told=False))
        await here.start(here.router("telling"))
        rules = Rules(options.seed, 0, 0.0, contacts=options.contacts)
        await introduce(here.contestants, rules)
        found: dict[tuple[float, str], Series] = {}
        for number in range(options.rounds):
            for rate in options.rates:
                for one in here.contestants:
                    key = rate, one.peer.name
                    series = found.setdefault(key, Series(one.peer.name, rate))
                    seconds = max(options.seconds, options.answers / rate)
                    await _ask(one, series, seconds / options.rounds, options, number)
        idle = await _idle(here.contestants, options) if options.idle else []
        every = [*found.values(), *idle]
        return report(every, [*await losses(here.contestants), *refusals(every)])


async def _idle(
    contestants: Sequence[Contestant], options: argparse.Namespace
) -> list[Series]:
    # All at once, since each hardly works; not at the same instants.
    found = [Series(one.peer.name, IDLE) for one in contestants]

    async def later(place: int) -> None:
        await asyncio.sleep(place * STAGGER_S)
        await _ask(contestants[place], found[place], options.idle, options, 0)

    await asyncio.gather(*map(later, range(len(found))))
    return found


async def _ask(
    one: Contestant,
    series: Series,
    seconds: float,
    options: argparse.Namespace,
    number: int,
) -> None:
    bodies = Traffic(
        seed=options.seed + 10 + number + int(1000 * series.rate),
        start=int(time.time()),
        contacts=options.contacts,
    ).bodies(max(1, int(series.rate * seconds)))
    requests = signed(bodies)
    run = await open_loop(one.url, [r for r, _ in requests], series.rate, CONNECTIONS)
    await one.settled(one.note(run, requests))
    series.take(run)
    p99 = run.percentile_ms(0.99)
    print(f"{series.name} at {series.rate:g}/s: p99 {p99:.2f} ms", flush=True)


def refusals(every: Sequence[Series]) -> list[str]:
    """Return, in words, who did not answer 200."""
    return [
        f"{s.name} at {s.rate:g}/s: {s.refused} refused" for s in every if s.refused
    ]


def report(every: Sequence[Series], broken: list[str]) -> Report:
    """Return what was found, in words, data and a picture."""
    ordered = sorted(every, key=lambda s: s.rate)
    rows = [_row(series.data()) for series in ordered]
    headings = ("", "rate/s", "answers", *NAMES, "max", "load late, p99")
    notes = (
        "Milliseconds from the instant a request was due to its 200. `load late`: of "
        "these, what the load itself was late in sending, since it shares its core with "
        "PostgreSQL."
    )
    return Report(
        "latency",
        f"{table(headings, rows)}\n\n{notes}",
        {"series": [series.data() for series in ordered]},
        draw(ordered),
        broken=broken,
    )


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    marks = (found[name] for name in (*NAMES, "max", "late_p99"))
    shown = ("-" if ms is None else f"{ms:.2f}" for ms in marks)
    return found["name"], f"{found['rate']:g}", str(found["answers"]), *shown


def draw(every: Sequence[Series]) -> Figure:
    """Return a plot a rate: the latency over the share of answers that were slower."""
    paces = sorted({series.rate for series in every})
    picture = canvas(3.2 * len(paces), 3.6)
    plots = picture.subplots(1, len(paces), sharey=True, squeeze=False)[0]
    for rate, plot in zip(paces, plots, strict=True):
        for series in (s for s in every if s.rate == rate):
            plot.plot(*zip(*series.curve(), strict=True), label=series.name)
        plot.set(title=f"{rate:g}/s", xscale="log", yscale="log", xlabel="share slower")
        plot.xaxis.set_minor_formatter(NullFormatter())
        plot.invert_xaxis()
        plot.grid(alpha=0.3)
    plots[0].set_ylabel("ms")
    plots[0].legend()
    return picture


def arguments() -> argparse.Namespace:
    """Read the options."""
    made = parser("How long a 200 takes at a given rate")
    add = made.add_argument
    add("--rates", type=rates, default=[50.0, 200.0, 500.0, 1000.0], help="a second")
    add("--seconds", type=float, default=10.0, help="at each rate (%(default)s)")
    add("--answers", type=int, default=500, help="at each, at least (%(default)s)")
    add("--idle", type=float, default=30.0, help="seconds at 30 a minute; 0: none")
    add("--rounds", type=int, default=2, help="that they are spread over (%(default)s)")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    return made.parse_args()


def main() -> int:
    """Read the options and measure."""
    options = arguments()
    print(f"seed {options.seed}", flush=True)
    return uvloop.run(measure(options)).write(options)


if __name__ == "__main__":
    sys.exit(main())
