"""One message's whole life, from the tables, the command and the HTTP API."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from router.cli import main
from router.cli.explain import lines
from router.config import Destination, Line, Settings
from router.errors import Transient
from router.model import Delivery, Door, Notification, Received
from router.ops.send import Asked, Sender
from router.stages.desk import Desk
from router.store import archive, explain, numbers
from router.store.database import Database
from router.store.dead_letters import DeadLetters
from router.store.explain import explained
from router.store.ledger import Ledger
from router.whatsapp.events import read
from tests.events import body, message, received, status, text_message
from tests.faults.harness import HOST, Service, Sink
from tests.servers import until

WHO = "5491100000001"
TOKEN = "the-admins-own"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    graph_token="token",
    lines=(Line(name="wsp4", phone_number_id="100000000000001"),),
    destinations=tuple(
        Destination(name=name, url=f"http://127.0.0.1:9/{name}")
        for name in ("ingesta_wsp4", "envios_alumnos")
    ),
)


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, Desk(SETTINGS))


def brought(raw: bytes, door: Door = Door.META) -> list[Received]:
    delivery = Delivery(body=raw, door=door, received_at=datetime.now(UTC))
    return [Received(event, delivery) for event in read(raw, door)]


async def life(store: Database, wamid: str) -> dict[str, Any]:
    found = await explained(store, wamid)
    assert found is not None
    return found


async def test_of_a_message_that_derives_everything_that_followed_is_shown(
    store: Database, ledger: Ledger
) -> None:
    for number, text in enumerate(("Hola", "2", "22")):
        await ledger.write(received(message(WHO, wamid=f"wamid.{number}", text=text)))
    found = await life(store, "wamid.2")
    assert found["message"]["mensaje"] == "22"
    assert found["message"]["metadata"]["kind"] == "message.text"
    decision = found["decision"]
    assert (decision["heard"], decision["silence"]) == ("choose 22", None)
    assert decision["before"]["submenu_actual"] == "2"
    assert decision["after"] == {
        "area": "Alumnos",
        "estado": "activa",
        "router_estado": "derivada",
        "submenu_actual": "22",
    }
    assert found["received"]["door"] == "meta"
    assert found["received"]["lag_s"] == 0
    assert found["conversation"]["area"] == "Alumnos"
    (reply,) = found["replies"]
    assert reply["estado_envio"] == "pendiente"
    (derivation,) = found["derivations"]
    assert derivation["ticket_id"] == found["conversation"]["ultima_derivacion"]
    told = [(row["destination"], row["state"]) for row in found["outbox"]]
    assert sorted(told) == [
        ("envios_alumnos", "pending"),
        ("ingesta_wsp4", "pending"),
        ("whatsapp", "pending"),
    ]
    assert found["dedupe"]["new_in"] == found["received"]["delivery"] == 3


async def test_why_the_bot_says_nothing_is_shown(
    store: Database, ledger: Ledger
) -> None:
    for number, text in enumerate(("Hola", "2", "22", "gracias")):
        await ledger.write(received(message(WHO, wamid=f"wamid.{number}", text=text)))
    found = await life(store, "wamid.3")
    assert found["decision"] == {"silence": "human"}
    assert "  decided    the bot says nothing: human" in list(lines(found))
    assert any(
        line.startswith("  decided    heard as main; ")
        for line in lines(await life(store, "wamid.0"))
    )


async def test_bodies_that_brought_it_again_are_shown_and_others_are_not(
    store: Database, ledger: Ledger
) -> None:
    wamid = "wamid.HBgNNTQ5/with/slashes+and=="
    raw = body(text_message(WHO, wamid), text_message(WHO, wamid))
    escaped = raw.replace(b"/", b"\\/")
    quoting = body(text_message(WHO, "wamid.other", f"see {wamid}"))
    assert escaped != raw
    await ledger.write(brought(raw))
    await ledger.write(brought(quoting))
    await ledger.write(brought(escaped, Door.SECRET))
    await ledger.write(received(status(wamid, "read")))
    found = await life(store, wamid)
    again = found["dedupe"].pop("again")
    assert found["dedupe"] == {"new_in": 1, "looked_to": 4, "last": 4}
    assert [(each["delivery"], each["door"], each["times"]) for each in again] == [
        (1, "meta", 2),
        (3, "secret", 2),
    ]
    said = list(lines(found | {"dedupe": found["dedupe"] | {"again": again}}))
    (line,) = [line for line in said if line.startswith("  dedupe")]
    assert "stored once" in line
    assert "2 x in 3, by the shared secret" in line
    (row,) = await store.fetch(
        "select count(*) as n from mensajes where whatsapp_message_id = $1", wamid
    )
    assert row["n"] == 1


@pytest.mark.parametrize("most", ["MOST_READ", "MOST_LOOKED_AT", "MOST_READ_BYTES"])
async def test_a_name_of_one_letter_is_looked_for_in_some_bodies_only(
    store: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, most: str
) -> None:
    for wamid in ("w", *(f"w{number}" for number in range(30))):
        await ledger.write(brought(body(text_message(WHO, wamid))))
    monkeypatch.setattr(explain, most, 5)
    monkeypatch.setattr(archive, "ROWS", 5)
    monkeypatch.setattr(explain, "ROWS", 5)
    found = await life(store, "w")
    looked_to = 1 if most == "MOST_READ_BYTES" else 5
    assert found["dedupe"] == {
        "new_in": 1,
        "again": [],
        "looked_to": looked_to,
        "last": 31,
    }
    said = f"  dedupe     new; no other body up to {looked_to} brought it"
    assert said in list(lines(found))


async def test_a_message_without_an_id_is_found_again_by_what_is_in_it(
    store: Database, ledger: Ledger
) -> None:
    raw = b'{"phone": "5491100000001", "text": "Una pregunta", "timestamp": 1795000000}'
    for _ in range(3):
        await ledger.write(brought(raw, Door.SECRET))
    row = (await store.fetch("select whatsapp_message_id as name from mensajes"))[0]
    dedupe = (await life(store, row["name"]))["dedupe"]
    assert [each["delivery"] for each in dedupe["again"]] == [2, 3]
    await store.execute("update router.deliveries set body = '{}' where id = 1")
    found = await life(store, row["name"])
    assert (found["dedupe"]["again"], found["dedupe"]["looked_to"]) == ([], None)
    assert any("nothing in it" in line for line in lines(found))


async def test_a_body_that_another_process_archived_earlier_or_later_is_found(
    store: Database, ledger: Ledger
) -> None:
    raw = body(text_message(WHO, "wamid.first"))
    other = Ledger(store, Desk(SETTINGS))
    await other.write(
        brought(body(text_message(WHO, "wamid.a")))
    )  # its numbers: 1-1000
    for _ in range(5):
        await store.execute("select nextval('router.deliveries_id_seq')")
    await ledger.write(brought(raw))
    await other.write(brought(raw))
    dedupe = (await life(store, "wamid.first"))["dedupe"]
    assert dedupe["new_in"] == 6001
    assert [each["delivery"] for each in dedupe["again"]] == [2]


async def test_numbers_are_not_kept_for_later(
    store: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list[int | None]()
    for lasts_s in (60.0, 60.0, 0.0):
        monkeypatch.setattr(numbers, "LASTS_S", lasts_s)
        (item,) = brought(body(text_message(WHO, f"wamid.{len(found)}")))
        await ledger.write([item])
        found.append(item.delivery.id)
    assert found == [1, 2, 1001]


async def test_one_request_that_was_archived_twice_did_not_come_again(
    store: Database, ledger: Ledger
) -> None:
    (item,) = brought(body(text_message(WHO, "wamid.a")))
    await ledger.write([item])
    item.delivery.id = None  # the answer of the commit was lost
    await ledger.write([item])
    assert (await life(store, "wamid.a"))["dedupe"]["again"] == []


async def test_a_database_that_goes_away_in_between_takes_only_the_search_with_it(
    store: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> AsyncGenerator[archive.Page, None]:
        for page in list[archive.Page]():
            yield page
        raise Transient("away")

    await ledger.write(brought(body(text_message(WHO, "wamid.a"))))
    monkeypatch.setattr(explain, "pages_with", away)
    found = await life(store, "wamid.a")
    assert found["message"]
    assert found["dedupe"]["looked_to"] is None


@pytest.mark.parametrize(
    "metadata",
    [
        "[]",
        "3",
        '"x"',
        "null",
        '{"delivery": 1.5, "decision": 3, "normalized_ms": "x"}',
        '{"delivery": 1e30}',
        '{"delivery": "x"}',
    ],
)
async def test_whatever_others_wrote_into_metadata_is_no_obstacle(
    store: Database, ledger: Ledger, metadata: str
) -> None:
    await ledger.write(brought(body(text_message(WHO, "wamid.a"))))
    await store.execute("update mensajes set metadata = $1", metadata)
    found = await life(store, "wamid.a")
    assert (found["received"], found["decision"]) == (None, None)
    assert list(lines(found))


async def test_times_without_a_zone_and_a_restored_archive_are_no_obstacle(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(brought(body(text_message(WHO, "wamid.a"))))
    await store.execute("alter table mensajes alter created_at type timestamp")
    before = (await life(store, "wamid.a"))["stages"]
    assert before["commit"] is not None
    await store.execute(
        "update mensajes set created_at = created_at - interval '1 day'"
    )
    stages = (await life(store, "wamid.a"))["stages"]
    assert stages["persist"] < 0
    assert stages["commit"] is None


async def test_when_each_stage_had_it_is_shown(
    database: str, store: Database, tmp_path: Path
) -> None:
    async def is_told() -> bool:
        (row,) = await store.fetch("select count(*) as n from router.attempts")
        return bool(row["n"])

    async with Sink(1).running() as sink:
        settings = {
            "DATABASE_URL": database,
            "N8N_WEBHOOK_INGESTA_ROUTER_WSP4": sink.url,
        }
        service = Service(tmp_path, settings)
        service.start()
        try:
            await service.ready()
            await service.post(body(text_message(WHO, "wamid.a")))
            await until(is_told)
        finally:
            service.kill()
    found = await life(store, "wamid.a")
    stages = found["stages"]
    assert list(stages) == ["normalize", "persist", "commit", "notify"]
    assert 0 < stages["normalize"] < stages["persist"] < stages["commit"]
    assert stages["commit"] < stages["notify"] < 10_000
    (line,) = [line for line in lines(found) if line.startswith("  stages")]
    assert line.startswith(
        f"  stages     normalize +{stages['normalize']} ms, persist +"
    )


async def test_of_an_agents_message_its_outbox_row_is_shown(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO, wamid="wamid.in")))
    sender = Sender(SETTINGS, store, lambda: None)
    sent = await sender.send(Asked.of({"to": WHO, "text": "Acá estoy"}))
    await store.execute(
        "update mensajes set whatsapp_message_id = 'wamid.out' where id = $1", sent
    )
    found = await life(store, "wamid.out")
    assert [row["webhook_id"] for row in found["outbox"]] == [f"psi_{sent.hex}"]
    assert len((await life(store, "wamid.in"))["outbox"]) == 2


async def test_of_several_in_one_batch_each_has_what_is_its_own(
    store: Database, ledger: Ledger
) -> None:
    texts = ("Hola", "2", "22")
    events = [
        message(WHO, wamid=f"wamid.{n}", text=text) for n, text in enumerate(texts)
    ]
    await ledger.write(received(*events))
    told = [len((await life(store, f"wamid.{n}"))["outbox"]) for n in range(3)]
    assert told == [2, 2, 3]
    (total,) = await store.fetch("select count(*) as n from router.outbox")
    assert total["n"] == sum(told)


async def test_attempts_statuses_and_letters_of_it_are_shown(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(WHO, wamid="wamid.in")))
    await store.execute(
        "update mensajes set whatsapp_message_id = 'wamid.out', estado_envio = 'sent'"
        " where direccion = 'saliente'"
    )
    await ledger.write(received(status("wamid.out", "delivered")))
    rows = await store.fetch(
        "select * from router.outbox where destination <> 'whatsapp'"
    )
    row = rows[0]
    await store.execute(
        "insert into router.attempts (outbox_id, at, status, latency_ms, answer)"
        " values ($1, now(), 500, 12, 'no')",
        row["id"],
    )
    await store.execute(
        "update router.outbox set state = 'dead', attempts = 1 where id = $1", row["id"]
    )
    told = Notification(
        row["id"], row["destination"], row["key"], row["lane"], row["payload"], 1
    )
    await DeadLetters(store).bury("notify", told, "HTTP 500")
    inbound = await life(store, "wamid.in")
    dead = next(r for r in inbound["outbox"] if r["destination"] == "ingesta_wsp4")
    assert [(t["status"], t["latency_ms"]) for t in dead["tries"]] == [(500, 12)]
    assert [letter["reason"] for letter in dead["dead_letters"]] == ["HTTP 500"]
    (answer,) = inbound["replies"]
    assert [s["status"] for s in answer["statuses"]] == ["delivered"]
    assert any(line.startswith("    status   delivered") for line in lines(inbound))
    assert inbound["statuses"] == []
    reply = await life(store, "wamid.out")
    assert reply["message"]["estado_envio"] == "delivered"
    assert [s["status"] for s in reply["statuses"]] == ["delivered"]
    assert [r["destination"] for r in reply["outbox"]] == ["whatsapp"]
    assert reply["received"] is None


async def test_what_is_only_buried_is_found_and_of_nobody_there_is_nothing(
    store: Database, ledger: Ledger
) -> None:
    (item,) = brought(body(text_message(WHO, "wamid.buried")))
    await DeadLetters(store).bury("persist", item, "a bug")
    found = await life(store, "wamid.buried")
    assert (found["message"], found["outbox"]) == (None, [])
    assert [letter["reason"] for letter in found["dead_letters"]] == ["a bug"]
    assert await explained(store, "wamid.nobody") is None


async def test_it_is_found_among_many_and_by_no_walk_through_the_outbox(
    store: Database, ledger: Ledger
) -> None:
    many = (
        "insert into router.outbox (destination, key, lane, payload, next_attempt_at,"
        " state, created_at) select 'x', 'k' || n, 'l', '', now(), 'done',"
        " now() + n * interval '1 second' from generate_series($1::int, $2::int) n"
    )
    await store.execute(many, -9000, -1)
    await ledger.write(received(message(WHO, wamid="wamid.middle")))
    await store.execute(many, 1, 9000)
    assert len((await life(store, "wamid.middle"))["outbox"]) == 2


@pytest.fixture
def settings_of_the_command(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database)


LONG = "Hola, les quiero contar algo muy largo y también \x1b[31mprivado"


@pytest.mark.usefixtures("settings_of_the_command")
def test_the_command_shows_a_message_with_its_text_cut(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def write() -> None:
        store = Database(database)
        await store.open()
        raw = body(text_message(WHO, "wamid.a", LONG), text_message(WHO, "wamid.b"))
        await Ledger(store, Desk(SETTINGS)).write(brought(raw))
        await store.close()

    asyncio.run(write())
    assert main(["explain", "wamid.a"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("wamid.a\n")
    assert "from Meta, its signature right" in said
    assert "ingesta_wsp4: pending after 0 counted attempts" in said
    assert "Hola, les quiero contar algo muy largo y" in said
    assert "privado" not in said
    assert "\x1b" not in said
    assert main(["explain", "--delivery", "1"]) == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if not line.startswith(" ")] == [
        "wamid.a",
        "wamid.b",
    ]
    assert main(["explain", "wamid.nobody"]) == 1
    assert "no message" in capsys.readouterr().err
    assert main(["explain", "wamid.\x00"]) == 1
    assert main(["explain", "--delivery", "77"]) == 1


def test_wrong_usage_settings_and_an_absent_database_have_their_statuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for wrong in ([], ["wamid.a", "--delivery", "1"], ["--delivery", "x"]):
        with pytest.raises(SystemExit) as stopped:
            main(["explain", *wrong])
        assert stopped.value.code == 2
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main(["explain", "wamid.a"]) == 78
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    assert main(["explain", "wamid.a"]) == 69


async def test_the_api_shows_it_to_who_has_the_token(
    database: str, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": database, "PSI_ADMIN_TOKEN": TOKEN}
    service = Service(tmp_path, settings)
    wamid = "wamid.HBgN/with+signs=="
    service.start()
    try:
        await service.ready()
        await service.post(body(text_message(WHO, wamid)))
        async with aiohttp.ClientSession() as session:
            base = f"http://{HOST}:{service.port}/api/messages"
            for path in (wamid, quote(wamid, safe="")):
                async with session.get(f"{base}/{path}", headers=BEARER) as answer:
                    assert answer.status == 200
                    found = json.loads(await answer.text())
                assert found["message"]["whatsapp_message_id"] == wamid
                assert found["received"]["delivery"]
            for path, headers, code in (
                (wamid, {}, 401),
                ("wamid.nobody", BEARER, 404),
                ("%00", BEARER, 404),
                ("send", BEARER, 404),
            ):
                async with session.get(f"{base}/{path}", headers=headers) as answer:
                    assert answer.status == code, path
    finally:
        service.kill()
