"""Migrations against a real PostgreSQL."""

import asyncio

import asyncpg
import pytest

from router.errors import ConfigError, Unavailable
from router.store import migrate as migrate_module
from router.store.migrate import Migration, behind, migrate, migrations, statements
from router.store.migrate_steps import index_name

PLAN = {
    "idx_conversaciones_telefono",
    "idx_conversaciones_contacto_id",
    "idx_conversaciones_ts_ultimo_mensaje",
    "idx_mensajes_conversacion_id",
    "idx_mensajes_timestamp",
    "idx_mensajes_remitente_tipo",
    "idx_contactos_telefono",
    "idx_mensajes_conversacion_timestamp",
}


async def ask(dsn: str, sql: str, *args: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(sql, *args))
    finally:
        await connection.close()


async def test_several_runners_at_once_apply_each_file_once(
    empty_database: str,
) -> None:
    wanted = await behind(empty_database)
    results = await asyncio.gather(*(migrate(empty_database) for _ in range(4)))
    assert sorted(results) == [[], [], [], wanted]
    assert await behind(empty_database) == []


async def test_the_plan_s_indexes_are_there_and_valid(database: str) -> None:
    rows = await ask(
        database,
        "select relname from pg_class join pg_index on oid = indexrelid where indisvalid",
    )
    assert {row["relname"] for row in rows} >= PLAN


async def test_a_crm_s_rows_and_columns_stay_and_what_is_missing_is_added(
    empty_database: str,
) -> None:
    await ask(
        empty_database,
        "create table contactos (id uuid primary key default gen_random_uuid(),"
        " telefono text not null unique, nombre text, estado_lead text default 'nuevo')",
    )
    await ask(
        empty_database, "insert into contactos (telefono, nombre) values ('1', 'A')"
    )
    await migrate(empty_database)
    (row,) = await ask(empty_database, "select * from contactos")
    assert (row["nombre"], row["estado_lead"], row["origen"]) == (
        "A",
        "nuevo",
        "whatsapp",
    )


async def test_an_index_that_a_failed_run_left_invalid_is_built_again(
    empty_database: str,
) -> None:
    await migrate(empty_database)
    name = "idx_mensajes_timestamp"
    await ask(
        empty_database,
        "update pg_index set indisvalid = false where indexrelid = $1::regclass",
        name,
    )
    await ask(
        empty_database, "delete from router.migrations where name = '0003_indexes'"
    )
    assert await migrate(empty_database) == ["0003_indexes"]
    (row,) = await ask(
        empty_database,
        "select indisvalid from pg_index where indexrelid = $1::regclass",
        name,
    )
    assert row["indisvalid"]


async def test_an_outbox_from_before_goes_on_where_it_was(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = migrations()
    before = [m for m in every if m.name < "0012"]
    monkeypatch.setattr(migrate_module, "migrations", lambda: before)
    await migrate(empty_database)
    insert = (
        "insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)"
        " select 'crm', state || n, 'lane', 'x', now(), state"
        " from unnest('{pending,done,dead,unknown}'::text[]) as state,"
        " generate_series(1, 3) n"
    )
    await ask(empty_database, insert)
    rows = "select id, key, state, open_lane from router.outbox order by id"
    there = await ask(empty_database, rows)
    monkeypatch.setattr(migrate_module, "migrations", lambda: every)
    await migrate(empty_database)
    assert await ask(empty_database, rows) == there
    parts = await ask(
        empty_database,
        "select tableoid::regclass::text as part, state, count(*) as rows"
        " from router.outbox group by 1, 2 order by 2",
    )
    assert [(row["part"], row["state"], row["rows"]) for row in parts] == [
        ("router.outbox_ended", "dead", 3),
        ("router.outbox_ended", "done", 3),
        ("router.outbox_open", "pending", 3),
        ("router.outbox_open", "unknown", 3),
    ]
    await ask(empty_database, insert)
    later = await ask(empty_database, rows)
    assert later[:12] == there
    assert len({row["id"] for row in later}) == 24


async def test_a_file_that_changed_since_it_was_applied_is_an_error(
    database: str,
) -> None:
    await ask(database, "update router.migrations set checksum = 'other'")
    with pytest.raises(ConfigError, match="changed since"):
        await migrate(database)


async def test_a_server_that_is_away_is_named_as_such() -> None:
    with pytest.raises(Unavailable):
        await behind("postgresql://postgres@127.0.0.1:1/none")


async def test_a_locked_table_is_waited_for_a_second_at_a_time(
    empty_database: str,
) -> None:
    await ask(
        empty_database,
        "create table contactos (id uuid primary key, telefono text unique)",
    )
    holder = await asyncpg.connect(empty_database)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("lock table contactos in access exclusive mode")
    runner = asyncio.create_task(migrate(empty_database))
    waiting = "select from pg_stat_activity where wait_event_type = 'Lock'"
    while not await ask(empty_database, waiting):  # noqa: ASYNC110 -- another process
        await asyncio.sleep(0)
    await transaction.rollback()
    await holder.close()
    assert await runner


def test_statements_end_with_a_semicolon_at_a_line_s_end() -> None:
    text = "-- no-transaction\ncreate a\n  b;\n\n-- a note\ncreate c;\n"
    assert statements(text) == ["create a\n  b", "create c"]
    assert not Migration("x", text).transactional


def test_index_names_are_read_from_create_index_only() -> None:
    made = "create unique index concurrently if not exists one on t (c)"
    assert index_name(made) == "one"
    assert index_name("create table if not exists t (c int)") is None
