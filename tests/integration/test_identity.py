"""Who is who: one person by several names, several people by one number."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import Transient
from router.model import Event, Person
from router.store.database import Database, Row
from router.store.ledger import Ledger
from tests.events import SilentDesk, message, received

OLD, NEW = "5491100000001", "5491100000002"
OLD_ID, NEW_ID = "AR.1", "AR.2"


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, SilentDesk())


def number_changed(
    old: str = OLD, new: str = NEW, *, minutes: float = 0, **ids: str
) -> Event:
    system = {"type": "user_changed_number", "body": "changed", "wa_id": new}
    if "new_id" in ids:
        system |= {"user_id": ids["new_id"], "previous_user_id": ids["old_id"]}
    return _system("number_changed", system, old, ids.get("old_id"), minutes)


def user_id_changed(
    old: str = OLD_ID, new: str = NEW_ID, *, minutes: float = 0
) -> Event:
    system = {"type": "user_changed_user_id", "user_id": new, "previous_user_id": old}
    return _system("user_id_changed", system, "", old, minutes)


def _system(
    kind: str, system: dict[str, str], old: str, old_id: str | None, minutes: float
) -> Event:
    event = message(old, bsuid=old_id, name=None, text="cambió", minutes=minutes)
    item = {"id": event.id, "type": "system", "system": system}
    return replace(event, kind=f"message.system.{kind}", item=item)


async def say(ledger: Ledger, *events: Event) -> None:
    for event in events:
        await ledger.write(received(event))


async def people(store: Database) -> dict[str, int]:
    """The telefono of each contact, and how many messages it has."""
    rows = await store.fetch(
        "select c.telefono, count(m.id) as n from contactos c"
        " left join conversaciones v on v.contacto_id = c.id"
        " left join mensajes m on m.conversacion_id = v.id group by 1"
    )
    return {row["telefono"]: row["n"] for row in rows}


async def open_ones(store: Database) -> list[Row]:
    return await store.fetch(
        "select v.*, c.telefono as of_contact from conversaciones v"
        " join contactos c on c.id = v.contacto_id where v.estado <> 'cerrada'"
    )


async def aliases(store: Database, kind: str) -> dict[str, str]:
    rows = await store.fetch(
        "select i.value, c.telefono from router.identities i"
        " join contactos c on c.id = i.contacto_id where kind = $1",
        kind,
    )
    return {row["value"]: row["telefono"] for row in rows}


async def test_a_phone_that_comes_later_takes_the_place_of_the_id(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message("", bsuid=OLD_ID))
    assert await people(store) == {OLD_ID: 1}
    assert [row["telefono"] for row in await open_ones(store)] == [OLD_ID]
    await say(ledger, message(OLD, bsuid=OLD_ID), message("", bsuid=OLD_ID))
    assert await people(store) == {OLD: 3}
    assert [row["telefono"] for row in await open_ones(store)] == [OLD]


async def test_both_in_one_body(store: Database, ledger: Ledger) -> None:
    await ledger.write(received(message("", bsuid=OLD_ID), message(OLD, bsuid=OLD_ID)))
    assert await people(store) == {OLD: 2}
    assert [row["telefono"] for row in await open_ones(store)] == [OLD]


async def test_parents_and_usernames_are_kept_and_never_decide(
    store: Database, ledger: Ledger
) -> None:
    def named(who: str, user_id: str) -> Event:
        event = message(who, bsuid=user_id)
        person = replace(event.person, username="ana", parent_bsuid="AR.ENT.1")
        return replace(event, person=person)

    await say(ledger, named(OLD, OLD_ID), named(OLD, OLD_ID))
    assert await aliases(store, "username") == {"ana": OLD}
    await say(ledger, named(NEW, NEW_ID), named(NEW, NEW_ID))
    assert await aliases(store, "username") == {"ana": NEW}
    assert await aliases(store, "parent_bsuid") == {"AR.ENT.1": NEW}
    assert await people(store) == {OLD: 2, NEW: 2}


@pytest.mark.parametrize(
    "forms",
    [
        ("541123456789", "5491123456789", "54111523456789"),
        ("525512345678", "5215512345678"),
        ("551187654321", "5511987654321"),
    ],
)
async def test_forms_of_one_number_are_one_person_and_kept_as_sent(
    store: Database, ledger: Ledger, forms: tuple[str, ...]
) -> None:
    await say(ledger, *(message(form) for form in forms))
    assert await people(store) == {forms[0]: len(forms)}
    assert set(await aliases(store, "wa_id")) == set(forms)


async def test_two_forms_at_one_moment_are_one_person(
    store: Database, ledger: Ledger
) -> None:
    other = Ledger(store, SilentDesk())
    for n in range(10):
        number = f"112345678{n}"
        await asyncio.gather(
            ledger.write(received(message(f"54{number}"))),
            other.write(received(message(f"549{number}"))),
        )
    assert sorted((await people(store)).values()) == [2] * 10
    assert len(await open_ones(store)) == 10


@pytest.mark.parametrize("stored", ["+5491123456789", "541123456789", "+541123456789"])
async def test_a_contact_of_the_crm_is_found_by_its_form_and_keeps_it(
    store: Database, ledger: Ledger, stored: str
) -> None:
    await store.execute("insert into contactos (telefono) values ($1)", stored)
    await say(ledger, message("5491123456789"), message("5491123456789"))
    assert await people(store) == {stored: 2}


@pytest.mark.parametrize("stored", [OLD, f"+{OLD}"])
async def test_a_conversation_that_the_crm_opened_for_no_contact_is_gone_on_with(
    store: Database, ledger: Ledger, stored: str
) -> None:
    opened = "insert into conversaciones (telefono, area) values ($1, 'Alumnos')"
    await store.execute(opened, stored)
    (new,), _ = await ledger.write(received(message(OLD)))
    await say(ledger, message(OLD))
    assert new.before.area == "Alumnos"
    assert await people(store) == {OLD: 2}
    assert len(await open_ones(store)) == 1


@pytest.mark.parametrize("scopes", [("200000000000001", "7"), ("", "7"), ("7", "")])
async def test_a_phone_is_one_person_for_every_business(
    store: Database, ledger: Ledger, scopes: tuple[str, str]
) -> None:
    first, second = scopes
    await say(
        ledger,
        message(OLD, bsuid="AR.1", scope=first),
        message(OLD, bsuid="AR.1" if not (first and second) else "AR.9", scope=second),
    )
    assert await people(store) == {OLD: 2}


async def test_one_id_at_two_businesses_is_two_people_until_a_phone_says_otherwise(
    store: Database, ledger: Ledger
) -> None:
    ids = [message("", bsuid="AR.1", scope=scope) for scope in ("7", "8")]
    await say(ledger, *ids)
    assert sorted((await people(store)).values()) == [1, 1]
    phones = [message(OLD, bsuid="AR.1", scope=scope) for scope in ("7", "8")]
    await say(ledger, *phones)
    assert await people(store) == {OLD: 4}
    assert len(await open_ones(store)) == 1


async def test_an_id_known_at_a_business_is_known_where_nobody_says_which(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(OLD, bsuid="AR.1", scope="7"))
    await say(ledger, message("", bsuid="AR.1", scope=""))
    assert await people(store) == {OLD: 2}


FACTS = {
    "number": [
        message(OLD, minutes=-9, wamid="n1"),
        number_changed(minutes=-5),
        message(NEW, minutes=-3, wamid="n2"),
    ],
    "number and id": [
        message(OLD, bsuid=OLD_ID, minutes=-9, wamid="i1"),
        number_changed(minutes=-5, old_id=OLD_ID, new_id=NEW_ID),
        message(NEW, bsuid=NEW_ID, minutes=-3, wamid="i2"),
    ],
    "id": [
        message("", bsuid=OLD_ID, minutes=-9, wamid="u1"),
        user_id_changed(minutes=-5),
        message("", bsuid=NEW_ID, minutes=-3, wamid="u2"),
    ],
}


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (2, 0, 1)]
)
@pytest.mark.parametrize("facts", list(FACTS))
async def test_a_change_is_one_person_whenever_it_comes(
    store: Database,
    ledger: Ledger,
    facts: str,
    order: Sequence[int],
    *,
    together: bool,
) -> None:
    events = [FACTS[facts][n] for n in order]
    if together:
        await ledger.write(received(*events))
    else:
        await say(ledger, *events)
    now = NEW_ID if facts == "id" else NEW
    assert await people(store) == {now: 3}
    assert len(await open_ones(store)) == 1
    rows = await store.fetch("select distinct telefono from conversaciones")
    assert [row["telefono"] for row in rows] == [now]
    # Again: nothing of it moves anything.
    await say(ledger, *events)
    assert await people(store) == {now: 3}


async def test_what_the_crm_wrote_of_somebody_stays(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(OLD))
    await store.execute(
        "update contactos set email = 'a@example.org', nombre = 'Ana P.'"
    )
    await say(ledger, message(NEW, name="otra"), number_changed())
    (row,) = await store.fetch("select telefono, nombre, email from contactos")
    assert tuple(row[n] for n in ("telefono", "nombre", "email")) == (
        NEW,
        "Ana P.",
        "a@example.org",
    )


async def test_a_contact_that_a_table_of_the_crm_points_at_is_not_removed(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(NEW))
    await store.execute("create table agenda as select id as contacto from contactos")
    await store.execute(
        "alter table agenda add foreign key (contacto) references contactos"
        " on delete cascade"
    )
    await say(ledger, message(OLD), number_changed())
    assert sorted((await people(store)).values()) == [0, 3]
    assert (await people(store))[NEW] == 3


async def test_a_number_of_somebody_else_now_merges_nobody(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(OLD, bsuid=OLD_ID, minutes=-9))
    await say(ledger, message(OLD, bsuid=NEW_ID))
    assert await people(store) == {OLD_ID: 1, OLD: 1}
    assert await aliases(store, "wa_id") == {OLD: OLD}
    assert await aliases(store, "bsuid") == {OLD_ID: OLD_ID, NEW_ID: OLD}
    await say(ledger, message("", bsuid=OLD_ID), message(OLD, bsuid=NEW_ID))
    assert await people(store) == {OLD_ID: 2, OLD: 2}
    assert sorted(row["telefono"] for row in await open_ones(store)) == [OLD, OLD_ID]


async def test_who_loses_a_number_takes_nobody_s_telefono(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(OLD, bsuid=OLD_ID, minutes=-9))
    await store.execute("insert into contactos (telefono) values ($1)", OLD_ID)
    await say(ledger, message(OLD, bsuid=NEW_ID))
    found = await people(store)
    assert (found.pop(OLD_ID), found.pop(OLD)) == (0, 1)
    ((marked, messages),) = found.items()
    assert marked.startswith(f"{OLD_ID}~")
    assert messages == 1


async def test_late_news_of_a_recycled_number_do_not_take_it_back(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(OLD, bsuid=NEW_ID))
    await say(ledger, message(OLD, bsuid=OLD_ID, minutes=-9))
    assert await people(store) == {OLD_ID: 1, OLD: 1}
    assert await aliases(store, "wa_id") == {OLD: OLD}


async def test_who_writes_from_a_number_that_was_given_up_is_somebody_else(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(OLD, minutes=-9), number_changed(minutes=-5))
    await say(ledger, message(OLD, minutes=-7))  # late
    assert await people(store) == {NEW: 3}
    await say(ledger, message(OLD, minutes=-1), message(OLD))
    assert await people(store) == {NEW: 3, OLD: 2}


async def test_who_had_a_number_before_keeps_what_was_said(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(NEW, bsuid="AR.9", minutes=-9))
    await say(ledger, message(OLD, bsuid=OLD_ID, minutes=-9))
    await say(ledger, number_changed(old_id=OLD_ID, new_id=NEW_ID))
    assert await people(store) == {"AR.9": 1, NEW: 2}


async def test_another_router_hears_that_a_number_moved(store: Database) -> None:
    one, two = Ledger(store, SilentDesk()), Ledger(store, SilentDesk())
    await say(two, message(OLD, bsuid=OLD_ID), message(OLD))
    await say(one, message(OLD, bsuid=NEW_ID))
    await say(two, message(OLD))  # remembered as the first one's
    assert await people(store) == {OLD_ID: 2, OLD: 2}


async def test_another_router_hears_that_two_are_one(store: Database) -> None:
    one, two = Ledger(store, SilentDesk()), Ledger(store, SilentDesk())
    await say(two, message(OLD), message(NEW))
    await say(one, number_changed())
    await say(two, message(NEW), message(NEW))
    assert await people(store) == {NEW: 5}
    assert len(await open_ones(store)) == 1


async def test_the_conversation_that_an_agent_has_stays_open(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(OLD), message(NEW))
    await store.execute(
        "update conversaciones set asignado_a = 'agente' where telefono = $1", NEW
    )
    await say(ledger, number_changed())
    assert [row["asignado_a"] for row in await open_ones(store)] == ["agente"]


async def write_at_last(ledger: Ledger, event: Event) -> None:
    # As the stage does, where PostgreSQL ends one of two that wait for each other.
    while True:
        with contextlib.suppress(Transient):
            await ledger.write(received(event))
            return


async def test_five_bodies_at_once_of_one_person_are_one_conversation(
    store: Database,
) -> None:
    events = [
        message(who, bsuid=user_id)
        for who, user_id in [(OLD, OLD_ID), ("", OLD_ID), (OLD, None), (OLD, OLD_ID)]
    ]
    events.append(message(OLD[:2] + OLD[3:]))
    ledgers = [Ledger(store, SilentDesk()) for _ in events]
    pairs = zip(ledgers, events, strict=True)
    await asyncio.gather(*(write_at_last(one, event) for one, event in pairs))
    await say(ledgers[0], message(OLD, bsuid=OLD_ID))
    assert sum((await people(store)).values()) == 6
    assert len(await people(store)) == 1  # under whichever form came first
    assert len(await open_ones(store)) == 1


@pytest.mark.parametrize("facts", list(FACTS))
async def test_a_change_and_the_messages_around_it_at_one_moment(
    store: Database, facts: str
) -> None:
    ledgers = [Ledger(store, SilentDesk()) for _ in FACTS[facts]]
    for _ in range(5):
        await store.execute(
            "truncate contactos, conversaciones, mensajes, router.identities,"
            " router.claims cascade"
        )
        pairs = zip(ledgers, FACTS[facts], strict=True)
        await asyncio.gather(*(one.write(received(event)) for one, event in pairs))
        now = NEW_ID if facts == "id" else NEW
        assert await people(store) == {now: 3}
        assert len(await open_ones(store)) == 1


# Two people of three numbers and ids; of each message some of its sender's names.
PEOPLE = (
    Person(wa_id="5491123450001", bsuid="AR.71"),
    Person(wa_id="5491123450002", bsuid="AR.72"),
)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, Event]]:
    """Messages of some people, each under some of one's names, and whose each is."""
    names = st.sampled_from(["phone", "short phone", "id", "both"])
    scopes = st.sampled_from(["7", "7", "8"])
    facts: list[tuple[int, Event]] = []
    for who, person in enumerate(PEOPLE):
        drawn = draw(st.lists(names, min_size=1, max_size=3))
        facts += [(who, _named(person, name, draw(scopes))) for name in drawn]
        # What ties one's names together, in whatever order it comes.
        facts += [(who, _named(person, "both", scope)) for scope in ("7", "8")]
    return draw(st.permutations(facts))


