"""What the few connections of a Database promise."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from router.errors import Poison, Transient
from router.store import database as database_module
from router.store.database import Database
from tests.servers import until


@pytest.fixture
async def single(store: Database) -> AsyncIterator[Database]:
    """A database with one connection."""
    only = Database(store.dsn, size=1)
    await only.open()
    yield only
    await only.close()


async def pid(database: Database) -> int:
    (row,) = await database.fetch("select pg_backend_pid() as pid")
    found: int = row["pid"]
    return found


async def test_who_waits_for_the_one_connection_gets_it(single: Database) -> None:
    pids = await asyncio.gather(*(pid(single) for _ in range(20)))
    assert len(pids) == 20
    async with single.transaction() as tx:
        waiting = asyncio.create_task(pid(single))
        await tx.fetch("select 1")
        assert not waiting.done()
    await waiting


async def test_who_waits_too_long_is_told_to_come_again(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "ACQUIRE_S", 0.05)
    async with single.transaction():
        with pytest.raises(Transient):
            await pid(single)
    await pid(single)


async def test_a_connection_that_was_ended_is_replaced(
    store: Database, single: Database
) -> None:
    before = after = await pid(single)
    with contextlib.suppress(Transient):  # behind a pooler it may be one's own
        await store.fetch("select pg_terminate_backend($1)", before)
    while after == before:
        with contextlib.suppress(Transient):  # that it is gone is heard in a moment
            after = await pid(single)


async def test_connections_that_nobody_takes_any_more_are_closed(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = Database(store.dsn, size=3)
    await at_once.open()
    try:
        used = await asyncio.gather(
            *(
                at_once.fetch("select pg_sleep(0.05), pg_backend_pid()")
                for _ in range(3)
            )
        )
        pids = {rows[0][1] for rows in used}
        assert len(pids) == 3
        monkeypatch.setattr(database_module, "IDLE_S", 0.05)
        await until(lambda: _only_one_is_left(at_once, pids))
    finally:
        await at_once.close()


async def _only_one_is_left(database: Database, pids: set[int]) -> bool:
    (row,) = await database.fetch(
        "select count(*) from pg_stat_activity where pid = any($1::int[])", list(pids)
    )
    return bool(row[0] == 1)


async def test_what_failed_leaves_the_connection_as_it_was(single: Database) -> None:
    with pytest.raises(Poison):
        await single.fetch("select 'x'::integer")
    with pytest.raises(Poison):
        async with single.transaction() as tx:
            await tx.fetch("select 'x'::integer")
    (row,) = await single.fetch("select pg_current_xact_id_if_assigned() as xid")
    assert row["xid"] is None


async def test_a_caller_who_is_cancelled_lets_the_next_one_in(single: Database) -> None:
    asking = asyncio.create_task(single.fetch("select pg_sleep(30)"))
    waiting = [asyncio.create_task(pid(single)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    asking.cancel()
    await asyncio.gather(asking, waiting[0], return_exceptions=True)
    assert await waiting[1] == await waiting[2]
