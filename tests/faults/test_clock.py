"""The wall clock is moved under a running router: nothing lost, nothing stuck, no storm."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import (
    Load,
    Service,
    Sink,
    check,
    connected,
    quiet,
    service,
)
from tests.faults.modes import Voices, metric, voices
from tests.servers import until

SEED = 47
HOUR, DAY = 3600, 86400
WAITS_S = 5.0


class Clock:
    """The clock of one process, by libfaketime: only the time of day, not the monotonic."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.settings = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.move(0)

    def move(self, by_s: int) -> None:
        """Let the process be so far ahead of the others."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{by_s:+d}\n")
        new.replace(self._file)


@pytest.fixture
def clock(faketime: Path, tmp_path: Path) -> Clock:
    return Clock(faketime, tmp_path / "clock")


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Voices]:
    with voices(tmp_path) as listening:
        yield listening


@pytest.mark.parametrize("by_s", [HOUR, -HOUR, 3 * DAY], ids=["+1h", "-1h", "+3d"])
async def test_a_clock_that_jumps_is_named_and_costs_nothing(
    database: str, heard: Voices, clock: Clock, tmp_path: Path, by_s: int
) -> None:
    sink = Sink(SEED, fails=0.05)
    settings = {**heard.settings, **clock.settings, "PSI_RETRY_SCHEDULE_S": "1,1,1,1,1"}
    async with sink.running(), service(tmp_path, database, sink, **settings) as router:
        load = Load(router.url, SEED, rate=100)
        async with load.running():
            await load.acks(50)
            await heard.all_say(router, "ready")
            clock.move(by_s)
            await load.acks(200)
            await heard.all_say(router, "clock off", "to the database's")
            assert (await router.get("/ready")).status == 200
            skew = await metric(router, "psi_clock_skew_seconds")
            assert skew == pytest.approx(-by_s, abs=2.0)
            clock.move(0)
            await load.acks(50)
        await heard.all_say(router, "ready")
        await load.settle()
        await quiet(database, within_s=15.0)
        assert await check(database, load.ledger, sink) == {}
        assert set(load.ledger.answers) == {200}
        assert max(load.ledger.latencies_s) < WAITS_S
        said = [line["by_s"] for line in router.lines("clock_jumped")]
        assert said == pytest.approx([by_s, -by_s], abs=2.0)
        assert await metric(router, "psi_clock_jumps_total") == 2.0
    # No attempt came before its time, and none is left for a time that the jump made up.
    assert sink.attempts.total() < len(sink.told) * 1.5
    assert min(durations(router)) >= 0
    assert max(durations(router)) < WAITS_S * 1000


def durations(router: Service) -> list[float]:
    return [
        line["duration"] for line in itertools.chain(router.lines("message_processed"))
    ]


async def test_what_waits_for_a_destination_is_brought_forward_though_the_clock_is_ahead(
    database: str, clock: Clock, tmp_path: Path
) -> None:
    sink = Sink(SEED, fails=1.0)
    settings = {**clock.settings, "PSI_RETRY_SCHEDULE_S": "600,600"}
    async with sink.running(), service(tmp_path, database, sink, **settings) as router:
        load = Load(router.url, SEED, rate=50)
        async with load.running():
            await load.acks(30)
            await until(lambda: sink.refused >= 5)
        clock.move(3 * DAY)
        sink._fails = 0.0
        await load.settle()
        await quiet(database, within_s=40.0)  # and not ten minutes later
        assert await check(database, load.ledger, sink) == {}
    async with connected(database) as connection:
        attempts = "select max(attempts) from router.outbox"
        assert await connection.fetchval(attempts) <= 3