def _named(person: Person, name: str, scope: str) -> Event:
    phone = person.wa_id or ""
    if name == "short phone":
        phone = phone[:2] + phone[3:]
    user_id = f"{person.bsuid}{scope}" if name in {"id", "both"} else None
    who = "" if name == "id" else phone
    return message(who, bsuid=user_id, scope=scope, minutes=-1)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories(), size=st.integers(1, 4))
def test_any_order_of_the_same_facts_makes_the_same_people(
    database: str, history: list[tuple[int, Event]], size: int
) -> None:
    asyncio.run(_check(database, history, size))


async def _check(database: str, history: list[tuple[int, Event]], size: int) -> None:
    store = Database(database)
    await store.open()
    try:
        await store.execute(
            "truncate contactos, conversaciones, mensajes, router.identities cascade"
        )
        ledger = Ledger(store, SilentDesk())
        events = [event for _, event in history]
        for start in range(0, len(events), size):
            await ledger.write(received(*events[start : start + size]))
        assert await _groups(store) == {
            frozenset(e.key for who, e in history if who == n)
            for n in range(len(PEOPLE))
        }
        assert len(await open_ones(store)) == len(PEOPLE)
    finally:
        await store.close()


async def _groups(store: Database) -> set[frozenset[Any]]:
    rows = await store.fetch(
        "select array_agg(m.whatsapp_message_id) as ids from conversaciones v"
        " join mensajes m on m.conversacion_id = v.id group by v.contacto_id"
    )
    return {frozenset(row["ids"]) for row in rows}
