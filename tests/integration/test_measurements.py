"""Each measurement runs to its end, finds something, and leaves only its results."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.machine import ROOT, python
from bench.results import Script, measured

Found = dict[str, Any]


class Small(NamedTuple):
    """A script, options that make it short, and what its data must be."""

    name: str
    options: str
    right: Callable[[Found], bool]


SMALL = [
    Small(
        "throughput",
        "--rounds 1 --count 300 --connections 8,16 --contacts 40 --rate 50 --seconds 1",
        lambda found: (
            [one["connections"] for one in found["by_connections"]] == [8, 16]
            and found["per_message"]["messages"] == 300
            and found["per_message"]["wal_bytes"] > 1000
            and found["per_message"]["tables"]["public.mensajes"]["rows"] > 100
        ),
    ),
    Small(
        "latency",
        "--rates 20,40 --seconds 2 --answers 60 --idle 2 --contacts 40",
        lambda found: (
            [(s["name"], s["rate"], s["answers"]) for s in found["series"]]
            == [
                (name, rate, answers)
                for rate, answers in ((0.5, 1), (20, 60), (40, 80))
                for name in ("bare", "untold", "telling")
            ]
        ),
    ),
    Small(
        "batch",
        "--sizes 1,20 --rounds 1 --seconds 0.5 --most 200 --contacts 40",
        lambda found: (
            [one["size"] for one in found["sizes"]] == [1, 20]
            and found["sizes"][1]["ratio"] > 0
        ),
    ),
    Small(
        "growth",
        "--rows 0,1000 --rounds 1 --seconds 0.5 --most 200 --contacts 40",
        lambda found: [one["rows"] for one in found["sizes"]] == [0, 1000],
    ),
    Small(
        "memory",
        "--seconds 1 --soak 2 --rate 50 --connections 8 --contacts 40",
        lambda found: (
            10 < found["idle_mb"] <= found["peak_mb"] < 250
            and found["loaded"] > 0 < found["soaked"]
        ),
    ),
    Small(
        "startup",
        "--starts 2",
        lambda found: (
            len(found["starts"]) == 2
            and all(0 < one["cpu_s"] <= one["ready_s"] for one in found["starts"])
        ),
    ),
    Small(
        "delivery",
        "--attempts 80 --rounds 1 --rows 90 --dead 500 --claims 3 --rates 20 --burst 100",
        lambda found: (
            set(found["parts"]) == {"attempts", "loans", "backlog", "lateness"}
        ),
    ),
    Small(
        "scaling",
        "--rounds 1 --count 300 --connections 16 --contacts 40",
        lambda found: (
            [side["processes"] for side in found["sides"]] == ["1", "2", "2, apart"]
            and [len(side["shares"]) for side in found["sides"]] == [1, 2, 2]
            and all(min(side["shares"]) > 0 for side in found["sides"])
        ),
    ),
    Small(
        "model",
        "--fit 1,16 --check 4 --rounds 1 --count 300 --contacts 40 --simulated 500",
        lambda found: (
            [(p["connections"], p["held_out"]) for p in found["points"]]
            == [(1, False), (4, True), (16, False)]
            and all(p["model_rate"] > 0 and p["batch"] >= 1 for p in found["points"])
        ),
    ),
    Small(
        "profile",
        "--seconds 2 --most 4000 --contacts 40",
        lambda found: (
            found["samples"] > 0
            and any(one["name"].startswith("router/") for one in found["modules"])
        ),
    ),
]


def run(name: str, options: str, output: Path) -> subprocess.CompletedProcess[str]:
    command = [*python(f"bench.{name}"), "--output", str(output), "--seed", "5"]
    return subprocess.run(
        [*command, *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def place(
    postgres_binaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where a measurement keeps its databases while it runs."""
    place = tmp_path / "temp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    return place


@pytest.mark.slow
@pytest.mark.parametrize("small", SMALL, ids=[small.name for small in SMALL])
def test_a_measurement_writes_what_it_found(
    small: Small, place: Path, tmp_path: Path
) -> None:
    name, output = small.name, tmp_path / "results"
    made = run(name, small.options, output)
    assert made.returncode == 0, made.stdout + made.stderr
    found = json.loads((output / f"{name}.json").read_text())
    assert small.right(found), found
    assert found["broken"] == []
    assert found["options"]["seed"] == 5
    assert (output / f"{name}.md").read_text() in made.stdout
    assert "<svg" in (output / f"{name}.svg").read_text()
    assert not list(place.glob("psi-bench-*")), "it cleans up"


def test_a_script_that_fails_is_named_and_shows_nothing_older(tmp_path: Path) -> None:
    (tmp_path / "startup.json").write_text("{}")
    wrong = Script("startup", "?", "--starts many")
    assert measured(wrong, tmp_path) == "ended with status 2"
    assert not (tmp_path / "startup.json").exists()


def test_a_script_that_takes_too_long_is_ended_and_cleans_up(
    place: Path, tmp_path: Path
) -> None:
    endless = Script("startup", "?", "--starts 100000")
    assert measured(endless, tmp_path, 6.0) == "took longer than 6 s"
    assert not list(place.glob("psi-bench-*"))
