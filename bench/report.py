"""What every measurement leaves behind: a table, its data as JSON, a picture.

All three go to the directory of --output as NAME.md, NAME.json and NAME.svg.
"""

import argparse
import json
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.machine import ROOT, description

PACKAGES = ("aiohttp", "asyncpg", "uvloop", "orjson")


@dataclass(slots=True)
class Report:
    """What one script found; `broken` says which promises were not kept."""

    name: str
    text: str  # Markdown: tables and notes
    data: dict[str, Any]
    picture: Figure | None = None
    packages: Sequence[str] = PACKAGES
    broken: list[str] = field(default_factory=list)

    def write(self, options: argparse.Namespace) -> int:
        """Print it; write it to the output directory; return the exit status."""
        print(f"\n{self.text}", flush=True)
        for line in self.broken:
            print(f"BROKEN: {line}", flush=True)
        place: Path = options.output
        place.mkdir(parents=True, exist_ok=True)
        found = self._circumstances(options) | self.data
        (place / f"{self.name}.md").write_text(self.text + "\n")
        (place / f"{self.name}.json").write_text(json.dumps(found, indent=1) + "\n")
        if self.picture:
            self.picture.savefig(place / f"{self.name}.svg", metadata={"Date": None})
        return 1 if self.broken else 0

    def _circumstances(self, options: argparse.Namespace) -> dict[str, Any]:
        given = {k: v for k, v in vars(options).items() if not isinstance(v, Path)}
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": description(*self.packages),
            "options": given,
            "arguments": arguments(sys.argv[1:]),
            "broken": self.broken,
        }


def arguments(words: Sequence[str]) -> str:
    """Return what a script was given, without the place of the output."""
    place = words.index("--output") if "--output" in words else len(words)
    return shlex.join([*words[:place], *words[place + 2 :]])


def commit() -> str:
    """Return the short hash of what is checked out, with a + if the code differs from it."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "-uno", "--", "router", "bench/*.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + "+" * bool(changed)


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.strip()


def parser(words: str, **more: Any) -> argparse.ArgumentParser:
    """Return a parser that has what every script takes."""
    made = argparse.ArgumentParser(description=f"{words}; see bench/README.md.", **more)
    made.add_argument(
        "--output", type=Path, required=True, help="a directory for the results"
    )
    made.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(2**31),
        help="default: a new one",
    )
    return made


def numbers(text: str) -> list[int]:
    """Read "1,10,100"."""
    return [int(word) for word in text.split(",")]


def rates(text: str) -> list[float]:
    """Read "0.5,50"."""
    return [float(word) for word in text.split(",")]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that is also Markdown."""
    lines = [tuple(headings), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "|".join(
        ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    )
    first, *others = (_line(line, widths) for line in lines)
    return "\n".join([first, f"|{rule}|", *others])


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1])] + [cell.rjust(width) for cell, width in others]
    return f"| {' | '.join(padded)} |"


def canvas(width: float, height: float) -> Figure:
    """Return an empty picture; the same figures give the same file, its words are text."""
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none"})
    return Figure(figsize=(width, height), layout="constrained")


def axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """Return a picture with one set of axes."""
    picture = canvas(8, 4.5)
    made = picture.subplots()
    made.set_title(title)
    made.set_xlabel(x)
    made.set_ylabel(y)
    made.grid(alpha=0.3)
    return picture, made
