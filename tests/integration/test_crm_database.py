"""The database that is already there: a CRM's, in use while it is migrated."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from router.config import Line, Settings
from router.errors import ConfigError, Unavailable
from router.model import Content
from router.stages.desk import Desk
from router.store import checkup, migrate_steps
from router.store.database import Database
from router.store.dialect import load
from router.store.dialect_fit import fit
from router.store.ledger import Ledger
from router.store.migrate import migrate, migrations
from tests.crm import SHAPES, Crm
from tests.events import SilentDesk, body, message, received, text_message
from tests.faults.harness import service
from tests.integration.test_service import command
from tests.servers import Postgres

MESSAGES, MANY = 100_000, 1_000_000
HELD_S = 2.0
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    graph_token="token",
    lines=(Line(name="wsp4", phone_number_id="100000000000001"),),
)
LONGEST_WAIT_S = 1.0


async def grown(postgres: Postgres, name: str, shape: str, messages: int) -> Crm:
    crm = Crm(postgres.dsn(name), shape)
    await crm.fill(messages)
    await crm.migrate(held_s=HELD_S)
    return crm


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=list(SHAPES))
async def crm(postgres: Postgres, request: pytest.FixtureRequest) -> AsyncIterator[Crm]:
    """A CRM's database that was migrated while the CRM was writing."""
    async with postgres.database() as name:
        yield await grown(postgres, name, request.param, MESSAGES)


@pytest.fixture
async def open_store(crm: Crm) -> AsyncIterator[Database]:
    store = Database(crm.dsn)
    await store.open()
    yield store
    await store.close()


def ledger_of(store: Database, crm: Crm) -> Ledger:
    return Ledger(store, SilentDesk("crm"), load(crm.shape))


async def nothing_was_lost(crm: Crm) -> None:
    assert crm.applied == [migration.name for migration in migrations()]
    assert len(crm.writes_s) > 20  # somebody did write
    assert max(crm.writes_s) < LONGEST_WAIT_S
    there = await crm.look()
    assert crm.there - there == set()  # columns, types, constraints, indexes, files
    assert await crm.old_rows() == crm.rows


async def test_it_only_grows_and_no_write_waits_for_a_second(crm: Crm) -> None:
    await nothing_was_lost(crm)
    invalid = await crm.ask("select from pg_index where not indisvalid")
    assert invalid == []


async def test_said_again_it_changes_nothing(crm: Crm) -> None:
    before = await crm.look()
    assert await asyncio.gather(*(migrate(crm.dsn) for _ in range(3))) == [[], [], []]
    assert await crm.look() == before


async def test_a_body_many_times_at_once_is_one_row(
    crm: Crm, open_store: Database
) -> None:
    event = message("5491199999901", wamid="wamid.NEW")
    ledgers = [ledger_of(open_store, crm) for _ in range(3)]
    for _ in range(3):
        await asyncio.gather(*(ledger.write(received(event)) for ledger in ledgers))
    rows = await open_store.fetch(
        "select from mensajes where whatsapp_message_id = 'wamid.NEW'"
    )
    assert len(rows) == 1


async def test_what_the_crm_stored_twice_already_is_not_stored_again(
    crm: Crm, open_store: Database
) -> None:
    count = "select count(*) as n from mensajes where whatsapp_message_id = $1"
    for wamid in ("wamid.OLD98", "wamid.OLD7"):  # twice there, once there
        (before,) = await open_store.fetch(count, wamid)
        new = await ledger_of(open_store, crm).write(
            received(message("5491100000001", wamid=wamid))
        )
        (after,) = await open_store.fetch(count, wamid)
        assert new.written == []
        assert (before["n"], after["n"]) in {(2, 2), (1, 1)}


async def test_of_two_open_conversations_the_one_used_last_goes_on(
    crm: Crm, open_store: Database
) -> None:
    who = "5491100000010"  # has two
    mine = "select id, ts_ultimo_mensaje from conversaciones where telefono = $1 order by 2"
    before = await open_store.fetch(mine, who)
    assert len(before) == 2
    ledgers = [ledger_of(open_store, crm) for _ in range(4)]
    outcomes = await asyncio.gather(
        *(ledger.write(received(message(who))) for ledger in ledgers)
    )
    used = {new.conversation.id for o in outcomes for new in o.written}
    assert used == {before[-1]["id"]}
    assert len(await open_store.fetch(mine, who)) == 2


async def test_the_crm_s_ticket_numbers_go_on(crm: Crm) -> None:
    (row,) = await crm.ask("select last from router.ticket_counters where year = 2026")
    assert row["last"] == 41


