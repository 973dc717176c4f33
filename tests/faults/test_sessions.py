"""PostgreSQL is there and does not do as asked: sessions end, answers are lost, it is slow."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from router.cli.traffic import Body, Traffic
from router.errors import Transient
from router.store.database import ACQUIRE_S, Database
from router.store.embedded import EmbeddedPostgres
from tests.faultproxy import FaultProxy
from tests.faults.harness import (
    START,
    Load,
    Service,
    Sink,
    check,
    connected,
    quiet,
    say,
    service,
)
from tests.faults.test_postgres import (
    ACK_TIMEOUT_S,
    SLACK_S,
    all_is_well,
    healed,
    sees_503,
)
from tests.servers import until

SEED = 11
SHORT_S, LONG_S = 5.0, 60.0
END_ONE = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = 'psi-router' and datname = current_database()
order by random() limit 1"""
LOST = 3  # answers to a commit


async def nothing_is_lost(
    dsn: str, load: Load, sink: Sink, *, ack_timeout_s: float = ACK_TIMEOUT_S
) -> None:
    await load.settle()
    await quiet(dsn)
    ledger = load.ledger
    say(f"seed {SEED}: {ledger.answers}, slowest {max(ledger.latencies_s):.2f} s")
    assert await check(dsn, ledger, sink) == {}
    assert ledger.answers.keys() <= {200, 503}
    assert not ledger.unknown, "the router cut a request"
    assert max(ledger.latencies_s) < ack_timeout_s + SLACK_S


def bodies(**more: Any) -> Iterable[Body]:
    return Traffic(seed=SEED, start=START, text="{id}", **more).bodies()


async def sessions_ended(database: str, directory: Path, sink: Sink, s: float) -> None:
    ended, clock = 0, asyncio.get_running_loop().time
    async with (
        service(directory, database, sink) as router,
        connected(database) as administrator,
    ):
        load = Load(router.url, SEED, rate=200)
        async with load.running():
            await load.acks(20)
            end = clock() + s
            while clock() < end:
                ended += len(await administrator.fetch(END_ONE))
                await asyncio.sleep(0.2)  # the pace of the faults
            await load.acks(20)
        await nothing_is_lost(database, load, sink)
    say(f"{ended} sessions ended")
    assert ended >= s


