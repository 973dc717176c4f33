"""One person's conversation by any name, in one query."""

from dataclasses import replace
from typing import Any

import pytest

from router.store import database as database_module
from router.store.conversations import by_alias
from router.store.database import Database
from router.store.ledger import Ledger
from tests.events import SilentDesk, message, received

WHO = "5491123456789"


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, SilentDesk())


@pytest.mark.parametrize(
    "alias",
    [
        WHO,
        "+54 9 11 2345-6789",
        "541123456789",
        "011 15 2345-6789",
        "AR.77",
        "AR.ENT.5",
        "@Ana.Perez",
        "ana.perez",
    ],
)
async def test_a_person_is_found_by_any_name(
    store: Database, ledger: Ledger, alias: str
) -> None:
    event = message(WHO, bsuid="AR.77")
    person = replace(event.person, username="ana.perez", parent_bsuid="AR.ENT.5")
    await ledger.write(
        received(replace(event, person=person), message("5491100000009"))
    )
    found = await by_alias(store, alias)
    assert found is not None
    assert found["contacto"]["telefono"] == WHO
    assert found["conversacion"]["contacto_id"] == found["contacto"]["id"]
    assert [row["mensaje"] for row in found["mensajes"]] == ["Hola"]


@pytest.mark.parametrize("alias", ["", "@", "5490000000000", "AR.78", "x'; --", "+"])
async def test_of_nobody_there_is_none(
    store: Database, ledger: Ledger, alias: str
) -> None:
    await ledger.write(received(message(WHO, bsuid="AR.77")))
    assert await by_alias(store, alias) is None


@pytest.mark.parametrize("stored", ["+5491123456789", "541123456789", "5491123456789"])
async def test_a_contact_of_the_crm_is_found_without_a_conversation(
    store: Database, stored: str
) -> None:
    insert = "insert into contactos (telefono) values ($1)"
    await store.execute(insert, stored)
    found = await by_alias(store, WHO)
    assert found is not None
    assert found["contacto"]["telefono"] == stored
    assert (found["conversacion"], found["mensajes"]) == (None, [])


async def test_it_shows_the_open_conversation_and_ten_messages_in_one_query(
    store: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.write(received(message(WHO, minutes=5)))
    await store.execute("update conversaciones set estado = 'cerrada'")
    events = (message(WHO, text=str(n), minutes=n / 60) for n in range(15))
    await ledger.write(received(*events))
    trips: list[str] = []
    real = database_module._Connection.fetch

    async def counted(self: Any, *args: Any, **kw: Any) -> Any:
        trips.append(args[0])
        return await real(self, *args, **kw)

    monkeypatch.setattr(database_module._Connection, "fetch", counted)
    found = await by_alias(store, WHO)
    assert found is not None
    assert len(trips) == 1
    assert found["conversacion"]["estado"] == "activa"
    assert [row["mensaje"] for row in found["mensajes"]] == [
        str(n) for n in range(14, 4, -1)
    ]


async def test_of_closed_conversations_it_shows_the_latest(
    store: Database, ledger: Ledger
) -> None:
    for text in ("first", "second"):
        minutes = {"first": 0, "second": 1}[text]
        await ledger.write(received(message(WHO, text=text, minutes=minutes)))
        await store.execute("update conversaciones set estado = 'cerrada'")
    found = await by_alias(store, WHO)
    assert found is not None
    assert [row["mensaje"] for row in found["mensajes"]] == ["second"]
