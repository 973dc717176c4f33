"""The measurements of several processes, and of the model, run and lose nothing."""

import json
import subprocess
from pathlib import Path

from bench.machine import ROOT, python

SMALL = ["--rounds=1", "--count=300", "--contacts=40", "--seed=1"]


def run(module: str, file: Path, *options: str) -> dict[str, object]:
    """Run a measurement and return what it wrote."""
    done = subprocess.run(
        [*python(module), *SMALL, *options, f"--json={file}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(file.read_text())
    return found


def test_each_number_of_processes_has_its_turns_and_each_process_its_share(
    postgres_binaries: Path, tmp_path: Path
) -> None:
    found = run("bench.scaling", tmp_path / "found.json", "--connections=16")
    assert found["missing"] == 0
    sides = found["sides"]
    assert isinstance(sides, list)
    assert [side["processes"] for side in sides] == [1, 2]
    for side in sides:
        assert side["rate"] > 0
        assert len(side["shares"]) == side["processes"]
        assert all(share > 0 for share in side["shares"])


def test_the_model_is_fitted_and_asked_about_what_it_has_not_seen(
    postgres_binaries: Path, tmp_path: Path
) -> None:
    options = ("--fit", "1", "16", "--check", "4", "--simulated=500")
    found = run("bench.model", tmp_path / "found.json", *options)
    rows = found["points"]
    assert isinstance(rows, list)
    assert [(row["connections"], row["held_out"]) for row in rows] == [
        (1, False),
        (4, True),
        (16, False),
    ]
    assert all(row["model_rate"] > 0 and row["batch"] >= 1 for row in rows)
