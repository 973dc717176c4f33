"""What a batch of events becomes in a real PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from router.conversation.decide import Decision
from router.conversation.state import Conversation as State
from router.errors import Poison
from router.model import Content, Event, Media
from router.store import database as database_module
from router.store.batch import Batch
from router.store.database import Database
from router.store.failures import Raced
from router.store.ledger import LOOKS, Ledger, Look, Outcome
from router.store.pooler import Mode
from tests.events import SilentDesk, message, now, received, status


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, SilentDesk("crm"))


async def count(store: Database, table: str) -> int:
    (row,) = await store.fetch(f"select count(*) as n from {table}")  # noqa: S608
    found: int = row["n"]
    return found


async def the_row(store: Database, sql: str, *args: Any) -> asyncpg.Record:
    (row,) = await store.fetch(sql, *args)
    return row


async def test_a_first_message_makes_a_contact_a_conversation_and_a_row(
    store: Database, ledger: Ledger
) -> None:
    (new,), told = await ledger.write(received(message(wamid="wamid.A", bsuid="AR.1")))
    assert told == {"crm"}
    contact = await the_row(store, "select * from contactos")
    assert (contact["telefono"], contact["nombre"]) == ("5491100000001", "Ana")
    conversation = await the_row(store, "select * from conversaciones")
    assert conversation["id"] == new.conversation.id
    assert conversation["contacto_id"] == contact["id"]
    assert (conversation["estado"], conversation["router_estado"]) == (
        "nueva",
        "principal",
    )
    assert (conversation["ultimo_mensaje"], conversation["ts_ultimo_mensaje"]) == (
        "Hola",
        now(),
    )
    assert conversation["ventana_24h_fin"] == now() + timedelta(hours=24)
    row = await the_row(store, "select * from mensajes")
    assert (row["mensaje"], row["tipo"], row["direccion"]) == (
        "Hola",
        "text",
        "entrante",
    )
    assert (row["remitente_tipo"], row["remitente_nombre"]) == ("contact", "Ana")
    assert (row["whatsapp_message_id"], row["timestamp"]) == ("wamid.A", now())
    aliases = await store.fetch(
        "select kind, value from router.identities order by kind"
    )
    assert [(a["kind"], a["value"]) for a in aliases] == [
        ("bsuid", "AR.1"),
        ("wa_id", "5491100000001"),
    ]
    assert await count(store, "router.outbox") == 1
    assert await count(store, "router.deliveries") == 1


async def test_a_message_is_stored_and_told_once_however_often_it_comes(
    store: Database, ledger: Ledger
) -> None:
    event = message()
    assert len((await ledger.write(received(event, event))).written) == 1
    assert await ledger.write(received(event)) == ([], set())
    assert (await count(store, "mensajes"), await count(store, "router.outbox")) == (
        1,
        1,
    )
    assert await count(store, "router.deliveries") == 2


async def test_writers_of_the_same_moment_store_a_message_once(
    store: Database, ledger: Ledger
) -> None:
    event = message()
    results = await asyncio.gather(*(ledger.write(received(event)) for _ in range(8)))
    assert sum(len(result.written) for result in results) == 1
    assert (await count(store, "mensajes"), await count(store, "router.outbox")) == (
        1,
        1,
    )


async def test_five_first_messages_of_one_second_make_one_conversation(
    store: Database, ledger: Ledger
) -> None:
    await asyncio.gather(*(ledger.write(received(message())) for _ in range(5)))
    assert await count(store, "contactos") == 1
    assert await count(store, "conversaciones") == 1
    assert await count(store, "mensajes") == 5


async def test_a_closed_conversation_is_followed_by_one_new_one(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message()))
    await store.execute("update conversaciones set estado = 'cerrada'")
    await asyncio.gather(*(ledger.write(received(message())) for _ in range(5)))
    assert await count(store, "conversaciones") == 2
    assert await count(store, "contactos") == 1


async def test_messages_that_were_stored_before_the_router_are_known(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(wamid="wamid.old")))
    copy = (
        "insert into mensajes (conversacion_id, mensaje, tipo, direccion, remitente_tipo,"
        " timestamp, whatsapp_message_id) select conversacion_id, mensaje, tipo, direccion,"
        " remitente_tipo, timestamp, whatsapp_message_id from mensajes"
    )
    await store.execute(copy)
    await store.execute("truncate router.claims")
    assert await ledger.write(received(message(wamid="wamid.old"))) == ([], set())
    assert await count(store, "mensajes") == 2


async def test_a_contact_of_the_crm_is_found_and_keeps_its_name(
    store: Database, ledger: Ledger
) -> None:
    await store.execute(
        "insert into contactos (telefono, nombre) values ('5491100000001', 'Ana (CRM)')"
    )
    await ledger.write(received(message(name="ana ✨")))
    assert (await the_row(store, "select nombre from contactos"))[
        "nombre"
    ] == "Ana (CRM)"


async def test_a_contact_without_a_name_gets_the_profile_s(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(name=None)))
    await ledger.write(received(message(name="Ana")))
    assert (await the_row(store, "select nombre from contactos"))["nombre"] == "Ana"


async def test_someone_known_by_phone_is_the_same_when_only_the_id_comes(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(bsuid="AR.1"), message(who="", bsuid="AR.1")))
    await ledger.write(received(message(who="", bsuid="AR.1")))
    assert (await count(store, "contactos"), await count(store, "mensajes")) == (1, 3)


async def test_people_without_any_name_share_the_parking(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(who="", name=None), message(who="", name=None)))
    assert await count(store, "conversaciones") == 1
    assert await count(store, "router.identities") == 0


async def test_a_group_has_one_conversation_without_a_contact(
    store: Database, ledger: Ledger
) -> None:
    group = [message(group_id="G1"), message("5491100000002", group_id="G1")]
    await asyncio.gather(*(ledger.write(received(event)) for event in group))
    row = await the_row(store, "select * from conversaciones")
    assert (row["telefono"], row["contacto_id"]) == ("G1", None)
    assert await count(store, "contactos") == 0


async def test_a_late_message_moves_neither_preview_nor_window_back(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(text="new")))
    await ledger.write(received(message(text="old", minutes=-30)))
    row = await the_row(store, "select * from conversaciones")
    assert (row["ultimo_mensaje"], row["ts_ultimo_mensaje"]) == ("new", now())
    assert row["ventana_24h_fin"] == now() + timedelta(hours=24)
    assert row["estado"] == "activa"


async def test_a_time_that_cannot_be_true_is_replaced_by_the_receipt_s(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(minutes=60 * 24 * 3650)))
    row = await the_row(store, "select timestamp from mensajes")
    assert row["timestamp"] == now()


async def test_a_file_is_described_and_not_fetched(
    store: Database, ledger: Ledger
) -> None:
    media = Media(
        type="document", id="M1", mime_type="application/pdf", filename="a.pdf"
    )
    content = Content(text="[Documento: a.pdf]", tipo="document", media=media)
    await ledger.write(received(message(kind="message.document", content=content)))
    row = await the_row(store, "select * from mensajes")
    assert (row["tipo"], row["media_type"]) == ("document", "application/pdf")
    assert (row["media_filename"], row["media_url"]) == ("a.pdf", None)


async def test_statuses_move_a_message_forward_only(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(wamid="wamid.out", kind="echo.text")))
    for word in ("read", "delivered", "sent"):
        await ledger.write(received(status("wamid.out", word)))
    row = await the_row(store, "select estado_envio from mensajes")
    assert row["estado_envio"] == "read"
    await ledger.write(received(status("wamid.out", "failed")))
    await ledger.write(received(status("wamid.out", "read")))
    assert (await the_row(store, "select estado_envio from mensajes"))[0] == "failed"
    assert await count(store, "router.statuses") == 4


async def test_a_status_is_told_once_however_often_it_comes(store: Database) -> None:
    ledger = Ledger(store, SilentDesk(status="crm"))
    await ledger.write(received(status("wamid.out", "sent")))
    await ledger.write(
        received(status("wamid.out", "sent"), status("wamid.out", "read"))
    )
    keys = await store.fetch("select key from router.outbox order by id")
    assert [row["key"].split("|")[1] for row in keys] == ["sent", "read"]


async def test_an_echo_and_its_status_in_one_body(
    store: Database, ledger: Ledger
) -> None:
    echo = message(wamid="wamid.out", kind="echo.text")
    await ledger.write(received(status("wamid.out", "delivered"), echo))
    row = await the_row(store, "select estado_envio from mensajes")
    assert row["estado_envio"] == "delivered"


async def test_what_the_crm_changed_meanwhile_is_seen(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message()))
    await store.execute(
        "update conversaciones set estado = 'esperando', area = 'Ventas'"
    )
    (new,), _ = await ledger.write(received(message()))
    assert (new.before.area, new.before.estado) == ("Ventas", "esperando")
    await store.execute("update conversaciones set estado = 'cerrada'")
    await ledger.write(received(message(), message("5491100000002")))
    assert await count(store, "conversaciones") == 3
    assert await count(store, "mensajes") == 4


async def test_a_contact_that_the_crm_removed_is_made_anew(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message()))
    await store.execute("delete from conversaciones")
    await store.execute("delete from contactos")
    await ledger.write(received(message()))
    assert (await count(store, "contactos"), await count(store, "mensajes")) == (1, 1)


async def test_a_status_waits_for_its_message(store: Database, ledger: Ledger) -> None:
    await ledger.write(received(status("wamid.out", "delivered")))
    await ledger.write(received(message(wamid="wamid.out", kind="echo.text")))
    row = await the_row(store, "select * from mensajes")
    assert (row["direccion"], row["remitente_tipo"]) == ("saliente", "agent")
    assert row["estado_envio"] == "delivered"
    assert await count(store, "router.notices") == 1


async def test_participants_of_a_group_have_a_status_each(
    store: Database, ledger: Ledger
) -> None:
    events = [status("wamid.g", "read", participant=p) for p in ("1", "2", "1")]
    await ledger.write(received(*events))
    assert await count(store, "router.statuses") == 2


async def test_a_body_with_nothing_in_it_is_archived(
    store: Database, ledger: Ledger
) -> None:
    items = received(None, body=b'{"entry":[]}')
    await ledger.write(items)
    assert (await the_row(store, "select body from router.deliveries"))[
        0
    ] == b'{"entry":[]}'
    assert items[0].delivery.id is not None


async def test_a_body_is_archived_once_though_its_events_come_in_two_batches(
    store: Database, ledger: Ledger
) -> None:
    first, second = received(message(), message())
    await ledger.write([first])
    await ledger.write([second])
    assert await count(store, "router.deliveries") == 1


async def test_ids_may_be_long_and_differ_in_case_only(
    store: Database, ledger: Ledger
) -> None:
    long = "wamid." + "x7Q" * 4000
    await ledger.write(received(message(wamid=long), message(wamid="wamid.a")))
    await ledger.write(received(message(wamid=long), message(wamid="wamid.A")))
    assert await count(store, "mensajes") == 3


async def test_what_the_database_refuses_is_named_and_leaves_nothing(
    store: Database, ledger: Ledger
) -> None:
    await store.execute(
        "alter table mensajes add constraint polite check (mensaje <> 'no')"
    )
    with pytest.raises(Poison, match="polite"):
        await ledger.write(received(message(), message(text="no")))
    for table in ("contactos", "mensajes", "router.outbox", "router.deliveries"):
        assert await count(store, table) == 0


@pytest.mark.parametrize("size", [1, 200])
async def test_a_batch_costs_the_same_few_round_trips_whatever_its_size(
    store: Database,
    ledger: Ledger,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = [f"54911000{n:05}" for n in range(size)]
    await ledger.write(received(*(message(who) for who in people)))
    trips = []
    connection = database_module._Connection
    for verb in ("fetch", "execute"):
        real = getattr(connection, verb)

        async def counted(self: Any, *args: Any, _real: Any = real, **kw: Any) -> Any:
            trips.append(args[0])
            return await _real(self, *args, **kw)

        monkeypatch.setattr(connection, verb, counted)
    await ledger.write(received(*(message(who) for who in people)))
    # A pooler that lends a session for a transaction is told where it begins and ends.
    each = 3 if store.mode is Mode.TRANSACTION else 1
    assert len(trips) == each  # record: everybody is remembered
    trips.clear()
    stranger = Ledger(store, SilentDesk("crm"))
    await stranger.write(received(*(message(who) for who in people)))
    # numbers, once in a thousand bodies; lookup, record
    assert len(trips) == 3 * each


async def test_of_a_batch_only_the_strangers_are_looked_up(
    store: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.write(received(message("5491100000001"), message("5491100000002")))
    asked: list[list[str]] = []
    real = database_module._Connection.fetch

    async def watched(self: Any, query: str, *args: Any, **kw: Any) -> Any:
        if "What is known already" in query:
            asked.append(args[0] + args[1])
        return await real(self, query, *args, **kw)

    monkeypatch.setattr(database_module._Connection, "fetch", watched)
    who = ("5491100000001", "5491100000003", "5491100000002", "5491100000001")
    await ledger.write(received(*map(message, who)))
    assert len(asked) == 1
    assert "wa_id 5491100000003" in asked[0]
    assert not any("5491100000001" in name or "000002" in name for name in asked[0])
    rows = await store.fetch(
        "select c.telefono, count(*) as messages from mensajes m"
        " join conversaciones v on v.id = m.conversacion_id"
        " join contactos c on c.id = v.contacto_id group by 1 order by 1"
    )
    assert [(row["telefono"], row["messages"]) for row in rows] == [
        ("5491100000001", 3),
        ("5491100000002", 2),
        ("5491100000003", 1),
    ]
    asked.clear()
    await ledger.write(received(*map(message, who)))
    assert asked == []


async def test_time_ordered_row_ids_keep_the_order_of_arrival(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(*(message(text=str(n)) for n in range(50))))
    rows = await store.fetch("select mensaje from mensajes order by timestamp, id")
    assert [int(row["mensaje"]) for row in rows] == list(range(50))


async def test_a_message_that_somebody_deleted_can_come_again(
    store: Database, ledger: Ledger
) -> None:
    event = message()
    await ledger.write(received(event))
    await store.execute("delete from mensajes")
    results = await asyncio.gather(*(ledger.write(received(event)) for _ in range(4)))
    assert sum(len(result.written) for result in results) == 1
    assert await count(store, "mensajes") == 1


async def test_a_status_that_is_known_moves_nothing(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(wamid="wamid.out", kind="echo.text")))
    await ledger.write(received(status("wamid.out", "read")))
    await store.execute("update mensajes set estado_envio = 'pendiente'")
    await ledger.write(received(status("wamid.out", "read")))
    assert (await the_row(store, "select estado_envio from mensajes"))[0] == "pendiente"


async def test_why_a_message_failed_waits_for_it_too(
    store: Database, ledger: Ledger
) -> None:
    failed = status("wamid.out", "failed")
    failed.item["errors"] = [{"code": 131026, "message": "undeliverable"}]
    await ledger.write(received(failed))
    await ledger.write(received(message(wamid="wamid.out", kind="echo.text")))
    row = await the_row(store, "select estado_envio, error_mensaje from mensajes")
    assert (row["estado_envio"], row["error_mensaje"]) == ("failed", "undeliverable")


async def test_the_state_of_a_conversation_does_not_depend_on_batches(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(received(message(), message()))
    assert (await the_row(store, "select estado from conversaciones"))[0] == "activa"


async def test_names_too_long_for_an_index_bury_nobody(
    store: Database, ledger: Ledger
) -> None:
    long = "9" * 12_000
    first = message(long, scope=long, bsuid=f"AR.{long}")
    await ledger.write(received(first, message("1", group_id=long)))
    await ledger.write(received(message(long, scope=long)))
    assert await count(store, "mensajes") == 3
    assert await count(store, "contactos") == 1


async def test_ids_that_are_stored_alike_are_one(
    store: Database, ledger: Ledger
) -> None:
    await ledger.write(
        received(message(wamid="wamid.N\0"), message(wamid="wamid.N\ufffd"))
    )
    assert await count(store, "mensajes") == 1


class Diary(SilentDesk):
    """A desk that writes what is said into the conversation's state."""

    def decide(self, event: Event, before: State, now: datetime) -> Decision:
        said = event.content.said if event.content else ""
        return Decision(
            conversation=replace(
                before, submenu_actual=f"{before.submenu_actual or ''}{said}"
            )
        )