async def test_sessions_ended_at_random_for_5_s_cost_nothing(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await sessions_ended(database, tmp_path, sink, SHORT_S)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_sessions_ended_at_random_for_60_s_cost_nothing(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await sessions_ended(database, tmp_path, sink, LONG_S)


def past(dsn: str, proxy: FaultProxy) -> str:
    """Return the address behind *proxy*."""
    parts = urlsplit(dsn)
    where = parts.netloc.replace(f":{proxy.port}", f":{proxy.upstream[1]}")
    return parts._replace(netloc=where).geturl()


async def test_a_commit_whose_answer_is_lost_is_one_row_and_one_notification(
    faulty_database: tuple[str, FaultProxy], tmp_path: Path, sink: Sink
) -> None:
    dsn, proxy = faulty_database
    some, lost = iter(bodies()), 0
    async with service(tmp_path, dsn, sink) as router:
        await asyncio.gather(*(router.post(next(some).data) for _ in range(100)))
        async with connected(past(dsn, proxy)) as other:
            for _ in range(4 * LOST):
                lost += await answer_lost(router, proxy, other, next(some))
                if lost == LOST:
                    break
            await quiet(past(dsn, proxy))
            counts = await other.fetchrow(
                "select count(*), count(distinct whatsapp_message_id) as ids,"
                " (select count(*) from router.outbox) as told from mensajes"
            )
    assert lost == LOST, "no answer was lost after its commit"
    assert len(set(counts.values())) == 1
    assert {len(keys) for keys in sink.told.values()} == {1}


async def answer_lost(
    router: Service, proxy: FaultProxy, other: Any, body: Body
) -> bool:
    """Cut a commit's answer off; return whether it had been committed."""
    (wamid,) = body.messages

    async def is_stored() -> bool:
        query = "select exists (select from mensajes where whatsapp_message_id = $1)"
        return bool(await other.fetchval(query, wamid))

    proxy.mute = True
    posted = asyncio.create_task(router.post(body.data))
    try:
        await until(is_stored, within_s=1.0)
    except TimeoutError:  # this session had to prepare first, and heard nothing of it
        committed = False
    else:
        committed = not posted.done()
    proxy.reset_all()
    proxy.mute = False
    status, answer = await posted
    assert status in {200, 503}, answer
    await router.ready()
    assert (await router.post(body.data))[0] == 200
    return committed


async def test_500_ms_to_the_database_grow_no_queue(
    faulty_database: tuple[str, FaultProxy], tmp_path: Path, sink: Sink
) -> None:
    dsn, proxy = faulty_database
    settings = {"PSI_QUEUE_SIZE": "200", "PSI_ACK_TIMEOUT_S": "8"}
    async with service(tmp_path, dsn, sink, **settings) as router:
        load = Load(router.url, SEED, rate=150)
        async with load.running():
            await load.acks(50)
            proxy.delay_s = 0.25  # each way
            before = router.memory_mb("VmRSS")
            await load.acks(200, within_s=60.0)
            grown = router.memory_mb("VmRSS") - before
            proxy.delay_s = 0.0
            await load.acks(50)
        slow = sorted(load.ledger.latencies_s)
        say(f"p99 {slow[int(len(slow) * 0.99)]:.2f} s, {grown:+.0f} MB")
        await nothing_is_lost(dsn, load, sink, ack_timeout_s=8.0)
    assert slow[-1] > 0.5, "it was not slow"
    assert grown < 40


async def test_a_pool_whose_sessions_are_all_held_refuses_in_time_and_recovers(
    database: str,
) -> None:
    store, clock = Database(database, size=2), asyncio.get_running_loop().time
    await store.open()
    try:
        async with store.transaction(), store.transaction():
            began = clock()
            found = await asyncio.gather(
                *(store.fetch("select 1") for _ in range(500)), return_exceptions=True
            )
            assert clock() - began < ACQUIRE_S + SLACK_S
        assert all(isinstance(one, Transient) for one in found)
        assert len(await store.fetch("select 1")) == 1
    finally:
        await store.close()


@asynccontextmanager
async def stopped(server: EmbeddedPostgres) -> AsyncIterator[None]:
    """SIGSTOP the postmaster and all its children; go on at the end."""
    assert server.pid
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    pids = [server.pid, *map(int, children.split())]
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def test_a_postgresql_that_is_frozen_for_10_s_is_503_and_heals_within_5_s(
    own_postgres: EmbeddedPostgres, tmp_path: Path, sink: Sink
) -> None:
    dsn = own_postgres.dsn()
    async with service(tmp_path, dsn, sink) as router:
        load = Load(router.url, SEED, rate=200)
        async with load.running():
            await load.acks(50)
            async with stopped(own_postgres):
                await sees_503(load)
                await asyncio.sleep(10.0)  # the outage
                assert orjson.loads((await router.get("/ready")).body)["mode"] == (
                    "database away"
                )
            say(f"first 200 after {await healed(load):.2f} s")
        await all_is_well(dsn, load, sink)


async def test_a_locked_outbox_is_503_in_time_and_told_afterwards(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await outbox_locked(database, tmp_path, sink, SHORT_S)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_outbox_locked_for_30_s_is_503_in_time_and_told_afterwards(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await outbox_locked(database, tmp_path, sink, 30.0)


async def outbox_locked(database: str, directory: Path, sink: Sink, s: float) -> None:
    async with (
        service(directory, database, sink) as router,
        connected(database) as holder,
        connected(database) as forgotten,
    ):
        load = Load(router.url, SEED, rate=100)
        await forgotten.execute("begin isolation level repeatable read")
        await forgotten.execute("select txid_current()")  # no row dies while it is open
        async with load.running():
            await load.acks(50)
            async with holder.transaction():
                await holder.execute(
                    "lock table router.outbox in access exclusive mode"
                )
                await sees_503(load)
                await asyncio.sleep(s)  # the lock
            await healed(load)
        await nothing_is_lost(database, load, sink)  # beside the open transaction
        await forgotten.execute("rollback")
