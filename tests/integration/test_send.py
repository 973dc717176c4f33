"""The CRM's way to WhatsApp, on real tables, and once through the whole service."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from router import model
from router.cli.fake_graph import FakeGraph, fake_graph
from router.config import Line, Settings
from router.model import Delivery, Received
from router.ops.send import Sender
from router.store.database import Database, Row
from router.store.ledger import Ledger
from router.whatsapp.events import read
from router.whatsapp.outgoing import TEXT, Outgoing
from tests.events import SilentDesk, body, message, now, received, text_message
from tests.faults.harness import HOST, Service
from tests.servers import until

WHO = "5491100000001"
TOKEN, SECRET = "the-admins-own", "the-crms-own"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
MAIN, VENTAS = "100000000000001", "100000000000002"
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    graph_token="token",
    admin_token=TOKEN,
    shared_secret=SECRET.encode(),
    lines=(
        Line(name="wsp4", phone_number_id=MAIN),
        Line(name="ventas", phone_number_id=VENTAS),
    ),
)


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, SilentDesk())


class Door:
    """A CRM that posts to a `Sender` over HTTP; `woken` counts the outbox's wake-ups."""

    def __init__(self, store: Database, settings: Settings) -> None:
        self.woken = 0
        sender = Sender(settings, store, self._wake)
        app = web.Application()
        app.router.add_post("/", sender.handle)
        self._client = TestClient(TestServer(app, host=HOST))

    def _wake(self) -> None:
        self.woken += 1

    async def post(
        self, value: Any, headers: dict[str, str] | None = None, key: str = ""
    ) -> tuple[int, dict[str, Any]]:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = dict(BEARER if headers is None else headers)
        if key:
            headers["Idempotency-Key"] = key
        async with self._client:
            answer = await self._client.post("/", data=raw, headers=headers)
            return answer.status, (await answer.json() if answer.status != 404 else {})


async def sent(
    store: Database, value: Any, settings: Settings = SETTINGS, **how: Any
) -> tuple[int, dict[str, Any]]:
    return await Door(store, settings).post(value, **how)


async def refused(
    store: Database, value: Any, settings: Settings = SETTINGS, **how: Any
) -> str:
    """Return the code of a 422 that left no row behind."""
    before = await count(store)
    status, answer = await sent(store, value, settings, **how)
    assert (status, await count(store)) == (422, before)
    assert answer["error"]["message"]
    code: str = answer["error"]["code"]
    return code


async def count(store: Database) -> tuple[int, int]:
    row = await the(
        store,
        "select (select count(*) from mensajes where direccion = 'saliente') as m,"
        " (select count(*) from router.outbox) as o",
    )
    return row["m"], row["o"]


async def the(store: Database, sql: str) -> Row:
    (row,) = await store.fetch(sql)
    return row


async def agents(store: Database) -> list[Row]:
    return await store.fetch(
        "select * from mensajes where remitente_tipo = 'agent' order by id"
    )


async def leaving(store: Database) -> Outgoing:
    row = await the(store, "select payload from router.outbox")
    return Outgoing.from_bytes(row["payload"])