class Held:
    """A database of which one statement waits for the test."""

    def __init__(self, store: Database) -> None:
        self._store, self.mode = store, store.mode
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()
        self.holds = self.fails = False

    async def fetch(self, sql: str, *args: Any) -> Any:
        if self.holds and "What a batch comes to" in sql:
            self.holds = False
            self.asked.set()
            await self.goes_on.wait()
            if self.fails:
                raise Poison("a CHECK")
        return await self._store.fetch(sql, *args)

    def transaction(self) -> Any:
        return self._store.transaction()

    async def goes_on_and_ends(self, writing: asyncio.Task[Any]) -> None:
        """Let the statement go on, and *writing* end as it must."""
        self.goes_on.set()
        if self.fails:
            with pytest.raises(Poison):
                await writing
        else:
            await writing


@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_batch_decided_is_nobodys_before_it_is_stored(
    store: Database, *, fails: bool
) -> None:
    # One person, known by phone and by BSUID, and so in two lanes, and in two batches.
    held: Any = Held(store)
    ledger = Ledger(held, Diary())
    await ledger.write(received(message("549110", bsuid="AR.1", text="a")))
    held.holds, held.fails = True, fails
    first = asyncio.create_task(
        ledger.write(received(message("", bsuid="AR.1", text="b")))
    )
    await held.asked.wait()
    (other,), _ = await ledger.write(received(message("549110", text="c")))
    assert other.before.submenu_actual == "a"
    await held.goes_on_and_ends(first)
    await ledger.write(received(message("549110", text="d")))
    said = (await the_row(store, "select submenu_actual from conversaciones"))[0]
    assert said == ("acd" if fails else "acbd")


