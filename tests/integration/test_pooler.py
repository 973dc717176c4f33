"""Through pgbouncer, as through Supabase's poolers: whose session is it?"""

import asyncio
import re
from importlib import resources

import asyncpg

from router.store.database import SESSION, Database
from router.store.ledger import Ledger
from router.store.migrate import behind, migrate, migrations
from router.store.pooler import Mode, mode_of
from tests.events import SilentDesk, message, received
from tests.pgbouncer import Pgbouncer

ASK = "select " + ", ".join(f"current_setting('{n}') as {n}" for n in SESSION)


async def settings_of_a_stranger(dsn: str) -> dict[str, str]:
    """Return what another client of the same pooler finds its session set to."""
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    async with connection.transaction():
        row = await connection.fetchrow(ASK)
    await connection.close()
    return dict(row)


async def test_each_mode_is_found(
    database: str, keeping_pooler: Pgbouncer, lending_pooler: Pgbouncer
) -> None:
    assert await mode_of(database) is Mode.DIRECT
    assert await mode_of(keeping_pooler.through(database)) is Mode.SESSION
    assert await mode_of(lending_pooler.through(database)) is Mode.TRANSACTION


async def test_the_mode_is_found_while_others_use_the_pooler(
    database: str, lending_pooler: Pgbouncer
) -> None:
    dsn = lending_pooler.through(database)
    others = [Database(dsn) for _ in range(3)]
    for other in others:
        await other.open()
    busy = [
        asyncio.create_task(other.fetch("select pg_sleep(0.3)")) for other in others
    ]
    modes = await asyncio.gather(*(mode_of(dsn) for _ in range(8)))
    await asyncio.gather(*busy)
    for other in others:
        await other.close()
    assert set(modes) == {Mode.TRANSACTION}


async def test_statements_run_under_the_session_s_settings_on_any_road(
    database: str, keeping_pooler: Pgbouncer, lending_pooler: Pgbouncer
) -> None:
    for pooler in (None, keeping_pooler, lending_pooler):
        store = Database(pooler.through(database) if pooler else database)
        await store.open()
        for _ in range(2):  # the first statement finds out, the second one knows
            (row,) = await store.fetch(ASK)
            assert dict(row) == SESSION
        await store.close()


async def test_who_gets_the_session_next_finds_none_of_our_settings(
    database: str, keeping_pooler: Pgbouncer, lending_pooler: Pgbouncer
) -> None:
    before = await settings_of_a_stranger(database)
    for pooler in (keeping_pooler, lending_pooler):
        store = Database(pooler.through(database))
        await store.open()
        await store.fetch("select 1")
        if pooler is lending_pooler:  # the session is free while the store is open
            assert await settings_of_a_stranger(pooler.through(database)) == before
        await store.close()
        assert await settings_of_a_stranger(pooler.through(database)) == before


async def test_statements_stay_prepared_where_the_session_is_ours(
    database: str, keeping_pooler: Pgbouncer, lending_pooler: Pgbouncer
) -> None:
    names = "select count(*) as n from pg_prepared_statements where name <> ''"
    for pooler, wanted in ((None, 2), (keeping_pooler, 2), (lending_pooler, 0)):
        store = Database(pooler.through(database) if pooler else database, size=1)
        await store.open()
        for _ in range(2):
            await store.fetch("select 1")
        (row,) = await store.fetch(names)
        assert row["n"] == wanted
        await store.close()


async def test_ten_routers_share_two_sessions_of_a_lending_pooler(
    database: str, pgbouncer: Pgbouncer
) -> None:
    await pgbouncer.start(mode="transaction", size=2)
    stores = [Database(pgbouncer.through(database)) for _ in range(10)]
    for store in stores:
        await store.open()
    event = message()
    ledgers = [Ledger(store, SilentDesk("crm")) for store in stores]
    outcomes = await asyncio.gather(
        *(
            ledger.write(received(event, message(f"54911000{n:05}")))
            for n, ledger in enumerate(ledgers)
        )
    )
    assert sum(len(outcome.written) for outcome in outcomes) == 11
    (row,) = await stores[0].fetch("select count(*) as n from mensajes")
    assert row["n"] == 11
    for store in stores:
        await store.close()


async def test_migrate_works_through_either_pooler(
    empty_database: str, keeping_pooler: Pgbouncer, lending_pooler: Pgbouncer
) -> None:
    roads = [lending_pooler.through(empty_database)] * 3
    roads += [keeping_pooler.through(empty_database), empty_database]
    results = await asyncio.gather(*map(migrate, roads))
    wanted = [migration.name for migration in migrations()]
    assert sorted(results) == [[], [], [], [], wanted]
    assert await behind(roads[0]) == []


def test_no_statement_needs_a_session_of_its_own() -> None:
    session = re.compile(
        r"\blisten\b|\bunlisten\b|pg_(try_)?advisory_lock|\bprepare\b|temp(orary)? table"
        r"|with hold|^\s*set (?!local)",
        re.IGNORECASE,
    )
    folder = resources.files("router.store")
    for path in [*(folder / "sql").iterdir(), *(folder / "migrations").iterdir()]:
        if path.name.endswith(".sql"):
            text = re.sub("--[^\n]*", "", path.read_text("utf-8"))
            assert not session.search(text), path.name