async def test_a_text_is_the_agents_row_and_an_outbox_row_of_one_conversation(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO, wamid="wamid.asked")))
    before = await the(store, "select * from conversaciones")
    door = Door(store, SETTINGS)
    status, answer = await door.post(
        {
            "telefono": "+54 9 11 0000-0001",
            "mensaje": "Te escribo en un rato",
            "reply_to": "wamid.asked",
            "agente": "Sol",
        }
    )
    assert (status, answer["state"], door.woken) == (202, "pendiente", 1)
    (row,) = await agents(store)
    asked = await the(store, "select id from mensajes where direccion = 'entrante'")
    assert (row["id"], row["conversacion_id"]) == (UUID(answer["id"]), before["id"])
    assert (row["mensaje"], row["tipo"], row["direccion"], row["estado_envio"]) == (
        "Te escribo en un rato",
        "text",
        "saliente",
        "pendiente",
    )
    assert (row["remitente_nombre"], row["mensaje_citado_id"]) == ("Sol", asked["id"])
    assert json.loads(row["metadata"]) == {"kind": "sent"}
    outbox = await the(store, "select * from router.outbox")
    assert (outbox["destination"], outbox["key"], outbox["lane"], outbox["state"]) == (
        "whatsapp",
        f"psi_{row['id'].hex}",
        str(before["id"]),
        "pending",
    )
    said = await leaving(store)
    assert (said.phone_number_id, said.recipient) == (MAIN, WHO)
    assert said.body["text"]["body"] == "Te escribo en un rato"
    assert said.body["context"] == {"message_id": "wamid.asked"}
    assert said.body["biz_opaque_callback_data"] == outbox["key"]
    assert said.until == before["ventana_24h_fin"].timestamp()
    after = await the(store, "select * from conversaciones")
    assert after["ultimo_mensaje"] == "Te escribo en un rato"
    kept = ("area", "estado", "router_estado", "asignado_a", "telefono")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    # A ledger that remembers the conversation sees that it changed, and goes on.
    await ledger.write(received(message(WHO, text="Dale", minutes=30)))
    assert (await the(store, "select ultimo_mensaje from conversaciones"))[0] == "Dale"


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ('{"utm_source": "x"}', {"utm_source": "x"}),
        ('{"bot": {"last": "a"}}', {"bot": {"last": "a"}}),
        ('{"bot": 3}', {}),
        ("[]", {}),
    ],
)
async def test_what_an_agent_sends_is_answered_by_an_agent(
    store: Database, ledger: Ledger, metadata: str, kept: dict[str, Any]
) -> None:
    await ledger.write(received(message(WHO)))
    await store.execute("update conversaciones set metadata = $1", metadata)
    await Door(store, SETTINGS).post({"to": WHO, "text": "¿Para cuándo lo querés?"})
    row = await the(store, "select metadata from conversaciones")
    found = json.loads(row["metadata"])
    agent_at = found["bot"].pop("agent_at")
    assert time.time() - 60 < agent_at <= time.time()
    assert {name: value for name, value in found.items() if value} == kept
    before = await store.fetch("select id from mensajes")
    await ledger.write(received(message(WHO, wamid="wamid.b", text="para el martes")))
    assert len(await store.fetch("select id from mensajes")) == len(before) + 1
    again = await the(
        store, "select metadata->'bot'->'agent_at' as at from conversaciones"
    )
    assert float(again["at"]) == agent_at