async def test_what_was_not_stored_is_nobodys_under_any_name(store: Database) -> None:
    held: Any = Held(store)
    ledger = Ledger(held, Diary())
    await ledger.write(received(message("549110", bsuid="AR.1", text="a")))
    held.holds = held.fails = True
    held.goes_on.set()
    with pytest.raises(Poison):
        await ledger.write(received(message("", bsuid="AR.1", text="b")))
    await ledger.write(received(message("549110", text="c")))
    said = (await the_row(store, "select submenu_actual from conversaciones"))[0]
    assert said == "ac"


@pytest.mark.parametrize("fails", [False, True])
async def test_a_body_in_two_batches_at_once_is_archived_once(
    store: Database, *, fails: bool
) -> None:
    held: Any = Held(store)
    ledger = Ledger(held, SilentDesk())
    halves = received(*(message(str(number)) for number in range(8)))
    await ledger.write(received(*(message(str(number)) for number in range(8))))
    await store.execute("delete from router.deliveries")
    held.holds, held.fails = True, fails
    first = asyncio.create_task(ledger.write(halves[:4]))
    await held.asked.wait()
    second = asyncio.create_task(ledger.write(halves[4:]))
    third = asyncio.create_task(ledger.write(received(message("0", bsuid="AR.9"))))
    await third  # another body waits for nobody
    assert not second.done()
    await held.goes_on_and_ends(first)
    await second
    (archived,) = await store.fetch(
        "select count(*) as n, count(*) filter (where id = $1) as own from router.deliveries",
        halves[0].delivery.id,
    )
    assert (archived["n"], archived["own"]) == (2, 1)


