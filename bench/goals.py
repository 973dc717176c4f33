"""What the router is to reach, and where in the scripts' data the figure for it lies."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.report import table

Found = Mapping[str, dict[str, Any]]  # a script's data, by its name
HEADINGS = ("figure", "measured", "must", "stretch", "")
REACHED, STRETCHED, MISSED = "reached", "stretch reached", "**not reached**"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of one script; `more`: it is to be at least, not at most."""

    what: str
    script: str
    where: Callable[[dict[str, Any]], float]  # KeyError, StopIteration: it is not there
    must: float
    stretch: float
    unit: str = ""
    more: bool = False

    def value(self, found: Found) -> float | None:
        """Return the figure; None where it was not measured."""
        try:
            return self.where(found[self.script])
        except (KeyError, StopIteration, TypeError):
            return None

    def verdict(self, value: float | None) -> str:
        """Return in a word or two what *value* reaches."""
        if value is None:
            return f"not measured ({self.script})"
        if self._holds(value, self.stretch):
            return STRETCHED
        return REACHED if self._holds(value, self.must) else MISSED

    def _holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.more else value <= bound

    def row(self, found: Found) -> tuple[str, ...]:
        """Return the goal's line of the table."""
        value = self.value(found)
        bounds = (f"{bound:g}{self.unit}" for bound in (self.must, self.stretch))
        shown = "-" if value is None else f"{value:.2f}{self.unit}"
        return self.what, shown, *bounds, self.verdict(value)


def only(rows: Iterable[dict[str, Any]], /, **wanted: Any) -> dict[str, Any]:
    """Return the first of *rows* that has all of *wanted*; raise StopIteration."""
    return next(row for row in rows if wanted.items() <= row.items())


def _times(whom: str, name: str, must: float, stretch: float, connections: int) -> Goal:
    def ratio(found: dict[str, Any]) -> float:
        rows = found["contestants"]
        return float(only(rows, name=name, connections=connections)["router_is"])

    what = f"durable msg/s / {whom}, {connections} connections"
    return Goal(what, "compare", ratio, must, stretch, more=True)


def _router(connections: int) -> Callable[[dict[str, Any]], dict[str, float]]:
    def medians(found: dict[str, Any]) -> dict[str, float]:
        servers = only(found["by_connections"], connections=connections)["servers"]
        return dict(only(servers, name="router")["median"])

    return medians


def _cpu(connections: int) -> Goal:
    def both(found: dict[str, Any]) -> float:
        median = _router(connections)(found)
        return median["cpu_s"] + median["postgres_cpu_s"]

    what = "CPU of router and PostgreSQL per 10,000 messages"
    return Goal(
        f"{what}, {connections} connections", "throughput", both, 2.2, 1.4, " s"
    )


def _wal(found: dict[str, Any]) -> float:
    weight = found["per_message"]
    return float(weight["wal_bytes"] - (weight["full_page_bytes"] or 0.0)) / 1000


def _grown(rows: int) -> Callable[[dict[str, Any]], float]:
    return lambda found: float(only(found["sizes"], rows=rows)["ratio"])


SATURATED = (50, 200)  # connections: with fewer than it could use, and with enough
GOALS = (
    *(
        _times(whom, name, must, stretch, connections)
        for whom, name, must, stretch in (
            ("bare aiohttp", "bare", 0.45, 0.65),
            ("the plan's design", "plan", 7, 10),
            ("express + one CTE", "cte", 2.3, 3.5),
            ("Go, one CTE a message", "go", 1.8, 2.8),
        )
        for connections in SATURATED
    ),
    Goal(
        "updates/s in bodies of 100 / in bodies of 1",
        "batch",
        lambda found: float(only(found["sizes"], size=100)["ratio"]),
        3,
        6,
        more=True,
    ),
    Goal(
        "p99 request to 200 at 500 msg/s",
        "latency",
        lambda found: float(only(found["series"], name="telling", rate=500.0)["p99"]),
        3,
        1.5,
        " ms",
    ),
    Goal(
        "p99 at saturation, 50 connections",
        "throughput",
        lambda f: _router(50)(f)["p99_ms"],
        20,
        12,
        " ms",
    ),
    Goal(
        "p99 at saturation, 200 connections",
        "throughput",
        lambda f: _router(200)(f)["p99_ms"],
        60,
        30,
        " ms",
    ),
    *map(_cpu, SATURATED),
    Goal(
        "peak resident memory under full load",
        "memory",
        lambda f: float(f["peak_mb"]),
        110,
        64,
        " MB",
    ),
    Goal(
        "start to ready, migrated database",
        "startup",
        lambda f: float(f["median_s"]),
        1.0,
        0.6,
        " s",
    ),
    Goal(
        "throughput with 1,000,000 rows / with none",
        "growth",
        _grown(1_000_000),
        0.9,
        0.95,
        more=True,
    ),
    Goal(
        "throughput with 10,000,000 rows / with none",
        "growth",
        _grown(10_000_000),
        0.8,
        0.95,
        more=True,
    ),
    Goal(
        "WAL per message, but for images of whole pages",
        "throughput",
        _wal,
        4,
        2.5,
        " kB",
    ),
)


def goals(found: Found) -> str:
    """Return the table of all goals."""
    return table(HEADINGS, [goal.row(found) for goal in GOALS])


def missed(found: Found) -> Iterator[str]:
    """Yield the figures that do not reach what they must."""
    for goal in GOALS:
        if goal.verdict(goal.value(found)) == MISSED:
            yield goal.what
