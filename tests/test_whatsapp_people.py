"""Who wrote: by every name that came, and never by a name that is somebody else's."""

import json
import time
from typing import Any

import pytest

from router.model import Door, Event, Person
from router.whatsapp.events import read

PHONE, OTHER = "5491100000001", "5491100000002"
BSUID, STRANGER = "AR.1349000000000001", "AR.1349000000000002"


def events_of(field: str, **value: Any) -> tuple[Event, ...]:
    body = {"entry": [{"id": "200", "changes": [{"field": field, "value": value}]}]}
    return read(json.dumps(body).encode(), Door.META)


def writer(message: dict[str, Any], *contacts: Any) -> Person:
    message = {"id": "wamid.A", "type": "text", "text": {"body": "Hola"}, **message}
    (event,) = events_of("messages", messages=[message], contacts=list(contacts))
    return event.person


def contact(**members: Any) -> dict[str, Any]:
    return {"profile": {"name": "Ana", "username": "@Ana.Perez"}, **members}


def test_a_contact_is_found_by_user_id_wherever_it_stands() -> None:
    others = [contact(profile={"name": "X"}, user_id=STRANGER, wa_id=OTHER)] * 3
    found = writer({"from_user_id": BSUID}, *others, contact(user_id=BSUID))
    assert found == Person(bsuid=BSUID, username="ana.perez", name="Ana")


def test_a_contact_is_found_by_phone_where_no_user_id_matches() -> None:
    others = [contact(profile={"name": "X"}, wa_id=OTHER), contact(wa_id=PHONE)]
    found = writer({"from": PHONE, "from_user_id": BSUID}, *others)
    assert (found.name, found.wa_id, found.bsuid) == ("Ana", PHONE, BSUID)


def test_what_the_contact_knows_completes_the_person() -> None:
    known = contact(wa_id=PHONE, user_id=BSUID, parent_user_id="AR.ENT.1")
    complete = Person(
        wa_id=PHONE,
        bsuid=BSUID,
        parent_bsuid="AR.ENT.1",
        username="ana.perez",
        name="Ana",
    )
    assert writer({"from": PHONE}, known) == complete
    assert writer({"from_user_id": BSUID}, known) == complete
    assert writer({}, known) == complete


def test_the_only_contact_is_the_writers_unless_it_is_somebody_elses() -> None:
    assert writer({"from": PHONE}, contact()).name == "Ana"
    assert writer({}, contact()).name == "Ana"
    assert writer({"from": PHONE}, contact(wa_id=OTHER)).name is None
    assert writer({"from_user_id": BSUID}, contact(user_id=STRANGER)).name is None
    assert writer({"from": PHONE}, contact(), contact()).name is None
    assert writer({"from": PHONE}, contact(), None).name is None


def test_one_contact_is_not_shared_by_two_people() -> None:
    messages = [
        {"id": "a", "type": "text", "from": PHONE},
        {"id": "b", "type": "text", "from": OTHER},
    ]
    for only in (contact(), contact(user_id=BSUID)):
        events = events_of("messages", messages=messages, contacts=[only])
        assert [event.person for event in events] == [
            Person(wa_id=PHONE),
            Person(wa_id=OTHER),
        ]


def test_ten_thousand_people_in_one_list_are_joined_in_one_pass() -> None:
    messages = [{"type": "text", "from": str(n)} for n in range(1, 10_001)]
    contacts = [
        contact(wa_id=str(n), profile={"name": f"N{n}"}) for n in range(1, 10_001)
    ]
    started = time.process_time()
    for listed in (contacts, [contact()]):
        events = events_of("messages", messages=messages, contacts=listed)
        assert len(events) == 10_000
    assert time.process_time() - started < 5  # a second; by pairs it is a minute
    joined = events_of("messages", messages=messages, contacts=contacts[::-1])
    assert all(event.person.name == f"N{event.sender}" for event in joined)


def test_a_person_with_no_name_at_all_is_nobody() -> None:
    assert writer({}) == Person()
    assert writer({"from": "", "from_user_id": None}) == Person()


