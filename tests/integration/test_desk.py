"""The menu over real tables: what a person types, and the rows, tickets and notices of it."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from router.config import Destination, Line, Settings
from router.errors import Transient
from router.model import Event
from router.stages.desk import Desk, Lines
from router.store.database import Database, Row
from router.store.ledger import Ledger
from router.store.replies import UNCONFIRMED, UNSETTLED, ReplyQueue
from router.whatsapp.outgoing import Outgoing
from tests.events import message, received, status

WHO = "5491100000001"
OTHER = "5491100000002"
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    graph_token="token",
    lines=(Line(name="wsp4", phone_number_id="100000000000001"),),
    destinations=tuple(
        Destination(name=name, url=f"http://127.0.0.1:9/{name}")
        for name in ("ingesta_wsp4", "ingesta_alumnos", "envios_crm", "envios_alumnos")
    ),
)


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, Desk(SETTINGS))


async def all_of(store: Database, sql: str) -> list[Row]:
    return await store.fetch(sql)


async def the(store: Database, sql: str) -> Row:
    (row,) = await store.fetch(sql)
    return row


async def transcript(store: Database) -> list[tuple[str, str, str]]:
    rows = await store.fetch(
        "select direccion, remitente_tipo, mensaje from mensajes order by timestamp, id"
    )
    return [
        (r["direccion"], r["remitente_tipo"], r["mensaje"].splitlines()[0])
        for r in rows
    ]


async def told(store: Database, destination: str) -> list[dict[str, Any]]:
    rows = await store.fetch(
        "select payload from router.outbox where destination = $1 order by id",
        destination,
    )
    return [json.loads(row["payload"]) for row in rows]


def typed(*texts: str, who: str = WHO) -> list[Event]:
    # Now, and not when the tests were collected: an old message is not answered.
    return [message(who, text=text, timestamp=datetime.now(UTC)) for text in texts]


async def say(ledger: Ledger, *events: Event, together: bool) -> None:
    if together:
        await ledger.write(received(*events))
        return
    for event in events:
        await ledger.write(received(event))


@pytest.mark.parametrize("together", [True, False])
async def test_hola_2_22_is_a_menu_a_submenu_and_a_ticket(
    store: Database,
    ledger: Ledger,
    *,
    together: bool,
) -> None:
    await say(ledger, *typed("Hola", "2", "22"), together=together)
    lines = await transcript(store)
    assert [line[:2] for line in lines].count(("entrante", "contact")) == 3
    replies = [text for direction, _, text in lines if direction == "saliente"]
    assert len(replies) == 3
    assert "Te damos la bienvenida" in replies[0]
    assert "Alumnos" in replies[1]
    conversation = await the(store, "select * from conversaciones")
    ticket = await the(store, "select * from tickets")
    year = ticket["ticket_id"][4:8]
    assert ticket["ticket_id"] == f"PSI-{year}-000001"
    assert (ticket["area"], ticket["estado"], ticket["origen"]) == (
        "Alumnos",
        "abierto",
        "Router Automático",
    )
    context = json.loads(ticket["metadata"])
    assert context["motivo"] == "Alumnos - Clases y cronograma"
    assert context["contexto_completo"]["opciones_seleccionadas"] == ["2", "22"]
    assert (
        conversation["area"],
        conversation["estado"],
        conversation["router_estado"],
        conversation["subetiqueta"],
        conversation["submenu_actual"],
        conversation["ultima_derivacion"],
    ) == ("Alumnos", "activa", "derivada", "clases", "22", ticket["ticket_id"])
    assert conversation["ts_ultima_derivacion"] is not None
    derivation = await the(store, "select * from derivaciones")
    assert (derivation["status"], derivation["inbox_destino"]) == (
        "enviada",
        "envios_alumnos",
    )
    assert (await the(store, "select accion from audit_log"))[0] == "ticket_creado"
    assert len(await told(store, "ingesta_wsp4")) == 3
    assert await told(store, "envios_alumnos") == [
        {
            "conversationId": str(conversation["id"]),
            "phone": WHO,
            "area": "Alumnos",
            "subarea": "clases",
            "ticketId": ticket["ticket_id"],
        }
    ]
    assert await told(store, "envios_crm") == []


async def test_a_reply_is_a_row_before_it_is_sent_and_leaves_by_the_same_line(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(*typed("Hola")))
    reply = await the(store, "select * from mensajes where direccion = 'saliente'")
    row = await the(
        store, "select key, payload from router.outbox where destination = 'whatsapp'"
    )
    assert row["key"] == f"psi_{reply['id'].hex}"
    sent = Outgoing.from_bytes(row["payload"])
    assert (sent.phone_number_id, sent.recipient) == ("100000000000001", WHO)
    assert sent.body["text"]["body"] == reply["mensaje"]
    assert (reply["estado_envio"], reply["remitente_nombre"]) == (
        "pendiente",
        "Router PSI",
    )


async def test_who_writes_by_an_id_is_told_of_by_the_phone_that_is_known(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO, bsuid="AR.known", text="Hola")))
    for text in ("2", "22", "gracias"):
        await ledger.write(received(message("", bsuid="AR.known", text=text)))
    assert {body["phone"] for body in await told(store, "ingesta_wsp4")} == {WHO}
    derivation, proxied = await told(store, "envios_alumnos")
    assert (derivation["phone"], proxied["telefono"]) == (WHO, WHO)
    await ledger.write(received(message("", bsuid="AR.77")))
    assert (await told(store, "ingesta_wsp4"))[-1]["phone"] == "AR.77"


def test_a_line_is_found_by_its_number_before_the_one_for_any_number() -> None:
    lines = Lines(
        (
            Line(name="wsp4", phone_number_id=None),
            Line(name="ventas", phone_number_id="777"),
        )
    )
    assert [lines.name_of(n) for n in ("777", "1", None)] == ["ventas", "wsp4", "wsp4"]
    only = Lines((Line(name="ventas", phone_number_id="777"),))
    assert only.find("1") is None
    assert only.name_of("1") == "1"


async def test_without_a_token_replies_are_stored_as_not_sent(store: Database) -> None:
    ledger = Ledger(store, Desk(Settings(**{**_fields(SETTINGS), "graph_token": None})))
    await ledger.write(received(*typed("Hola")))
    reply = await the(store, "select * from mensajes where direccion = 'saliente'")
    assert reply["estado_envio"] == "no_enviado"
    assert await told(store, "whatsapp") == []


def _fields(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__slots__}


async def test_a_derived_conversation_is_silent_and_told_to_its_area_and_to_ingesta(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(*typed("Hola", "2", "22")))
    before = len(await transcript(store))
    await ledger.write(received(*typed("gracias, espero")))
    assert len(await transcript(store)) == before + 1
    proxied = (await told(store, "envios_alumnos"))[-1]
    assert (proxied["tipo"], proxied["mensaje"]) == ("mensaje_proxy", "gracias, espero")
    assert [body["message"] for body in await told(store, "ingesta_alumnos")] == [
        "gracias, espero"
    ]
    assert (await the(store, "select area from conversaciones"))[0] == "Alumnos"


async def test_an_agent_who_takes_over_is_not_talked_over(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(*typed("Hola")))
    await store.execute("update conversaciones set asignado_a = 'agente-1'")
    await ledger.write(received(*typed("2")))
    assert len(await transcript(store)) == 3
    assert (await the(store, "select router_estado from conversaciones"))[0] == (
        "principal"
    )


async def test_a_second_derivation_takes_the_open_ticket(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(*typed("Hola", "22", "MENU", "15")))
    tickets = await all_of(store, "select * from tickets")
    assert [(t["area"]) for t in tickets] == ["Administración"]
    rows = await all_of(store, "select * from derivaciones order by ts_derivacion")
    assert {row["ticket_id"] for row in rows} == {tickets[0]["ticket_id"]}
    assert sorted(row["area"] for row in rows) == ["Administración", "Alumnos"]
    actions = await all_of(store, "select accion from audit_log order by accion")
    assert [row["accion"] for row in actions] == ["ticket_creado", "ticket_reutilizado"]


async def test_tickets_of_one_moment_have_numbers_of_their_own(
    store: Database, ledger: Ledger
) -> None:
    people = [f"54911000{n:05}" for n in range(20)]
    await asyncio.gather(
        *(ledger.write(received(*typed("Hola", "5", who=who))) for who in people)
    )
    rows = await all_of(store, "select ticket_id from tickets order by ticket_id")
    assert [int(row["ticket_id"][9:]) for row in rows] == list(range(1, 21))


async def test_the_words_of_the_person_make_it_urgent_and_not_the_option_s(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(*typed("Hola", "12")))
    await ledger.write(
        received(*typed("hola, es urgente, no puedo entrar", "12", who=OTHER))
    )
    rows = await all_of(store, "select telefono, prioridad from tickets")
    assert {row["telefono"]: row["prioridad"] for row in rows} == {
        WHO: "normal",
        OTHER: "alta",
    }


async def test_five_first_messages_at_once_get_one_menu(
    store: Database, ledger: Ledger
) -> None:
    events = typed("Hola", "hola?", "buenas", "hola", "Hola!!")
    await asyncio.gather(*(ledger.write(received(event)) for event in events))
    lines = await transcript(store)
    assert len(lines) == 6
    assert sum(direction == "saliente" for direction, *_ in lines) == 1


async def test_a_repeated_body_is_not_answered_again(
    store: Database, ledger: Ledger
) -> None:
    events = typed("Hola", "2", "22")
    for _ in range(3):
        await ledger.write(received(*events))
    assert len(await transcript(store)) == 6
    assert len(await all_of(store, "select 1 as n from derivaciones")) == 1


async def test_what_the_crm_keeps_in_metadata_stays(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(*typed("Hola")))
    await store.execute(
        'update conversaciones set metadata = metadata || \'{"etiqueta": "vip"}\''
    )
    await ledger.write(received(*typed("2")))
    row = await the(store, "select metadata from conversaciones")
    metadata = json.loads(row["metadata"])
    assert metadata["etiqueta"] == "vip"
    assert metadata["bot"]["path"] == ["2"]


@pytest.mark.parametrize(
    ("word", "state"), [("delivered", "delivered"), ("failed", "failed")]
)
async def test_a_status_says_what_became_of_a_reply_of_unknown_outcome(
    store: Database, ledger: Ledger, word: str, state: str
) -> None:
    await ledger.write(received(*typed("Hola")))
    await store.execute("update router.outbox set state = 'unknown'")
    (row,) = await store.fetch(
        "select key from router.outbox where destination = 'whatsapp'"
    )
    heard = status("wamid.REPLY", word)
    heard.item["biz_opaque_callback_data"] = row["key"]
    await ledger.write(received(heard))
    reply = await the(store, "select * from mensajes where direccion = 'saliente'")
    assert (reply["whatsapp_message_id"], reply["estado_envio"]) == (
        "wamid.REPLY",
        state,
    )
    (row,) = await store.fetch(
        "select state from router.outbox where destination = 'whatsapp'"
    )
    assert row["state"] == "done"


async def test_a_reply_lost_with_its_process_is_never_sent_again_and_marked(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(*typed("Hola")))
    whatsapp = Destination(name="whatsapp", url="http://127.0.0.1:9")
    dead, heir = ReplyQueue(store, whatsapp), ReplyQueue(store, whatsapp)
    (lease,) = await dead.lease(1)
    await dead.about_to_send(lease.item)
    await store.execute(
        "update router.outbox set lease_until = now() - interval '1 s'"
        " where destination = 'whatsapp'"
    )
    assert (await heir._claims.claim(1)).rows == []
    await heir._idle()
    row = await the(store, "select * from mensajes where direccion = 'saliente'")
    assert (row["estado_envio"], row["error_mensaje"]) == ("pendiente", UNCONFIRMED)
    kept = await the(store, "select state from router.outbox where begun")
    assert kept["state"] == "unknown"
    with pytest.raises(Transient):
        await dead.about_to_send(lease.item)


async def unknown(store: Database, ledger: Ledger) -> ReplyQueue:
    """Answer a person, and lose the answer to the request that sends it."""
    await ledger.write(received(*typed("Hola")))
    queue = ReplyQueue(store, Destination(name="whatsapp", url="http://127.0.0.1:9"))
    (lease,) = await queue.lease(1)
    await queue.about_to_send(lease.item)
    queue.end_unknown(lease.item)
    await queue.flush()
    return queue


async def time_passes(store: Database, queue: ReplyQueue, seconds: float) -> None:
    await store.execute(
        "update router.outbox set next_attempt_at = next_attempt_at"
        " - make_interval(secs => $1) where destination = 'whatsapp'",
        seconds,
    )
    queue._looked_at = -60.0
    await queue._idle()


async def test_a_reply_of_which_nobody_knows_is_shown_to_a_person_once_and_not_sent(
    store: Database, ledger: Ledger
) -> None:
    queue = await unknown(store, ledger)
    reply = "select * from mensajes where direccion = 'saliente'"
    await time_passes(store, queue, 500)
    assert await all_of(store, "select from router.dead_letters") == []
    assert (await the(store, reply))["error_mensaje"] == UNCONFIRMED
    await time_passes(store, queue, 101)
    letter = await the(store, "select * from router.dead_letters")
    assert (letter["stage"], letter["destination"]) == ("notify", "whatsapp")
    assert letter["reason"].startswith("unknown: ")
    assert (await the(store, reply))["error_mensaje"] == UNSETTLED
    await time_passes(store, queue, 86_400)
    assert (await the(store, "select * from router.dead_letters")) == letter
    row = await the(
        store, "select state, begun from router.outbox where destination = 'whatsapp'"
    )
    assert row["state"] == "unknown"
    assert (await queue._claims.claim(5)).rows == []


@pytest.mark.parametrize("after_s", [0, 601])
async def test_a_status_settles_it_before_and_after_a_person_was_told(
    store: Database, ledger: Ledger, after_s: float
) -> None:
    queue = await unknown(store, ledger)
    await time_passes(store, queue, after_s)
    row = await the(
        store, "select key from router.outbox where destination = 'whatsapp'"
    )
    heard = status("wamid.LATE", "delivered")
    heard.item["biz_opaque_callback_data"] = row["key"]
    await ledger.write(received(heard))
    await time_passes(store, queue, 86_400)
    reply = await the(store, "select * from mensajes where direccion = 'saliente'")
    assert (reply["estado_envio"], reply["error_mensaje"]) == ("delivered", None)
    letters = await all_of(store, "select from router.dead_letters")
    assert len(letters) == (after_s > 600)