async def test_the_menu_s_whole_way_is_written_in_tables_of_any_kind(
    crm: Crm, open_store: Database
) -> None:
    assert await checkup.misfits(crm.dsn) == []
    found = await fit(open_store, load(crm.shape))
    assert found.wrong == []
    assert found.swapped == [
        "mensajes.tipo (mensajes_tipo_check): sticker is written as image"
    ]
    ledger = Ledger(open_store, Desk(SETTINGS), found.dialect)
    who = "5491199999902"
    for text in ("Hola", "2", "22"):
        await ledger.write(received(message(who, text=text)))
    sticker = Content(text="[Sticker]", tipo="sticker")
    await ledger.write(received(message(who, content=sticker, kind="message.sticker")))
    rows = await crm.ask(
        "select tipo, count(*) as n from mensajes m join conversaciones v"
        " on v.id = m.conversacion_id where v.telefono = $1 group by 1",
        who,
    )
    assert {row["tipo"]: row["n"] for row in rows} == {"text": 6, "image": 1}
    (ticket,) = await crm.ask("select ticket_id from tickets where telefono = $1", who)
    assert ticket["ticket_id"] > "PSI-2026-000041"
    (line,) = await crm.ask("select * from audit_log where accion = 'ticket_creado'")
    named = line.get("conversacion_id") or line["entidad_id"]
    (conversation,) = await crm.ask(
        "select id from conversaciones where telefono = $1", who
    )
    assert str(named) == str(conversation["id"])


async def test_the_service_runs_on_it_and_makes_do_with_its_check(
    crm: Crm, tmp_path: Path
) -> None:
    (tmp_path / "psi.toml").write_text(f'dialect = "{crm.shape}"\n')
    who = "5491199999903"
    sticker = {"id": "1", "mime_type": "image/webp"}
    sent = body(
        text_message(who, "wamid.SERVED"),
        text_message(who, "wamid.STICKER") | {"type": "sticker", "sticker": sticker},
    )
    async with service(tmp_path, crm.dsn, PSI_CONFIG="psi.toml") as router:
        answers = await asyncio.gather(*(router.post(sent) for _ in range(8)))
        adapted = router.lines("dialect_adapted")
    assert {(status, answer["failed"]) for status, answer in answers} == {(200, 0)}
    assert [line["swap"] for line in adapted] == [
        "mensajes.tipo (mensajes_tipo_check): sticker is written as image"
    ]
    rows = await crm.ask(
        "select tipo from mensajes where whatsapp_message_id"
        " in ('wamid.SERVED', 'wamid.STICKER') order by 1"
    )
    assert [row["tipo"] for row in rows] == ["image", "text"]


async def test_what_does_not_fit_is_said_and_stays(postgres: Postgres) -> None:
    async with postgres.database() as name:
        crm = Crm(postgres.dsn(name), "crm-2026")
        await crm.fill(1000)
        await crm.ask("alter table derivaciones drop ticket_id, add ticket_id uuid")
        done = await asyncio.to_thread(command, "migrate", DATABASE_URL=crm.dsn)
        assert done.returncode == 0
        words = "derivaciones.ticket_id is uuid, expected text"
        assert f"does not fit, and stays as it is: {words}\n" in done.stdout
        assert "column derivaciones.ticket_id uuid" in await crm.look()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", list(SHAPES))
async def test_a_million_messages_are_migrated_while_the_crm_writes(
    postgres: Postgres, shape: str
) -> None:
    async with postgres.database() as name:
        crm = await grown(postgres, name, shape, MANY)
        await nothing_was_lost(crm)


async def test_an_index_that_a_killed_run_left_is_built_again(
    postgres: Postgres,
) -> None:
    async with postgres.database() as name:
        crm = Crm(postgres.dsn(name), "plan")
        await crm.fill(1000)
        holder = await asyncpg.connect(crm.dsn)
        await holder.execute("begin; update mensajes set mensaje = mensaje")
        build = (
            "create index concurrently idx_mensajes_timestamp on mensajes (timestamp)"
        )
        with pytest.raises(asyncpg.QueryCanceledError):
            await _killed(crm, build)
        await holder.close()
        await migrate(crm.dsn)
        assert await crm.ask("select from pg_index where not indisvalid") == []


async def _killed(crm: Crm, build: str) -> None:
    connection = await asyncpg.connect(crm.dsn)
    try:
        await connection.execute("set statement_timeout = 300")
        await connection.execute(build)
    finally:
        await connection.close()


async def test_a_table_in_use_for_long_is_named_with_who_uses_it(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_steps, "LOCKED_S", 0.5)
    async with postgres.database() as name:
        crm = Crm(postgres.dsn(name), "plan")
        await crm.fill(1000)
        holder = await asyncpg.connect(
            crm.dsn, server_settings={"application_name": "a long report"}
        )
        await holder.execute("begin; select 1 from contactos limit 1")
        with pytest.raises(Unavailable, match=r"contactos is in use by a long report"):
            await migrate(crm.dsn)
        await holder.close()
        assert await migrate(crm.dsn)


async def test_what_cannot_be_done_is_said_in_a_sentence(postgres: Postgres) -> None:
    async with postgres.database() as name:
        crm = Crm(postgres.dsn(name), "plan")
        await crm.ask("create table contactos (id bigint primary key, telefono text)")
        with pytest.raises(ConfigError, match=r"conversaciones.*incompatible types"):
            await migrate(crm.dsn)