@pytest.mark.parametrize(
    ("sent", "wa_id", "bsuid"),
    [
        (PHONE, PHONE, None),
        (int(PHONE), PHONE, None),
        ("+54 9 11 0000-0001", PHONE, None),
        (BSUID, None, BSUID),
        ("US." + "A1" * 64, None, "US." + "A1" * 64),
        ("US.ENT.12", None, "US.ENT.12"),
        ("somebody", None, None),
        ("+", None, None),
        ("٥٤٩", None, None),
        ([PHONE], None, None),
        ({"a": 1}, None, None),
        (True, None, None),
    ],
)
def test_an_address_is_a_phone_in_digits_or_an_id(
    sent: Any, wa_id: str | None, bsuid: str | None
) -> None:
    found = writer({"from": sent})
    assert (found.wa_id, found.bsuid) == (wa_id, bsuid)


def test_the_sender_stays_as_received() -> None:
    (event,) = events_of("messages", messages=[{"from": "+54 9", "type": "text"}])
    assert event.sender == "+54 9"


def test_a_bsuid_in_from_finds_its_contact() -> None:
    assert writer({"from": BSUID}, contact(user_id=BSUID)).name == "Ana"
    assert writer({"from": BSUID}, contact(user_id=STRANGER)).name is None


@pytest.mark.parametrize(
    ("profile", "name", "username"),
    [
        ({"name": "."}, ".", None),
        ({"name": 12345}, "12345", None),
        ({"name": " "}, None, None),
        ({"name": []}, None, None),
        ({"username": "@"}, None, None),
        ({"username": "ANA"}, None, "ana"),
        ({"username": ["x"]}, None, None),
        (None, None, None),
        ([], None, None),
    ],
)
def test_a_profile_may_hold_anything(
    profile: Any, name: str | None, username: str | None
) -> None:
    found = writer({"from": PHONE}, contact(wa_id=PHONE, profile=profile))
    assert (found.name, found.username, found.wa_id) == (name, username, PHONE)


def test_the_wa_id_may_be_inside_the_profile() -> None:
    found = writer({"from": PHONE}, {"profile": {"name": "Ana", "wa_id": PHONE}})
    assert found == Person(wa_id=PHONE, name="Ana")


def test_contacts_of_any_type_are_survived() -> None:
    odd_ones: list[Any] = [
        None,
        {},
        "x",
        5,
        [None, 5, [], "x"],
        [{}],
        [{"user_id": []}],
    ]
    for contacts in odd_ones:
        (event,) = events_of(
            "messages", messages=[{"type": "text", "from": PHONE}], contacts=contacts
        )
        assert event.person == Person(wa_id=PHONE)


def test_a_system_message_is_from_the_person_by_their_old_names() -> None:
    changed = {"previous_user_id": BSUID, "user_id": STRANGER, "wa_id": OTHER}
    old = {"type": "system", "from": PHONE, "from_user_id": STRANGER, "system": changed}
    assert writer(old) == Person(wa_id=PHONE, bsuid=BSUID)
    assert writer({**old, "from": None}) == Person(bsuid=BSUID)
    legacy = {"type": "system", "system": {"customer": PHONE, "wa_id": OTHER}}
    assert writer(legacy) == Person(wa_id=PHONE)


def test_an_echo_is_about_whom_it_went_to() -> None:
    echo = {"id": "a", "type": "text", "from": "5491155550000", "to": PHONE}
    (event,) = events_of(
        "smb_message_echoes", message_echoes=[echo], contacts=[contact(wa_id=PHONE)]
    )
    assert (event.sender, event.person.wa_id) == ("5491155550000", PHONE)
    assert event.person.name == "Ana"


def test_a_call_is_about_the_one_who_is_not_the_business() -> None:
    incoming = {"id": "a", "event": "connect", "from": PHONE, "to": "1"}
    outgoing = {**incoming, "from": "1", "to": PHONE, "direction": "BUSINESS_INITIATED"}
    for event in events_of("calls", calls=[incoming, outgoing]):
        assert event.person == Person(wa_id=PHONE)


def test_preferences_and_the_address_book_name_their_person() -> None:
    (event,) = events_of(
        "user_preferences", user_preferences=[{"wa_id": PHONE, "user_id": BSUID}]
    )
    assert event.person == Person(wa_id=PHONE, bsuid=BSUID)
    (event,) = events_of(
        "smb_app_state_sync", state_sync=[{"contact": {"phone_number": PHONE}}]
    )
    assert event.person == Person(wa_id=PHONE)


def test_standby_has_contacts_of_its_own() -> None:
    inner = {
        "messages": [{"type": "text", "from": PHONE}],
        "contacts": [contact(wa_id=PHONE)],
    }
    (event,) = events_of("standby", standby=inner)
    assert event.person.name == "Ana"
