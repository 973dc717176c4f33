"""What the measurements compute: percentiles, shares, bytes, verdicts."""

import argparse
import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from bench.bed import bare
from bench.contestant import turn
from bench.flame import folded, graph, module, shares
from bench.goals import GOALS, MISSED, REACHED, STRETCHED, Goal, missed
from bench.latency import Series, percentile
from bench.load import Run, open_loop
from bench.machine import ROOT
from bench.memory import slope
from bench.report import Report, arguments, commit, table
from bench.results import HEADLINE, SHORT, found, headline, results
from bench.volume import grown, images

STALL_S = 0.3
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WALDUMP = """\
Type                        N      (%)     Record size      (%)   FPI size      (%)
Heap                     2000 ( 49.93)          184000 ( 58.26)       8192 (100.00)
Total                    4006                   315834 [97.47%]       8192 [2.53%]
"""


class Stalling(asyncio.Protocol):
    """Answers at once, except that for a while after its start it answers nobody."""

    until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        wait = max(0.0, self.until - time.perf_counter())
        loop.call_later(wait, self.transport.write, ANSWER)


# --- no coordinated omission


async def test_a_stall_is_charged_for_every_request_that_was_due_in_it() -> None:
    Stalling.until = time.perf_counter() + STALL_S
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stalling, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    request = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    run = await open_loop(f"http://127.0.0.1:{port}/", [request] * 40, 100.0, 1)
    server.close()
    assert len(run.acked) == 40
    # One connection: only one request was on its way, and all the others waited for it.
    assert sum(latency > 0.05 for latency in run.latencies_s) >= 15
    assert max(run.latencies_s) > STALL_S - 0.1
    assert run.took_s > 0.35, "the clock was kept"


def test_a_percentile_needs_answers_beyond_it() -> None:
    assert percentile([1.0] * 500 + [2.0] * 500, 0.5) == 2.0
    assert percentile([float(n) for n in range(1000)], 0.99) == 990.0
    assert percentile([float(n) for n in range(1000)], 0.999) is None
    assert percentile([float(n) for n in range(5000)], 0.999) == 4995.0


def test_a_curve_begins_with_the_slowest_and_ends_with_all() -> None:
    series = Series("router", 50.0)
    series.take(Run(list(range(300)), 0, [n / 1000 for n in range(300)], [0.0] * 300))
    curve = series.curve()
    assert curve[0] == (1 / 300, 299.0)
    assert curve[-1] == (1.0, 0.0)
    assert len(curve) <= 101
    assert series.data()["p99"] is None
    assert series.data()["max"] == 299.0


# --- the profile


def test_stacks_are_folded_and_shared_by_module() -> None:
    stacks = folded(
        [
            "run (router/app.py:3);a (router/store/rows.py:9);b (aiohttp/web.py:1) 3",
            "run (router/app.py:3);a (router/store/rows.py:12) 1",
            "",
        ]
    )
    assert shares(stacks) == [
        ("aiohttp", 0.75, 0.75),
        ("router/store/rows.py", 0.25, 1.0),
        ("router/app.py", 0.0, 1.0),
    ]


def test_a_frame_without_a_folder_is_its_file() -> None:
    assert module("digest (hmac.py:187)") == "hmac.py"
    assert module("<module> (<frozen abc>:117)") == "<frozen abc>"


def test_a_flame_graph_has_a_box_a_frame_as_wide_as_its_share() -> None:
    stacks = Counter(
        {("run (router/app.py)", "a <b> (x.py)"): 1, ("run (router/app.py)",): 3}
    )
    drawn = graph(stacks, "4 samples")
    assert "<title>run (router/app.py): 100.0%</title>" in drawn
    assert "<title>a &lt;b&gt; (x.py): 25.0%</title>" in drawn
    assert 'width="300.0"' in drawn


# --- bytes, memory, turns


def test_full_pages_are_read_from_the_total() -> None:
    assert images(WALDUMP) == 8192


def test_what_grew_is_told_and_the_largest_comes_first() -> None:
    before = {"a": (10, 5), "b": (0, 0), "c": (7, 7)}
    after = {"a": (20, 5), "b": (100, 50), "c": (7, 7)}
    assert list(grown(before, after).items()) == [("b", (100, 50)), ("a", (10, 0))]


def test_a_slope_is_of_an_hour() -> None:
    assert slope([(0.0, 50.0), (1.0, 51.0), (2.0, 52.0)]) == pytest.approx(3600.0)
    assert slope([(0.0, 50.0)]) == 0.0