async def test_a_template_leaves_the_answer_to_the_bot(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    body = {"to": WHO, "template": {"name": "promo", "language": "es_AR"}}
    assert (await Door(store, SETTINGS).post(body))[0] == 202
    row = await the(store, "select metadata from conversaciones")
    assert "agent_at" not in row["metadata"]


@pytest.mark.parametrize(
    "value",
    [
        {"to": WHO, "message": "Hola"},
        {"phone": WHO, "text": "Hola"},
        {"telefono": "AR.77", "mensaje": "Hola"},
        {"to": "541100000001", "mensaje": "Hola"},
    ],
)
async def test_the_names_that_the_predecessor_used_are_taken(
    store: Database, ledger: Ledger, value: dict[str, str]
) -> None:
    await ledger.write(received(message(WHO, bsuid="AR.77")))
    assert (await sent(store, value))[0] == 202
    said = await leaving(store)
    assert (said.recipient, said.body["text"]["body"]) == (WHO, "Hola")


@pytest.mark.parametrize("name", ["conversacion_id", "conversationId"])
async def test_a_conversation_can_be_named_and_decides(
    store: Database, ledger: Ledger, name: str
) -> None:
    await ledger.write(received(message(WHO), message("5491100000002")))
    row = await the(store, f"select id from conversaciones where telefono = '{WHO}'")  # noqa: S608 -- a constant
    value = {name: str(row["id"]), "telefono": "5491100000002", "mensaje": "Hola"}
    assert (await sent(store, value))[0] == 202
    assert (await leaving(store)).recipient == WHO


async def test_of_a_closed_conversation_the_persons_open_one_goes_on(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    await store.execute("update conversaciones set estado = 'cerrada'")
    old = await the(store, "select id from conversaciones")
    await ledger.write(received(message(WHO)))
    value = {"conversacion_id": str(old["id"]), "mensaje": "Hola"}
    assert (await sent(store, value))[0] == 202
    (row,) = await agents(store)
    now_open = await the(
        store, "select id from conversaciones where estado <> 'cerrada'"
    )
    assert row["conversacion_id"] == now_open["id"] != old["id"]


async def test_a_person_without_a_phone_is_reached_by_their_id(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message("", bsuid="AR.77")))
    assert (await sent(store, {"to": "AR.77", "text": "Hola"}))[0] == 202
    assert (await leaving(store)).body["recipient"] == "AR.77"


async def test_a_message_leaves_by_its_conversations_line(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    await store.execute("update conversaciones set linea_origen = 'ventas'")
    assert (await sent(store, {"to": WHO, "text": "Hola"}))[0] == 202
    assert (await leaving(store)).phone_number_id == VENTAS


async def test_a_file_and_its_caption(store: Database, ledger: Ledger) -> None:
    await ledger.write(received(message(WHO)))
    media = {"type": "document", "url": "https://x.test/p.pdf", "filename": "plan.pdf"}
    value = {"to": WHO, "media": media, "caption": "El programa"}
    assert (await sent(store, value))[0] == 202
    (row,) = await agents(store)
    assert (row["tipo"], row["mensaje"]) == ("document", "El programa")
    assert (row["media_url"], row["media_filename"]) == (media["url"], "plan.pdf")
    assert (await leaving(store)).body["document"] == {
        "link": media["url"],
        "caption": "El programa",
        "filename": "plan.pdf",
    }


async def test_a_file_in_the_crms_flat_names_without_a_caption(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    value = {
        "telefono": WHO,
        "mensaje": "",
        "media_url": "https://x.test/i.jpg",
        "media_type": "image/jpeg",
    }
    assert (await sent(store, value))[0] == 202
    (row,) = await agents(store)
    assert (row["tipo"], row["mensaje"]) == ("image", "[Imagen]")
    assert (await leaving(store)).body["image"] == {"link": "https://x.test/i.jpg"}


TEMPLATE = {"name": "recordatorio", "language": "es_AR", "components": []}


async def test_outside_the_window_only_a_template_goes(
    store: Database, ledger: Ledger
) -> None:
    late = replace(message(WHO), timestamp=now() - timedelta(hours=24, minutes=1))
    await ledger.write(received(late))
    assert await refused(store, {"to": WHO, "text": "Hola"}) == "window_closed"
    assert (await sent(store, {"to": WHO, "template": TEMPLATE}))[0] == 202
    said = await leaving(store)
    assert (said.until, said.bulk) == (None, True)
    row = await the(store, "select destination from router.outbox")
    assert row["destination"] == "whatsapp_bulk"  # no reply waits behind a campaign
    assert said.body["template"] == {
        "name": "recordatorio",
        "language": {"code": "es_AR"},
    }
    (row,) = await agents(store)
    assert row["mensaje"] == "[Plantilla: recordatorio]"


async def test_an_advertisements_window_is_open_for_longer(
    store: Database, ledger: Ledger
) -> None:
    late = replace(message(WHO), timestamp=now() - timedelta(hours=30))
    await ledger.write(received(late))
    await store.execute(
        "update conversaciones set ventana_72h_fin = now() + interval '42 hours'"
    )
    row = await the(store, "select ventana_72h_fin from conversaciones")
    assert (await sent(store, {"to": WHO, "text": "Hola"}))[0] == 202
    assert (await leaving(store)).until == row["ventana_72h_fin"].timestamp()


async def test_a_conversation_from_before_the_windows_has_that_of_its_last_message(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    await store.execute("update conversaciones set ventana_24h_fin = null")
    assert (await sent(store, {"to": WHO, "text": "Hola"}))[0] == 202
    assert (await leaving(store)).until == (now() + timedelta(hours=24)).timestamp()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"{", "bad_request"),
        ([], "bad_request"),
        ({"text": "Hola"}, "bad_request"),
        ({"to": " ", "text": "Hola"}, "bad_request"),
        ({"to": WHO}, "bad_request"),
        ({"to": WHO, "text": "  "}, "bad_request"),
        ({"conversacion_id": "7", "text": "Hola"}, "bad_request"),
        ({"to": WHO, "media": {"type": "image"}}, "bad_request"),
        ({"to": WHO, "media": {"type": "fax", "url": "https://x"}}, "bad_request"),
        ({"to": WHO, "media": {"type": "image", "url": "file:///x"}}, "bad_request"),
        ({"to": WHO, "template": {"name": "x"}}, "bad_request"),
        ({"to": WHO, "text": "x" * (TEXT + 1)}, "text_too_long"),
        (
            {
                "to": WHO,
                "caption": "x" * 1025,
                "media": {"type": "image", "url": "https://x"},
            },
            "text_too_long",
        ),
        ({"to": "5491100000009", "text": "Hola"}, "unknown_recipient"),
        ({"to": "sin-identificar", "text": "Hola"}, "unknown_recipient"),
        (
            {"conversacion_id": str(UUID(int=7)), "to": WHO, "text": "Hola"},
            "unknown_recipient",
        ),
    ],
)
async def test_what_cannot_be_sent_says_why_and_leaves_no_row(
    store: Database, ledger: Ledger, value: Any, code: str
) -> None:
    await ledger.write(received(message(WHO), message("")))
    assert await refused(store, value) == code


async def test_a_name_that_two_people_have_and_a_number_given_up_are_nobodys(
    store: Database, ledger: Ledger
) -> None:
    for who in (WHO, "5491100000002"):
        event = message(who)
        person = replace(event.person, username="ana")
        await ledger.write(received(replace(event, person=person, scope=who)))
    assert await refused(store, {"to": "@ana", "text": "Hola"}) == "unknown_recipient"
    await store.execute("update contactos set telefono = 'AR.' || telefono")
    await store.execute("update router.identities set left_at = now()")
    assert await refused(store, {"to": WHO, "text": "Hola"}) == "unknown_recipient"


async def test_without_a_token_or_a_number_nothing_can_be_sent(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    value = {"to": WHO, "text": "Hola"}
    mute = replace(SETTINGS, graph_token=None)
    assert await refused(store, value, mute) == "no_token"
    anywhere = replace(SETTINGS, lines=(Line(name="wsp4"),))
    assert await refused(store, value, anywhere) == "no_number"
    await store.execute("update mensajes set metadata = '[]'")
    assert await refused(store, value, anywhere) == "no_number"
    empty = {"to": WHO, "text": ""}
    assert await refused(store, empty, anywhere) == "bad_request"


async def test_by_a_line_for_any_number_it_leaves_by_the_one_that_was_written_to(
    store: Database, ledger: Ledger
) -> None:
    raw = body(text_message(WHO, "wamid.in"))
    delivery = Delivery(body=raw, door=model.Door.META, received_at=now())
    (event,) = read(raw, model.Door.META)
    await ledger.write([Received(event, delivery)])
    anywhere = replace(SETTINGS, lines=(Line(name="wsp4"),))
    status, _ = await Door(store, anywhere).post({"to": WHO, "text": "Hola"})
    assert status == 202
    assert (await leaving(store)).phone_number_id == event.phone_number_id


async def test_the_same_key_and_body_is_one_message_however_often_it_comes(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    value = {"to": WHO, "text": "Hola"}
    at_once = [sent(store, value, key="k-1") for _ in range(4)]
    answers = await asyncio.gather(*at_once)
    await store.execute("update conversaciones set ventana_24h_fin = now()")
    answers.append(await sent(store, {"text": "Hola", "to": WHO}, key="k-1"))
    assert {status for status, _ in answers} == {202}
    assert len({answer["id"] for _, answer in answers}) == 1
    assert await count(store) == (1, 1)
    other = {"to": WHO, "text": "Chau"}
    assert await refused(store, other, key="k-1") == "idempotency_conflict"
    assert await refused(store, value, key="x" * 256) == "bad_request"


async def test_without_a_key_and_under_another_one_it_is_another_message(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    for key in ("", "", "k-1", "k-2"):
        assert (await sent(store, {"to": WHO, "text": "Hola"}, key=key))[0] == 202
    assert await count(store) == (4, 4)


async def test_a_refusal_does_not_use_its_key_up(
    store: Database, ledger: Ledger
) -> None:
    value = {"to": WHO, "text": "Hola"}
    assert await refused(store, value, key="k-1") == "unknown_recipient"
    await ledger.write(received(message(WHO)))
    assert (await sent(store, value, key="k-1"))[0] == 202


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        (SETTINGS, {"X-Webhook-Secret": SECRET}, 202),
        (replace(SETTINGS, admin_token=None), {"X-Webhook-Secret": SECRET}, 202),
        (replace(SETTINGS, shared_secret=None), BEARER, 202),
        (SETTINGS, {}, 401),
        (SETTINGS, {"X-Webhook-Secret": SECRET[:-1]}, 401),
        (SETTINGS, {"X-Webhook-Secret": TOKEN}, 401),
        (SETTINGS, {"Authorization": f"Bearer {SECRET}"}, 401),
        (replace(SETTINGS, shared_secret=None), {"X-Webhook-Secret": SECRET}, 401),
        (replace(SETTINGS, admin_token=None), BEARER, 401),
        (replace(SETTINGS, admin_token=None, shared_secret=None), BEARER, 404),
    ],
)
async def test_two_keys_open_the_door(
    store: Database,
    ledger: Ledger,
    settings: Settings,
    headers: dict[str, str],
    status: int,
) -> None:
    await ledger.write(received(message(WHO)))
    value = {"to": WHO, "text": "Hola"}
    assert (await sent(store, value, settings, headers=headers))[0] == status
    assert await count(store) == ((1, 1) if status == 202 else (0, 0))


async def test_text_that_postgresql_cannot_hold_is_stored_with_a_mark(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    raw = b'{"to": "%s", "text": "a\\u0000\\ud800b"}' % WHO.encode()
    assert (await sent(store, raw, key="k-1"))[0] == 202
    (row,) = await agents(store)
    assert row["mensaje"] == "a\ufffd\ufffdb"


async def test_its_rows_are_in_the_words_of_the_database(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO)))
    words = replace(SETTINGS, dialect="crm-2026")
    assert (await sent(store, {"to": WHO, "text": "Hola"}, words))[0] == 202
    row = await the(store, "select * from mensajes where direccion = 'saliente'")
    assert row["remitente_tipo"] == "agente"


async def test_through_the_service_it_reaches_whatsapp_and_its_row_says_so(
    database: str, store: Database, tmp_path: Path
) -> None:
    graph = FakeGraph(token="graph-token")
    async with fake_graph(graph) as api:
        service = Service(
            tmp_path,
            {
                "DATABASE_URL": database,
                "PSI_ADMIN_TOKEN": TOKEN,
                "CLOUD_API_TOKEN": "graph-token",
                "CLOUD_API_BASE_URL": api.url,
                "CLOUD_API_PHONE_NUMBER_ID": MAIN,
            },
        )
        service.start()
        try:
            await service.ready()
            await service.post(body(text_message(WHO, "wamid.begin")))
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"http://{HOST}:{service.port}/api/messages/send",
                    json={"to": WHO, "text": "Acá estoy"},
                    headers=BEARER,
                ) as answer,
            ):
                assert answer.status == 202
            last = (await graph.taken(2))[-1]
            assert last.body["text"]["body"] == "Acá estoy"

            async def is_sent() -> bool:
                (row,) = await agents(store)
                said = (row["estado_envio"], row["whatsapp_message_id"])
                return said == ("sent", last.wamid)

            await until(is_sent)
        finally:
            service.kill()
