"""Through pgbouncer, as through Supabase's poolers: whose session is it?"""

import asyncio
import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from router.errors import Transient
from router.store.database import SESSION, Database
from router.store.ledger import Ledger
from router.store.migrate import behind, migrate, migrations
from router.store.pooler import Mode, mode_of
from tests.events import SilentDesk, body, message, received, text_message
from tests.faults.harness import service
from tests.nginx_server import Authority
from tests.pgbouncer import Pgbouncer


class TlsPooler(NamedTuple):
    """A pooler that takes nobody without TLS: its authority, and another one."""

    pooler: Pgbouncer
    ours: Path
    other: Path


@pytest.fixture
async def tls_pooler(openssl: None, pgbouncer: Pgbouncer, tmp_path: Path) -> TlsPooler:
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    certificate, key = ours.sign("localhost")
    await pgbouncer.start(
        mode="transaction",
        more="client_tls_sslmode = require\n"
        f"client_tls_cert_file = {certificate}\nclient_tls_key_file = {key}",
    )
    return TlsPooler(pgbouncer, ours.certificate, other.certificate)


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


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ("sslmode=disable", False),
        ("sslmode=require", True),
        ("sslmode=verify-ca&sslrootcert={ours}", True),
        ("sslmode=verify-full&sslrootcert={ours}", True),
        ("sslmode=verify-full&sslrootcert={other}", False),
    ],
)
async def test_tls_is_as_the_address_says(
    database: str, tls_pooler: TlsPooler, query: str, *, taken: bool
) -> None:
    dsn = tls_pooler.pooler.through(database).partition("?")[0]
    query = query.format(ours=tls_pooler.ours, other=tls_pooler.other)
    store = Database(f"{dsn}?{query}".replace("127.0.0.1", "localhost"))
    await store.open()
    try:
        if taken:
            await store.fetch("select 1")
        else:
            with pytest.raises(Transient):
                await store.fetch("select 1")
    finally:
        await store.close()


async def test_a_name_that_is_not_the_certificate_s_is_refused(
    database: str, tls_pooler: TlsPooler
) -> None:
    dsn = tls_pooler.pooler.through(database).partition("?")[0]
    for mode, taken in (("verify-ca", True), ("verify-full", False)):
        store = Database(f"{dsn}?sslmode={mode}&sslrootcert={tls_pooler.ours}")
        await store.open()
        if taken:
            await store.fetch("select 1")
        else:
            with pytest.raises(Transient):
                await store.fetch("select 1")
        await store.close()


async def test_who_connects_says_its_name(
    database: str, keeping_pooler: Pgbouncer, lending_pooler: Pgbouncer
) -> None:
    ask = "select current_setting('application_name') as name"
    for road in (
        database,
        *(p.through(database) for p in (keeping_pooler, lending_pooler)),
    ):
        store = Database(road)
        await store.open()
        (row,) = await store.fetch(ask)
        assert row["name"] == "psi-router"
        await store.close()


async def test_two_connections_are_enough_for_a_service(
    database: str, tmp_path: Path
) -> None:
    async with service(tmp_path, database, PSI_DATABASE_CONNECTIONS="2") as router:
        bodies = [
            body(text_message(f"54911000{n:05}", f"wamid.{n}")) for n in range(40)
        ]
        answers = await asyncio.gather(*map(router.post, bodies))
        assert {status for status, _ in answers} == {200}
        store = Database(database, size=1)
        await store.open()
        (row,) = await store.fetch(
            "select count(*) as n from pg_stat_activity"
            " where application_name = 'psi-router' and datname = current_database()"
        )
        await store.close()
        assert row["n"] <= 2 + 1  # and we who ask


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
