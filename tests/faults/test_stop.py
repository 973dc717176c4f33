"""SIGTERM: whoever asked gets an answer, and every 200 stays true."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faultproxy import FaultProxy
from tests.faults.harness import Load, Service, Sink, check, quiet, say, service
from tests.servers import until

SEED = 4
DRAIN_S = 6.0
SLACK_S = 4.0  # pools and the process itself close after the drain
STOPS = 5


def drained(router: Service) -> list[dict[str, Any]]:
    return router.lines("drained")


def nothing_but_200_and_503(load: Load) -> None:
    ledger = load.ledger
    say(
        f"seed {SEED}: {ledger.answers}, {ledger.refused} refused, {ledger.unknown} cut"
    )
    assert ledger.answers.keys() <= {200, 503}
    assert not ledger.unknown, "a request was left without an answer"


async def stopped(database: str, directory: Path, sink: Sink, stops: int) -> None:
    settings = {"PSI_DRAIN_TIMEOUT_S": str(DRAIN_S)}
    async with service(directory, database, sink, **settings) as router:
        load = Load(router.url, SEED)
        async with load.running():
            for _ in range(stops):
                await load.acks(100)
                router.send(signal.SIGTERM)
                assert await router.exit_status(DRAIN_S + SLACK_S) == 0
                router.start()
            await load.acks(100)
        await load.settle()
        await quiet(database)
        assert await check(database, load.ledger, sink) == {}
    nothing_but_200_and_503(load)
    assert [line["left"] for line in drained(router)] == [0] * stops
    assert load.ledger.refused, "nobody came while it was away: the stops were no stops"


async def test_a_stop_under_load_answers_everybody_and_loses_nothing(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await stopped(database, tmp_path, sink, STOPS)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_20_stops_under_load_answer_everybody_and_lose_nothing(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await stopped(database, tmp_path, sink, 20)


async def test_a_second_sigterm_changes_nothing_in_the_data(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    settings = {"PSI_DRAIN_TIMEOUT_S": str(DRAIN_S)}
    async with service(tmp_path, database, sink, **settings) as router:
        load = Load(router.url, SEED)
        async with load.running():
            for _ in range(STOPS):
                await load.acks(100)
                router.send(signal.SIGTERM)
                await until(lambda: router.lines("stopping")[len(drained(router)) :])
                assert router.running.poll() is None, "it was gone before the second"
                router.send(signal.SIGTERM)
                assert await router.exit_status(DRAIN_S + SLACK_S) == 0
                router.start()
            await load.acks(100)
        await load.settle()
        await quiet(database)
        assert await check(database, load.ledger, sink) == {}
    nothing_but_200_and_503(load)
    assert len(drained(router)) == STOPS


async def test_a_stop_with_postgresql_black_holed_ends_in_time_and_answers_everybody(
    faulty_database: tuple[str, FaultProxy], tmp_path: Path, sink: Sink
) -> None:
    dsn, proxy = faulty_database
    settings = {"PSI_DRAIN_TIMEOUT_S": str(DRAIN_S), "PSI_ACK_TIMEOUT_S": "30"}
    clock = asyncio.get_running_loop().time
    async with service(tmp_path, dsn, sink, **settings) as router:
        load = Load(router.url, SEED)
        async with load.running():
            await load.acks(100)
            proxy.black_hole = True
            await until(lambda: load.in_flight > 10)
            began = clock()
            router.send(signal.SIGTERM)
            assert await router.exit_status(DRAIN_S + SLACK_S) == 0
            say(f"stopped after {clock() - began:.2f} s")
            proxy.black_hole = False
            router.start()
            await load.acks(100)
        await load.settle()
        await quiet(dsn)
        assert await check(dsn, load.ledger, sink) == {}
    nothing_but_200_and_503(load)
    assert load.ledger.answers[503], "nobody waited for the database"
    (line,) = drained(router)
    assert line["left"] > 0