def test_a_turn_counts_messages_not_bodies() -> None:
    run = Run(list(range(10)), 0, [0.01] * 10, took_s=2.0)
    made = turn(bare(), run, 1000, 4.0, (1.0, 2.0, 3.0, 4.0, 0.5))
    assert made.rate == made.answered == 500.0
    assert (made.cpu_s, made.postgres_cpu_s) == (10.0, 20.0)


# --- the goals and the results


@pytest.mark.parametrize(
    ("goal", "value", "said"),
    [
        (Goal("g", "s", lambda f: f["x"], 3, 1.5), 1.4, STRETCHED),
        (Goal("g", "s", lambda f: f["x"], 3, 1.5), 3.0, REACHED),
        (Goal("g", "s", lambda f: f["x"], 3, 1.5), 3.1, MISSED),
        (Goal("g", "s", lambda f: f["x"], 7, 10, more=True), 6.9, MISSED),
        (Goal("g", "s", lambda f: f["x"], 7, 10, more=True), 10, STRETCHED),
        (Goal("g", "s", lambda f: f["y"], 7, 10, more=True), 10, "not measured (s)"),
    ],
)
def test_a_verdict_says_what_is_reached(goal: Goal, value: float, said: str) -> None:
    assert goal.row({"s": {"x": value}})[-1] == said


def test_every_goal_is_of_a_script_of_the_short_set() -> None:
    assert {goal.script for goal in GOALS} <= {script.name for script in SHORT}
    assert all(goal.value({}) is None for goal in GOALS)


def test_the_wal_of_a_message_is_without_images_of_pages() -> None:
    (goal,) = (goal for goal in GOALS if goal.what.startswith("WAL"))
    weight = {"wal_bytes": 7000.0, "full_page_bytes": 3400.0}
    assert goal.value({"throughput": {"per_message": weight}}) == 3.6
    told = {"per_message": weight | {"full_page_bytes": None}}
    assert goal.value({"throughput": told}) == 7.0


def test_what_failed_what_broke_and_what_is_missing_is_said(tmp_path: Path) -> None:
    data = {
        "at": "2026-01-01T00:00:00",
        "commit": "abc",
        "machine": {"cores": "2"},
        "options": {"seed": 7},
        "arguments": "--rounds 3",
        "broken": ["router: 1 of 9 messages answered 200 are not in the table"],
        "left_out": {"go": "bench/baselines/go/receiver (make peers)"},
        "contestants": [
            {
                "name": "bare",
                "connections": 200,
                "router_is": 0.2,
                "noisy_rounds": 1,
                "rounds": {"rate": [5.0, 6.0]},
            }
        ],
    }
    (tmp_path / "compare.json").write_text(json.dumps(data))
    (tmp_path / "compare.md").write_text("the table\n")
    text = results(found(tmp_path), {"latency": "ended with status 1"}, tmp_path)
    assert "**latency ended with status 1**" in text
    assert "go, needs bench/baselines/go/receiver (make peers)" in text
    assert "BROKEN: router: 1 of 9" in text
    assert "In 1 of 2 turns others took" in text
    assert "the table" in text
    assert list(missed(found(tmp_path))) == [
        "durable msg/s / bare aiohttp, 200 connections"
    ]
    assert "`python -m bench.compare --output bench/results --rounds 3` (2026" in text
    assert text.count("Not measured: `") == len(SHORT) - 1


def test_a_report_is_written_and_a_broken_promise_is_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = argparse.Namespace(output=tmp_path, seed=7)
    assert Report("one", "words", {"x": 1}).write(options) == 0
    assert Report("two", "words", {}, broken=["a 200 is missing"]).write(options) == 1
    assert "BROKEN: a 200 is missing" in capsys.readouterr().out
    written = json.loads((tmp_path / "one.json").read_text())
    assert written["options"] == {"seed": 7}, "no path of this machine"
    assert written["commit"] == commit()
    assert (tmp_path / "one.md").read_text() == "words\n"


def test_what_a_script_was_given_is_told_without_a_place() -> None:
    assert (
        arguments(["--rounds", "3", "--output", "x/y", "--untold"])
        == "--rounds 3 --untold"
    )
    assert arguments([]) == ""


def test_a_table_is_markdown() -> None:
    assert table(("", "n"), [("a", "12")]).splitlines() == [
        "|   |  n |",
        "|---|---:|",
        "| a | 12 |",
    ]


def test_the_readme_tells_what_the_results_say() -> None:
    told = HEADLINE.search((ROOT / "README.md").read_text())
    assert told
    assert told[0] == headline(found())