async def test_a_status_that_meets_its_message_in_another_batch_moves_it(
    store: Database,
) -> None:
    # They are in two lanes: the message in its person's, the status in its own.
    held: Any = Held(store)
    ledger = Ledger(held, SilentDesk())
    held.holds = True
    failed = asyncio.create_task(ledger.write(received(status("wamid.out", "failed"))))
    await held.asked.wait()  # it has looked, and is not stored yet
    echo = message(wamid="wamid.out", kind="echo.text")
    sent = asyncio.create_task(ledger.write(received(echo)))
    other = message("5491100000002")
    await ledger.write(received(other))  # waits for nobody
    assert not sent.done()
    held.goes_on.set()
    await asyncio.gather(failed, sent)
    row = await the_row(
        store, "select estado_envio from mensajes where direccion = 'saliente'"
    )
    assert row["estado_envio"] == "failed"


async def test_a_batch_that_others_are_ahead_of_is_looked_at_again_and_again(
    store: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever loses a race more than once is not at fault, and is not to be buried.
    looks: list[Look] = []
    real = Ledger._write

    async def raced(self: Ledger, batch: Batch, look: Look) -> Outcome:
        looks.append(look)
        if len(looks) < len(LOOKS):
            raise Raced("somebody was first")
        return await real(self, batch, look)

    monkeypatch.setattr(Ledger, "_write", raced)
    (new,), _ = await ledger.write(received(message(wamid="wamid.A")))
    assert new.wamid == "wamid.A"
    assert looks == [*LOOKS]
