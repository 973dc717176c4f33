"""A CRM with words of its own: what is written there, and what is read."""

import json
from typing import Any

import pytest

from router.config import Line, Settings
from router.errors import ConfigError
from router.model import Content
from router.stages.desk import Desk
from router.store.database import Database, Row
from router.store.dialect import PLAN, load, problems
from router.store.dialect_fit import fit
from router.store.ledger import Ledger
from tests.events import message, received, status

CRM = load("crm-2026")
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    graph_token="token",
    lines=(Line(name="wsp4", phone_number_id="100000000000001"),),
)


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, Desk(SETTINGS), CRM)


async def the(store: Database, sql: str) -> Row:
    (row,) = await store.fetch(sql)
    return row


async def say(ledger: Ledger, *texts: str) -> None:
    for text in texts:
        await ledger.write(received(message(text=text)))


async def test_the_golden_path_in_the_words_of_2026(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, "Hola", "2")
    row = await the(store, "select * from conversaciones")
    assert (row["area"], row["router_estado"]) == ("wsp4", "submenu_2")
    await say(ledger, "22")
    row = await the(store, "select * from conversaciones")
    assert (row["area"], row["estado"], row["router_estado"]) == (
        "alumnos",
        "activa",
        "derivado",
    )
    rows = await store.fetch("select direccion, remitente_tipo from mensajes")
    assert {(r["direccion"], r["remitente_tipo"]) for r in rows} == {
        ("entrante", "contacto"),
        ("saliente", "sistema"),
    }
    ticket = await the(store, "select * from tickets")
    assert (ticket["area"], ticket["estado"]) == ("alumnos", "abierto")
    context = json.loads(ticket["metadata"])["contexto_completo"]
    assert context["opciones_seleccionadas"] == ["2", "22"]
    derivation = await the(store, "select * from derivaciones")
    assert (derivation["area"], derivation["status"]) == ("alumnos", "completada")


async def test_a_derived_conversation_is_read_as_one(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, "Hola", "22")
    before = (await the(store, "select count(*) as n from mensajes"))["n"]
    stranger = Ledger(store, Desk(SETTINGS), CRM)
    (new,), _ = await stranger.write(received(message(text="gracias")))
    assert (new.before.area, new.before.router_estado) == ("Alumnos", "derivada")
    assert (await the(store, "select count(*) as n from mensajes"))["n"] == before + 1


@pytest.mark.parametrize(
    ("column", "word"),
    [("area", "ventas_api"), ("estado", "derivada"), ("router_estado", "raro")],
)
async def test_words_of_others_stay_as_they_are(
    store: Database, ledger: Ledger, column: str, word: str
) -> None:
    await say(ledger, "Hola")
    update = f"update conversaciones set asignado_a = 'x', {column} = $1"  # noqa: S608 -- a column of ours
    await store.execute(update, word)
    await say(ledger, "sigo acá", "y sigo")
    assert (await the(store, f"select {column} as c from conversaciones"))["c"] == word  # noqa: S608 -- same


async def test_urgent_words_count_in_any_dialect(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, "es urgente, no puedo entrar", "12")
    assert (await the(store, "select prioridad from tickets"))["prioridad"] == "alta"


async def test_an_agent_s_message_and_its_states(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(wamid="wamid.out", kind="echo.text")))
    for word in ("read", "delivered"):
        await ledger.write(received(status("wamid.out", word)))
    row = await the(store, "select * from mensajes")
    assert (row["remitente_tipo"], row["estado_envio"]) == ("agente", "read")


async def test_a_database_that_takes_every_word_has_no_problem(store: Database) -> None:
    assert await problems(store, PLAN) == []
    assert await problems(store, CRM) == []


async def test_what_a_database_refuses_is_named(store: Database) -> None:
    await store.execute(
        "alter table mensajes add constraint whose"
        " check (remitente_tipo in ('contact', 'system', 'agent'))"
    )
    await store.execute("create type fate as enum ('abierto', 'cerrado')")
    await store.execute("alter table tickets alter estado drop default")
    await store.execute("alter table tickets alter estado type fate using estado::fate")
    assert await problems(store, PLAN) == [
        "tickets.estado does not take en_progreso, resuelto (fate)"
    ]
    assert await problems(store, CRM) == [
        "mensajes.remitente_tipo does not take contacto, sistema, agente (whose)",
        "tickets.estado does not take en_progreso, resuelto (fate)",
    ]


async def test_a_plain_dialect_sends_the_very_same_statements(store: Database) -> None:
    asked: list[Any] = []

    class Listening(Database):
        async def fetch(self, sql: str, *args: Any) -> list[Row]:
            asked.append(sql)
            return await store.fetch(sql, *args)

    ledger = Ledger(Listening(""), Desk(SETTINGS), load("plan"))
    await store.execute("insert into contactos (telefono) values ('5491100000001')")
    await Ledger(store, Desk(SETTINGS)).write(received(message()))
    await ledger.write(received(message()))
    assert all(
        sql in {PLAN.sql(n) for n in ("numbers", "lookup", "record")} for sql in asked
    )
    assert PLAN.sql("record") in asked


OLD_CHECK = (
    "alter table mensajes drop constraint mensajes_tipo_check,"
    " add constraint old check (tipo in ('text', 'image', 'audio', 'video', 'document'))"
)


@pytest.mark.parametrize("name", ["plan", "crm-2026"])
async def test_a_check_from_before_stickers_takes_them_as_something_else(
    store: Database, name: str
) -> None:
    await store.execute(OLD_CHECK)
    found = await fit(store, load(name))
    assert found.wrong == []
    assert found.swapped == [
        "mensajes.tipo (old): sticker is written as image",
        "mensajes.tipo (old): location is written as text",
        "mensajes.tipo (old): contact is written as text",
    ]
    ledger = Ledger(store, Desk(SETTINGS), load(found.dialect.name))
    content = Content(text="[Sticker]", tipo="sticker")
    await ledger.write(received(message(content=content, kind="message.sticker")))
    row = await the(store, "select * from mensajes where direccion = 'entrante'")
    assert row["tipo"] == "image"
    assert json.loads(row["metadata"])["kind"] == "message.sticker"


async def test_what_nothing_stands_in_for_stays_a_problem(store: Database) -> None:
    await store.execute(
        "alter table mensajes drop constraint mensajes_tipo_check,"
        " add constraint odd check (tipo in ('texto', 'imagen'))"
    )
    found = await fit(store, PLAN)
    assert (found.dialect, found.swapped) == (PLAN, [])
    (line,) = found.wrong
    assert line.startswith("mensajes.tipo does not take text, ")


@pytest.mark.parametrize("name", ["plan sticker", "plan tipo.postcard=text"])
def test_words_after_a_profile_s_name_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected tipo\.WORD=OTHER"):
        load(name)
