"""PostgreSQL goes away in three ways: no false 200, 503 in time, healed by itself."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from router.store.embedded import EmbeddedPostgres
from tests.faultproxy import FaultProxy
from tests.faults.harness import SETTINGS, Load, Sink, check, quiet, say, service
from tests.servers import until

SEED = 12
HEALED_S = 5.0
ACK_TIMEOUT_S = float(SETTINGS["PSI_ACK_TIMEOUT_S"])
SLACK_S = 1.0  # of a machine that runs other tests too


def kill_all(server: EmbeddedPostgres) -> None:
    """kill -9 the postmaster and all its children."""
    assert server.pid
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    for pid in (str(server.pid), *children.split()):
        with contextlib.suppress(ProcessLookupError):  # a session may just have ended
            os.kill(int(pid), signal.SIGKILL)


async def sees_503(load: Load) -> None:
    await until(lambda: load.ledger.answers[503] > 0, within_s=ACK_TIMEOUT_S + SLACK_S)


async def healed(load: Load) -> float:
    """Return the seconds to the first 200 from now."""
    clock = asyncio.get_running_loop().time
    back = clock()
    await load.acks(within_s=HEALED_S)
    return clock() - back


async def all_is_well(dsn: str, load: Load, sink: Sink) -> None:
    await load.settle()
    await quiet(dsn)
    ledger = load.ledger
    say(f"seed {SEED}: {ledger.answers}, slowest {max(ledger.latencies_s):.2f} s")
    assert await check(dsn, ledger, sink) == {}
    assert ledger.answers.keys() == {200, 503}
    assert not ledger.unknown, "the router cut a request"
    assert max(ledger.latencies_s) < ACK_TIMEOUT_S + SLACK_S


async def killed(
    own_postgres: EmbeddedPostgres, directory: Path, sink: Sink, times: int
) -> None:
    dsn, in_flight = own_postgres.dsn(), []
    async with service(directory, dsn, sink) as router:
        load = Load(router.url, SEED)
        async with load.running():
            for _ in range(times):
                await load.acks(100)
                await until(lambda: load.in_flight)
                in_flight.append(load.in_flight)
                kill_all(own_postgres)
                await sees_503(load)
                await own_postgres.stop()
                await own_postgres.start()
                say(f"first 200 after {await healed(load):.2f} s")
        await all_is_well(dsn, load, sink)
    assert all(in_flight)


async def test_postgresql_killed_mid_batch_costs_no_acked_message(
    own_postgres: EmbeddedPostgres, tmp_path: Path, sink: Sink
) -> None:
    await killed(own_postgres, tmp_path, sink, 3)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_postgresql_killed_10_times_costs_no_acked_message(
    own_postgres: EmbeddedPostgres, tmp_path: Path, sink: Sink
) -> None:
    await killed(own_postgres, tmp_path, sink, 10)


async def test_a_commit_that_is_not_on_the_disk_turns_these_tests_red(
    own_postgres: EmbeddedPostgres, tmp_path: Path, sink: Sink
) -> None:
    dsn, found = own_postgres.dsn(), dict[str, list[Any]]()
    async with service(tmp_path, dsn, sink, mutant="no_fsync") as router:
        for seed in range(SEED, SEED + 10):  # a kill may come just after a flush
            load = Load(router.url, seed)
            async with load.running():
                await load.acks(100)
                kill_all(own_postgres)
            await own_postgres.stop()
            await own_postgres.start()
            await router.ready()
            found |= await check(dsn, load.ledger, sink)
            if "acked, not stored" in found:
                break
    assert "acked, not stored" in found


async def stopped(
    server: EmbeddedPostgres, directory: Path, sink: Sink, s: float
) -> None:
    dsn = server.dsn()
    async with service(directory, dsn, sink) as router:
        load = Load(router.url, SEED, rate=200)
        async with load.running():
            await load.acks(100)
            await server.stop()
            await sees_503(load)
            await asyncio.sleep(s)  # the outage
            assert (await router.get("/ready")).status == 503
            assert (await router.get("/health")).status == 200
            before = load.ledger.answers[200]
            await server.start()
            say(f"first 200 after {await healed(load):.2f} s")
        assert load.ledger.answers[200] > before
        await all_is_well(dsn, load, sink)


async def test_postgresql_stopped_for_10_s_is_503_and_heals_within_5_s(
    own_postgres: EmbeddedPostgres, tmp_path: Path, sink: Sink
) -> None:
    await stopped(own_postgres, tmp_path, sink, 10.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_postgresql_stopped_for_60_s_is_503_and_heals_within_5_s(
    own_postgres: EmbeddedPostgres, tmp_path: Path, sink: Sink
) -> None:
    await stopped(own_postgres, tmp_path, sink, 60.0)


async def black_holed(
    faulty: tuple[str, FaultProxy], directory: Path, sink: Sink, s: float
) -> None:
    dsn, proxy = faulty
    async with service(directory, dsn, sink) as router:
        load = Load(router.url, SEED, rate=200)
        async with load.running():
            await load.acks(100)
            proxy.black_hole = True
            await sees_503(load)
            acked = load.ledger.answers[200]
            await asyncio.sleep(s)  # the outage
            assert load.ledger.answers[200] == acked
            proxy.black_hole = False
            say(f"first 200 after {await healed(load):.2f} s")
        await all_is_well(dsn, load, sink)


async def test_postgresql_black_holed_for_10_s_is_503_and_heals_within_5_s(
    faulty_database: tuple[str, FaultProxy], tmp_path: Path, sink: Sink
) -> None:
    await black_holed(faulty_database, tmp_path, sink, 10.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_postgresql_black_holed_for_60_s_is_503_and_heals_within_5_s(
    faulty_database: tuple[str, FaultProxy], tmp_path: Path, sink: Sink
) -> None:
    await black_holed(faulty_database, tmp_path, sink, 60.0)
