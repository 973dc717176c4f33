"""`psi-router doctor` against real databases: what it says, and how it ends."""

import argparse
import asyncio
import re
import resource
from pathlib import Path

import asyncpg
import pytest

from router.cli import doctor
from router.store import checkup
from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate
from router.store.needs import expected, indexes, inserted, rights
from tests.pgbouncer import Pgbouncer
from tests.servers import Redis

PASSWORD = "hunter-of-two-moons"
SECRETS = (PASSWORD, "verify-me", "sign-me")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHATSAPP_VERIFY_TOKEN", "verify-me")
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "sign-me")
    return monkeypatch


@pytest.fixture
def at(database: str, settings: pytest.MonkeyPatch) -> str:
    settings.setenv("DATABASE_URL", database)
    return database


async def examined(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = await asyncio.to_thread(doctor.run, argparse.Namespace())
    printed = capsys.readouterr()
    assert printed.err == ""
    assert not any(secret in printed.out for secret in SECRETS)
    lines = printed.out.splitlines()
    assert all(line.split()[0] in {"ok", "warn", "fail"} for line in lines)
    return status, lines


async def after(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def queue_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if line.split()[1] == "queue:"]


async def test_a_spool_is_looked_at_and_not_made(
    at: str,
    settings: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    del at
    settings.setenv("PSI_QUEUE", f"spool:{tmp_path / 'spool'}")
    _, lines = await examined(capsys)
    (line,) = queue_lines(lines)
    assert "a spool for 2000 items" in line
    assert not (tmp_path / "spool").exists()
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "damaged-20261124T010203-000001").touch()
    _, lines = await examined(capsys)
    assert queue_lines(lines)[1].startswith("warn  queue: 1 damaged files")
    (tmp_path / "file").touch()
    settings.setenv("PSI_QUEUE", f"spool:{tmp_path / 'file'}")
    status, lines = await examined(capsys)
    assert status == 1
    assert queue_lines(lines) == [
        "fail  queue: the spool's directory cannot be written to"
    ]


async def test_a_redis_is_asked_whether_it_keeps_what_it_answers(
    at: str,
    settings: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    redis_server: Redis,
) -> None:
    del at
    secret = redis_server.url.replace("redis://", f"redis://nobody:{PASSWORD}@")
    settings.setenv("PSI_QUEUE", redis_server.url)
    _, lines = await examined(capsys)
    assert queue_lines(lines) == ["ok    queue: redis, durable, for 2000 items"]
    await redis_server.execute("CONFIG SET appendfsync everysec")
    try:
        status, lines = await examined(capsys)
    finally:
        await redis_server.execute("CONFIG SET appendfsync always")
    assert status == 1
    assert queue_lines(lines) == [
        "fail  queue: redis: not durable: appendfsync is not always"
    ]
    settings.setenv("PSI_QUEUE", secret)
    status, lines = await examined(capsys)
    (line,) = queue_lines(lines)
    assert line.startswith("fail  queue: redis: ")
    settings.setenv("PSI_QUEUE", "redis://127.0.0.1:1/0")
    status, lines = await examined(capsys)
    assert queue_lines(lines) == ["fail  queue: redis: ConnectionError"]


async def test_a_database_of_our_own_making_is_sound(
    at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = await examined(capsys)
    assert status == 0, lines
    assert [line for line in lines if line.startswith("fail")] == []
    assert "ok    columns: " + f"{len(expected())} tables fit" in lines
    assert "ok    migrations: up to date" in lines
    assert "ok    pooler: none, a direct connection" in lines
    assert "warn  WhatsApp: no CLOUD_API_TOKEN: replies are not sent" in lines
    assert any(
        line.startswith("ok    media: files go to a directory") for line in lines
    )


async def test_a_place_for_files_that_cannot_be_written_to_is_a_fault(
    at: str,
    settings: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    settings.setenv("PSI_MEDIA", str(tmp_path / "file" / "media"))
    status, lines = await examined(capsys)
    assert status == 1
    assert "fail  media: the directory of PSI_MEDIA cannot be written to" in lines


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            "alter table mensajes drop column media_url",
            "fail  columns: mensajes.media_url is missing",
        ),
        (
            "alter table derivaciones drop column ticket_id, add column ticket_id uuid",
            "fail  columns: derivaciones.ticket_id is uuid, expected text",
        ),
        (
            "alter table contactos alter nombre type varchar(40)",
            "warn  columns: contactos.nombre is character varying, expected text",
        ),
        (
            "alter table conversaciones alter subetiqueta set not null",
            "fail  columns: conversaciones.subetiqueta refuses null",
        ),
        (
            "alter table mensajes add column remitente text not null",
            "fail  columns: mensajes.remitente wants a value and has no default",
        ),
        (
            "alter table conversaciones add check (estado <> 'nueva')",
            (
                "fail  words: conversaciones.estado does not take nueva"
                " (conversaciones_estado_check)"
            ),
        ),
        (
            "drop index idx_mensajes_whatsapp_message_id_hash",
            "fail  indexes: idx_mensajes_whatsapp_message_id_hash on mensajes is missing",
        ),
        (
            (
                "update pg_index set indisvalid = false"
                " where indexrelid = 'idx_mensajes_timestamp'::regclass"
            ),
            "fail  indexes: idx_mensajes_timestamp on mensajes is not valid",
        ),
        (
            "alter table mensajes enable row level security",
            "warn  row security: mensajes: passes over this role",
        ),
        (
            "delete from router.migrations where name = '0003_indexes'",
            "fail  migrations: 1 to apply, run `psi-router migrate`",
        ),
    ],
)
async def test_what_differs_is_named(
    at: str, damage: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await after(at, damage)
    status, lines = await examined(capsys)
    assert said in lines
    assert status == (1 if said.startswith("fail") else 0)


async def test_a_trigger_and_duplicates_are_warned_of(
    at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await after(
        at,
        "create function nothing() returns trigger language plpgsql"
        " as 'begin return new; end'",
        "create trigger of_the_crm before insert on mensajes"
        " for each row execute function nothing()",
        "insert into contactos (telefono) values ('5491100000001')",
        "insert into conversaciones (contacto_id, telefono)"
        " select id, telefono from contactos, generate_series(1, 2)",
        "insert into mensajes (conversacion_id, mensaje, tipo, direccion,"
        " remitente_tipo, timestamp, whatsapp_message_id) select id, 'Hola', 'text',"
        " 'entrante', 'contact', now(), 'wamid.A' from conversaciones",
    )
    status, lines = await examined(capsys)
    assert status == 0
    assert "warn  trigger: mensajes: of_the_crm" in lines
    assert "warn  messages: WhatsApp ids stored twice: 1" in lines
    assert "warn  conversations: contacts with two open: 1" in lines


async def test_a_role_without_rights_is_told_which(
    at: str, settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await after(
        at,
        "drop role if exists reader",
        f"create role reader login password '{PASSWORD}'",
        "grant usage on schema public, router to reader",
        "grant select on all tables in schema public, router to reader",
    )
    try:
        settings.setenv("DATABASE_URL", at.replace("postgres@", f"reader:{PASSWORD}@"))
        status, lines = await examined(capsys)
    finally:
        await after(at, "drop owned by reader", "drop role reader")
    assert status == 1
    assert "fail  rights: no INSERT on mensajes" in lines
    assert "fail  rights: no UPDATE on conversaciones" in lines
    assert "fail  rights: no DELETE on router.deliveries" in lines


async def test_a_role_that_may_not_look_is_no_database_that_is_away(
    at: str, settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await after(at, "drop role if exists stranger", "create role stranger login")
    try:
        settings.setenv("DATABASE_URL", at.replace("postgres@", "stranger@"))
        status, lines = await examined(capsys)
    finally:
        await after(at, "drop role stranger")
    assert status == 1
    assert lines[-1] == "fail  rights: may not read schema router"


async def test_a_pooler_and_how_it_lends_is_named(
    database: str,
    keeping_pooler: Pgbouncer,
    lending_pooler: Pgbouncer,
    settings: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for pooler, said in (
        (keeping_pooler, "one that keeps the session"),
        (
            lending_pooler,
            "transaction mode: nothing is prepared, each transaction says its settings",
        ),
    ):
        settings.setenv("DATABASE_URL", pooler.through(database))
        status, lines = await examined(capsys)
        assert (status, f"ok    pooler: {said}" in lines) == (0, True), lines


async def test_connections_that_the_server_has_not_are_warned_of(
    at: str, settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.setenv("PSI_DATABASE_CONNECTIONS", "5000")
    _, lines = await examined(capsys)
    (line,) = [line for line in lines if "connections: " in line]
    assert re.match(r"warn  connections: 5000 at most, \d+ of the server's \d+", line)


async def test_a_check_from_before_stickers_is_made_do_with(
    at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await after(
        at,
        "alter table mensajes drop constraint mensajes_tipo_check",
        "alter table mensajes add constraint old check (tipo <> 'sticker')",
    )
    status, lines = await examined(capsys)
    assert "warn  words: mensajes.tipo (old): sticker is written as image" in lines
    assert status == 0


async def test_an_empty_database_is_behind_and_nothing_else(
    empty_database: str,
    settings: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings.setenv("DATABASE_URL", empty_database)
    status, lines = await examined(capsys)
    assert status == 1
    (fail,) = [line for line in lines if line.startswith("fail")]
    assert fail.startswith("fail  migrations: ")


async def test_a_database_that_is_away_is_a_fail(
    settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"postgresql://me:{PASSWORD}@127.0.0.1:1/none"
    settings.setenv("DATABASE_URL", url)
    status, lines = await examined(capsys)
    assert status == 1
    assert lines[-1].startswith("fail  database: ")


async def test_an_embedded_one_is_not_made_by_looking(
    settings: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.setenv("DATABASE_URL", f"embedded:{tmp_path / 'data'}")
    status, lines = await examined(capsys)
    assert status == 1
    assert lines[-1].endswith("not made yet, run `psi-router migrate`")
    assert not (tmp_path / "data").exists()


async def test_an_embedded_one_that_was_made_is_looked_at(
    settings: pytest.MonkeyPatch,
    postgres_binaries: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with EmbeddedPostgres(tmp_path / "data") as server:
        await migrate(server.dsn())
    settings.setenv("DATABASE_URL", f"embedded:{tmp_path / 'data'}")
    status, lines = await examined(capsys)
    assert status == 0, lines
    assert not [line for line in lines if line.startswith("fail")]


async def test_an_embedded_one_that_runs_is_looked_at_and_goes_on(
    settings: pytest.MonkeyPatch,
    postgres_binaries: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings.setenv("DATABASE_URL", f"embedded:{tmp_path / 'data'}")
    async with EmbeddedPostgres(tmp_path / "data") as server:
        await migrate(server.dsn())
        before = server.pid
        status, lines = await examined(capsys)
        assert status == 0, lines
        assert [line for line in lines if line.startswith("ok    database: Post")]
        assert server.pid == before
        await after(server.dsn(), "select 1")


async def test_wrong_settings_end_with_78_a_line_each(
    settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.setenv("PORT", "many")
    status, lines = await examined(capsys)
    assert status == 78
    assert "fail  settings: DATABASE_URL is not set" in lines
    assert "fail  settings: PORT is 'many', expected a port from 0 to 65535" in lines


async def test_a_destination_is_resolved_and_judged_and_not_called(
    at: str, settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "N8N_WEBHOOK_ENVIOS_ROUTER_"
    settings.setenv(f"{name}CRM", f"http://me:{PASSWORD}@127.0.0.1:1/")
    settings.setenv(f"{name}ALUMNOS", "http://127.1/")  # resolves: no literal
    settings.setenv(f"{name}COMUNIDAD", "http://nobody.invalid/")
    status, lines = await examined(capsys)
    assert status == 1
    said = [line for line in lines if "destination" in line]
    assert said == [
        "ok    destination envios_crm: 1 addresses may be dialled",
        (
            "fail  destination envios_alumnos: its address is not allowed"
            " (PSI_ALLOW_PRIVATE)"
        ),
        "fail  destination envios_comunidad: its name does not resolve",
    ]


async def test_a_menu_that_cannot_be_used_is_a_fail(
    at: str,
    settings: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "menu.toml").write_text("nothing = 1\n")
    (tmp_path / "psi.toml").write_text('lines = [{name = "one", menu = "menu.toml"}]\n')
    settings.setenv("PSI_CONFIG", "psi.toml")
    status, lines = await examined(capsys)
    assert status == 1
    assert any(line.startswith("fail  menu of one: ") for line in lines)


def test_what_is_judged_by_a_number() -> None:
    assert [checkup.skew(s).level for s in (-1, 2.5, -61)] == ["ok", "warn", "fail"]
    limits = (1024, 4096, resource.RLIM_INFINITY)
    assert [doctor.files(n).level for n in limits] == ["warn", "ok", "ok"]
    free = (2**20, 2**30, 2**40)
    assert [doctor.disk(n).level for n in free] == ["fail", "warn", "ok"]


async def test_what_is_expected_is_what_the_migrations_make(database: str) -> None:
    connection = await asyncpg.connect(database)
    columns = await connection.fetch(
        "select case table_schema when 'public' then '' else 'router.' end || table_name"
        " as tab, array_agg(column_name::text) as names from information_schema.columns"
        " where table_schema in ('public', 'router') and"
        " (table_schema || '.' || table_name)::regclass not in"
        " (select inhrelid from pg_inherits) group by 1"  # a partition has its table's
    )
    await connection.close()
    there = {row["tab"]: set(row["names"]) for row in columns}
    del there["router.migrations"]  # made by whoever applies them
    assert {table: set(names) for table, names in expected().items()} == there


def test_what_the_statements_do_is_read_from_them() -> None:
    assert ("mensajes", "whatsapp_context_id") in inserted()
    assert ("contactos", "nombre") in inserted()  # by a function of a migration
    assert ("contactos", "email") not in inserted()
    assert {("contactos", "DELETE"), ("tickets", "UPDATE")} <= rights()
    assert ("router.ticket_counters", "UPDATE") in rights()  # on conflict do update
    assert ("router.deliveries", "UPDATE") not in rights()
    assert indexes()["idx_contactos_telefono"] == "contactos"
