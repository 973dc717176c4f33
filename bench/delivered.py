"""What bench/delivery.py found, as a table and as a picture."""

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from bench.report import canvas, table


def words(found: dict[str, Any]) -> str:
    """Return a line a figure."""
    return table(("", "", "figure"), _rows(found))


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for part, figures in found.items():
        for name, value in figures.items():
            inside = value if isinstance(value, dict) else {name: value}
            where = f"{part}, {name}" if isinstance(value, dict) else part
            yield from ((where, key, f"{figure:,}") for key, figure in inside.items())


def draw(found: dict[str, Any]) -> Figure:
    """Return what a loan costs by the size of the claims, and how late a CRM hears."""
    picture = canvas(10, 4)
    left, right = picture.subplots(1, 2)
    loans = found.get("loans", {})
    for name in ("python_us", "postgres_us"):
        left.plot(
            list(loans), [loan[name] for loan in loans.values()], "o-", label=name
        )
    left.set_xlabel("rows of a claim")
    left.set_ylabel("CPU, us a row")
    rates = {k: v for k, v in found.get("lateness", {}).items() if "p50_ms" in v}
    for name in ("p50_ms", "p95_ms", "max_ms"):
        right.plot(list(rates), [v[name] for v in rates.values()], "o-", label=name)
    right.set_xlabel("messages/s")
    right.set_ylabel("from the 200 to the CRM, ms")
    for plot in (left, right):
        plot.set_ylim(bottom=0)
        plot.grid(alpha=0.3)
        if plot.lines:
            plot.legend()
    return picture
