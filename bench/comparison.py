"""What bench/compare.py found, as data, as a table and as a picture."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from bench.bed import BARE, ROUTER
from bench.contestant import PER, Turn
from bench.peers import Peer
from bench.report import canvas
from bench.report import table as tabulate

NOISY = 0.10  # share of the machine that others took
HEADINGS = (
    "",
    "durable msg/s",
    "rounds",
    "of bare",
    "router is",
    "p50 ms",
    "p99 ms",
    "CPU s",
    "PG CPU s",
    "RSS MB",
    "200s",
    "missing",
)


@dataclass(slots=True)
class Figures:
    """What was measured of one contestant; a turn a round, in their order."""

    peer: Peer
    turns: list[Turn] = field(default_factory=list)
    peak_rss_mb: float = 0.0
    acked: int = 0  # messages answered 200, those before the rounds among them
    missing: int = 0  # of them, not in the table
    refused: int = 0

    def median(self, name: str) -> float:
        """Return the median round's *name*, a field of `Turn`."""
        return statistics.median(self.all(name))

    def all(self, name: str) -> list[float]:
        """Return *name* of every round."""
        return [getattr(turn, name) for turn in self.turns]

    def ratio(self, other: "Figures") -> float:
        """Return how many times *other*'s rate this one's is: the median round."""
        pairs = zip(self.all("rate"), other.all("rate"), strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    @property
    def name(self) -> str:
        """Whose figures they are."""
        return self.peer.name

    @property
    def noisy(self) -> int:
        """How many rounds others took more than a tenth of the machine."""
        return sum(turn.foreign + turn.stolen > NOISY for turn in self.turns)

    @property
    def mark(self) -> str:
        """What its 200 does not say."""
        return "" if self.peer.durable and self.peer.stores else " *"


def data(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """Return everything, as JSON takes it."""
    by_name = {f.peer.name: f for f in figures}
    return [_row(f, by_name.get(BARE), by_name.get(ROUTER)) for f in figures]


def _row(f: Figures, bare: Figures | None, router: Figures | None) -> dict[str, Any]:
    names = Turn.__slots__
    return {
        "name": f.peer.name,
        "what": f.peer.what,
        "answers_before_it_is_durable": not f.peer.durable,
        "stores": f.peer.stores,
        "of_bare": f.ratio(bare) if bare else None,
        "router_is": router.ratio(f) if router else None,
        "median": {name: f.median(name) for name in names},
        "rounds": {name: f.all(name) for name in names},
        "peak_rss_mb": f.peak_rss_mb,
        "acked": f.acked,
        "missing": f.missing if f.peer.stores else None,
        "refused": f.refused,
        "noisy_rounds": f.noisy,
    }


def table(figures: Sequence[Figures]) -> str:
    """Return the figures as a table that is also Markdown."""
    return tabulate(HEADINGS, map(_cells, data(figures)))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    median, rates = row["median"], row["rounds"]["rate"]
    mark = " *" if row["answers_before_it_is_durable"] or not row["stores"] else ""
    return (
        row["what"] + mark,
        f"{median['rate']:.0f}",
        f"{min(rates):.0f}-{max(rates):.0f}",
        _times(row["of_bare"]),
        _times(row["router_is"]),
        f"{median['p50_ms']:.1f}",
        f"{median['p99_ms']:.1f}",
        f"{median['cpu_s']:.2f}",
        f"{median['postgres_cpu_s']:.2f}",
        f"{row['peak_rss_mb']:.0f}",
        str(row["acked"]),
        "-" if row["missing"] is None else str(row["missing"]),
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} x"


def notes(figures: Sequence[Figures], left_out: dict[str, str]) -> list[str]:
    """Return what a reader of the table has to know."""
    lines = [
        f"CPU: seconds per {PER:,} messages, until all of them are stored and told."
    ]
    marked = {f.peer.what: f for f in figures if f.mark}
    lines += [f"* {what}: {_reservation(f)}." for what, f in marked.items()]
    lines += [f"Left out: {name}, needs {what}." for name, what in left_out.items()]
    lines += [
        f"Noisy: {f.peer.name}, {f.noisy} of {len(f.turns)} rounds (others took up to "
        f"{max(t.foreign + t.stolen for t in f.turns):.0%} of the machine)."
        for f in figures
        if f.noisy
    ]
    return lines


def _reservation(f: Figures) -> str:
    if not f.peer.stores:
        return "stores nothing; its rate is of answers"
    return (
        f"answers before it is durable ({f.median('answered'):.0f} answers/s); its rate "
        "counts until the last message is stored, and a crash loses what waits"
    )


def draw(figures: Sequence[Figures]) -> Figure:
    """Return rates and CPU of all as bars."""
    picture = canvas(10, 0.6 * len(figures) + 1.6)
    left, right = picture.subplots(1, 2, sharey=True)
    names = [f.peer.what + f.mark for f in figures]
    rates = [f.median("rate") for f in figures]
    colours = ["C2" if f.peer.name == ROUTER else "C0" for f in figures]
    low = [f.median("rate") - min(f.all("rate")) for f in figures]
    high = [max(f.all("rate")) - f.median("rate") for f in figures]
    left.barh(names, rates, color=colours, xerr=[low, high], ecolor="0.3")
    left.invert_yaxis()
    left.set_xlabel("durable messages/s (median, range)")
    server = [f.median("cpu_s") for f in figures]
    right.barh(names, server, label="server")
    postgres = [f.median("postgres_cpu_s") for f in figures]
    right.barh(names, postgres, left=server, label="PostgreSQL")
    right.set_xlabel(f"CPU seconds per {PER:,} messages")
    right.legend()
    return picture
