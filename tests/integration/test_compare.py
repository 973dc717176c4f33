"""The bench's comparison counts what is stored, and finds what is not."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.bed import ROUTER
from bench.compare import chosen, measure
from bench.comparison import Figures, notes, table
from bench.contestant import CROWDS, Turn
from bench.machine import ROOT, python
from bench.peers import PEERS, Peer

SMALL = {"rounds": 2, "seconds": 0.3, "most": 200, "contacts": 40}
BY_NAME = {peer.name: peer for peer in PEERS}


def figures(peer: Peer, *rates: float, foreign: float = 0.0) -> Figures:
    turns = [Turn(rate, 2 * rate, 1.0, 2.0, 3.0, 4.0, foreign, 0.0) for rate in rates]
    return Figures(peer, turns)


def test_a_comparison_writes_what_it_found(
    postgres_binaries: Path, tmp_path: Path
) -> None:
    options = [f"--{name}={value}" for name, value in SMALL.items()]
    run = subprocess.run(
        [
            *python("bench.compare"),
            *options,
            "--connections=4,8",
            "--peers=bare,queued",
            "--output",
            tmp_path,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "compare.json").read_text())
    bare, queued, router, *others = found["contestants"]
    assert [one["connections"] for one in others] == [8, 8, 8]
    assert [bare["name"], queued["name"], router["name"]] == ["bare", "queued", ROUTER]
    assert bare["missing"] is None
    assert queued["missing"] == router["missing"] == 0
    # Two crowds, the warm-up, two rounds.
    crowds = sum(CROWDS) * SMALL["contacts"]
    assert crowds < queued["acked"] <= crowds + 2 * 3 * SMALL["most"]
    assert len(router["rounds"]["rate"]) == SMALL["rounds"]
    assert router["of_bare"] == bare["router_is"] > 0
    assert (tmp_path / "compare.md").read_text() in run.stdout
    picture = (tmp_path / "compare.svg").read_text()
    assert all(one["what"] in picture for one in found["contestants"])


async def test_a_200_that_stored_nothing_is_found(
    postgres_binaries: Path, unpinned: None
) -> None:
    liar = Peer("liar", "says it stored", BY_NAME["bare"].command)
    options = argparse.Namespace(seed=1, untold=True, connections=[8], **SMALL)
    found, router = (await measure(options, [liar]))[8]
    assert found.missing == found.acked > 0
    assert router.missing == 0 < router.acked


def test_who_cannot_run_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    peers, left_out = chosen(["bare", "cte"])
    assert [peer.name for peer in peers] == ["bare"]
    assert "node" in left_out["cte"]
    assert f"Left out: cte, needs {left_out['cte']}." in notes([], left_out)


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    slow, fast = figures(BY_NAME["cte"], 10, 10, 40), figures(BY_NAME["go"], 20, 30, 40)
    assert fast.ratio(slow) == pytest.approx(2.0)


def test_reservations_and_noise_are_told() -> None:
    after = figures(BY_NAME["after"], 100, foreign=0.5)
    router = figures(Peer(ROUTER, "the router", [sys.executable]), 300)
    text = table([after, router])
    assert f"{after.peer.what} *" in text
    assert "3.00 x" in text
    told = "\n".join(notes([after, router], {}))
    assert "answers before it is durable (200 answers/s)" in told
    assert "Noisy: after, 1 of 1 rounds (others took up to 50%" in told
    assert "Noisy: router" not in told
