"""At the secret's door a body of any shape reports what it holds, each thing once."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.model import Door, Event
from router.whatsapp.events import read
from router.whatsapp.keys import digest_of
from router.whatsapp.shapes import baileys, evolution, meta_form
from router.whatsapp.shapes.addresses import address_of
from router.whatsapp.shapes.aliases import line_of

PHONE = "5491100000001"
JID = f"{PHONE}@s.whatsapp.net"
LID = "100000000000001@lid"
GROUP = "120363000000000001@g.us"
SHAPES = {
    path.stem: json.loads(path.read_bytes())
    for path in sorted((Path(__file__).parent / "shapes").glob("*.json"))
}
CORPUS = [
    json.loads(path.read_bytes())
    for path in sorted((Path(__file__).parent / "corpus").glob("[!b]*.json"))
    if path.stat().st_size < 50_000
]


def events_of(value: Any, door: Door = Door.SECRET) -> tuple[Event, ...]:
    return read(json.dumps(value).encode(), door)


def kinds_of(value: Any, door: Door = Door.SECRET) -> list[str]:
    return [event.kind for event in events_of(value, door)]


def one(value: Any) -> Event:
    (event,) = events_of(value)
    return event


def flat(**members: Any) -> dict[str, Any]:
    return {"telefono": PHONE, "messageId": "3EB1", **members}


def raw(
    message: Any = None, key: dict[str, Any] | None = None, **beside: Any
) -> dict[str, Any]:
    """Return a body as Evolution posts it; *beside* stands beside its data."""
    data = {
        "key": {"remoteJid": JID, "fromMe": False, "id": "3EB0", **(key or {})},
        "pushName": "Ana",
        "message": {"conversation": "Hola"} if message is None else message,
        "messageTimestamp": 1764000020,
    }
    return {"event": "messages.upsert", "instance": "LINEA", "data": data, **beside}


# --- the shapes -------------------------------------------------------------------------


def said(event: Event) -> tuple[str, str | None, str | None, str | None]:
    text = event.content.said if event.content else None
    return (event.kind, event.id, event.person.wa_id, text)


@pytest.mark.parametrize(
    ("shape", "reported"),
    [
        ("f1", [("message.text", "wamid.A1", PHONE, "Hola")]),
        (
            "f2",
            [
                ("message.text", "wamid.A2", PHONE, "2"),
                ("message.text", "wamid.A2b", "5491100000002", "22"),
                ("status.delivered", "wamid.B0", PHONE, None),
            ],
        ),
        ("f3_message", [("message.text", None, PHONE, "Hola")]),
        ("f3_text", [("message.text", None, PHONE, "Hola")]),
        ("f4", [("message.image", "wamid.A3", PHONE, "")]),
        ("f4_text", [("message.text", "wamid.A6", PHONE, "Hola")]),
        ("f5", [("message.text", "wamid.A4", PHONE, "Hola")]),
        ("f6", [("message.audio", "wamid.A5", PHONE, "Hola")]),
        ("f7", [("message.text", "3EB0", PHONE, "Hola")]),
        ("f8", [("message.image", "3EB1", PHONE, "")]),
        ("f8_reaction", [("message.reaction", None, PHONE, None)]),
        (
            "f9",
            [
                ("message.text", "3EB2", PHONE, "Hola"),
                ("message.image", "3EB3", "5491100000002", "mirá"),
            ],
        ),
        ("f10", [("status.delivered", "wamid.B1", PHONE, None)]),
        ("f10_value", [("status.read", "wamid.B2", PHONE, None)]),
    ],
)
def test_a_shape_is_read(shape: str, reported: list[Any]) -> None:
    assert [said(event) for event in events_of(SHAPES[shape])] == reported


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"f1"}))
def test_metas_door_knows_the_envelope_alone(shape: str) -> None:
    assert kinds_of(SHAPES[shape], Door.META) == ["raw.unrecognised"]


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_wrappers_change_nothing(shape: str) -> None:
    value = SHAPES[shape]
    plain = events_of(value)
    wrapped = {"headers": {}, "params": {}, "query": {}, "body": value}
    for other in ([value], [wrapped], wrapped, [[wrapped]], {"body": [value]}):
        assert events_of(other) == plain or as_data(events_of(other)) == as_data(plain)
    assert len(events_of([value, wrapped])) == 2 * len(plain)


def as_data(events: tuple[Event, ...]) -> list[Any]:
    names = [name for name in Event.__slots__]  # noqa: C416 -- a copy
    return [[getattr(event, name) for name in names] for event in events]


def test_only_so_many_wrappers_are_taken_off() -> None:
    value: Any = flat(mensaje="Hola")
    for depth in range(8):
        expected = "message.text" if depth <= 4 else "raw.unrecognised"
        assert kinds_of(value) == [expected]
        value = [value]


def test_the_envelope_is_read_as_at_metas_door() -> None:
    for body in CORPUS:
        if isinstance(body, dict) and isinstance(body.get("entry"), list):
            assert as_data(events_of(body)) == as_data(events_of(body, Door.META))


def values_in(body: Any) -> list[Any]:
    entries = body.get("entry") if isinstance(body, dict) else None
    changes = [
        change
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("changes"), list)
        for change in entry["changes"]
    ]
    return [
        change["value"]
        for change in changes
        if isinstance(change, dict)
        and change.get("field") == "messages"
        and isinstance(change.get("value"), dict)
    ]


VALUES = [value for body in CORPUS for value in values_in(body)]


def test_a_value_at_the_root_is_the_same_as_in_its_envelope() -> None:
    assert len(VALUES) > 80
    for value in VALUES:
        change = {"field": "messages", "value": value}
        envelope = {
            "object": "whatsapp_business_account",
            "entry": [{"changes": [change]}],
        }
        expected = events_of(envelope, Door.META)
        for shape in ({**value, "field": "messages"}, change, {"changes": [change]}):
            events = events_of(shape)
            assert [e.kind for e in events] == [e.kind for e in expected]
            assert [e.person for e in events] == [e.person for e in expected]
            assert [e.id for e in events] == [e.id for e in expected]
            mine = [e.key for e in events if e.kind.startswith(("message.", "status."))]
            theirs = [
                e.key for e in expected if e.kind.startswith(("message.", "status."))
            ]
            assert mine == theirs


def test_a_value_of_another_field_is_read_by_its_field() -> None:
    change = {"field": "account_update", "event": "PARTNER_REMOVED"}
    assert kinds_of(change) == ["account_update.partner_removed"]
    echoes = {"message_echoes": [{"to": PHONE, "id": "a", "type": "text"}]}
    assert kinds_of(echoes) == ["echo.text"]


# --- what is no message -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        ({"foo": 1}, ["raw.unrecognised"]),
        ({"telefono": PHONE}, ["raw.unrecognised"]),
        ({"mensaje": "Hola"}, ["raw.unrecognised"]),
        ({"key": {"a": 1}}, ["raw.unrecognised"]),
        ({"event": "messages.upsert", "data": None}, ["raw.unrecognised"]),
        ({"event": "messages.upsert", "data": []}, ["raw.unrecognised"]),
        ({"event": "messages.upsert", "data": [5]}, ["raw.unrecognised"]),
        ({"data": {"messages": []}}, ["raw.unrecognised"]),
        ({"messaging_product": "whatsapp", "metadata": {}}, ["raw.unrecognised"]),
        ({"messages": []}, ["raw.unrecognised"]),
        ({"messages": [5]}, ["raw.unrecognised"]),
        ({"messages": "x"}, ["raw.unrecognised"]),
        ({"id": "a", "status": ["read"]}, ["raw.unrecognised"]),
        ({"id": "a", "status": "read", "recipient_id": PHONE}, ["status.read"]),
        *(
            ({"event": name, "instance": "L", "data": data}, [f"evolution.{kind}"])
            for name, kind, data in (
                ("connection.update", "connection.update", {"state": "open"}),
                ("QRCODE_UPDATED", "qrcode.updated", {"qrcode": {}}),
                ("presence.update", "presence.update", {"id": JID, "presences": {}}),
                ("contacts.upsert", "contacts.upsert", [{"remoteJid": JID}]),
                ("send.message", "send.message", raw()["data"]),
                ("messages.set", "messages.set", [raw()["data"]]),
                ("messages.update", "messages.update", {"keyId": "A"}),
                ("messages.update", "messages.update", {"status": "READ"}),
                ("chats.delete", "chats.delete", None),
            )
        ),
        (
            raw({"senderKeyDistributionMessage": {}, "messageContextInfo": {}}),
            ["evolution.protocol"],
        ),
        (
            raw({"protocolMessage": {"type": "APP_STATE_SYNC_KEY_SHARE"}}),
            ["evolution.protocol"],
        ),
        (
            raw({"protocolMessage": {"type": 3, "key": {"id": "T"}}}),
            ["evolution.protocol"],
        ),
    ],
)
def test_what_is_no_message_is_kept_as_a_notice(value: Any, kinds: list[str]) -> None:
    events = events_of(value)
    assert [event.kind for event in events] == kinds
    assert all(event.content is None for event in events)
    assert {event.key for event in events} == {event.key for event in events_of(value)}


@pytest.mark.parametrize(
    "address", ["status@broadcast", "1764000020@broadcast", "120363@newsletter"]
)
def test_what_went_to_a_list_is_no_message(address: str) -> None:
    for body in (
        raw(key={"remoteJid": address, "participant": JID}),
        flat(remoteJid=address, mensaje="Hola"),
        {"from": address, "id": "A", "type": "text", "text": {"body": "Hola"}},
        {"messages": [{"from": address, "type": "text", "text": {"body": "Hola"}}]},
    ):
        assert kinds_of(body) == ["evolution.broadcast"]
    assert kinds_of(flat(mensaje="status@broadcast")) == ["message.text"]


def test_what_happened_in_a_group_is_no_message_and_what_could_not_be_read_is() -> None:
    def with_stub(stub: Any) -> list[str]:
        body = raw(key={"remoteJid": GROUP})
        body["data"] |= {"message": None, "messageStubType": stub}
        return kinds_of(body)

    assert kinds_of(raw() | {"messageStubType": 27}) == ["message.text"]
    spoken = raw()
    spoken["data"]["messageStubType"] = 27
    assert kinds_of(spoken) == ["message.text"]
    assert with_stub(27) == ["evolution.stub"]
    assert with_stub("CIPHERTEXT") == ["message.unrecognised"]


# --- whose it is ------------------------------------------------------------------------


def test_what_the_business_sent_is_an_echo() -> None:
    own = {"fromMe": True}
    meta: dict[str, Any] = {"from": "5491100000000", "to": PHONE, "id": "3EB0"}
    meta |= {"type": "text", "text": {"body": "Hola"}}
    for body in (
        raw(key=own),
        raw(fromMe=True),
        flat(mensaje="Hola", fromMe=True),
        flat(mensaje="Hola", fromMe="true"),
        flat(mensaje="Hola", from_me=1),
        {"messages": [{**meta, **own}]},
        {"messages": [meta], **own},
    ):
        event = one(body)
        assert (event.kind, event.person.wa_id) == ("echo.text", PHONE)
        assert (event.content and event.content.said, event.sender) == ("Hola", None)
        assert event.person.name is None
    for word in (False, "false", 0, "0", "", None):
        assert kinds_of(flat(mensaje="Hola", fromMe=word)) == ["message.text"]
    assert kinds_of(raw({"reactionMessage": {"text": "👍"}}, own)) == ["echo.reaction"]


def test_an_echo_is_never_of_the_number_of_the_business() -> None:
    business = "5491100000000@s.whatsapp.net"
    key = {"fromMe": True, "remoteJid": LID, "senderPn": business}
    event = one(raw(key=key, sender=business))
    assert (event.person.wa_id, event.person.bsuid) == (None, LID)
    key["remoteJidAlt"] = JID
    assert one(raw(key=key, sender=business)).person.wa_id == PHONE


@pytest.mark.parametrize(
    "body",
    [
        raw(key={"remoteJid": GROUP, "participant": f"{PHONE}:12@s.whatsapp.net"}),
        raw(
            key={"remoteJid": GROUP, "participant": LID, "participantAlt": JID},
            sender="5491100000000@s.whatsapp.net",
        ),
        flat(remoteJid=GROUP, mensaje="Hola"),
        {"telefono": GROUP, "participant": JID, "mensaje": "Hola"},
        {"from": GROUP, "participant": JID, "text": "Hola"},
    ],
)
def test_a_message_of_a_group_is_of_the_group_and_of_the_person(body: Any) -> None:
    event = one(body)
    assert (event.kind, event.group_id) == ("message.text", GROUP)
    assert event.person.wa_id == PHONE


def test_a_participant_who_is_not_the_chat_makes_it_a_group() -> None:
    other = "5491100000002"
    event = one(raw(key={"participant": f"{other}@s.whatsapp.net"}))
    assert (event.group_id, event.person.wa_id) == (JID, other)
    for same in (JID, f"{PHONE}:3@s.whatsapp.net", LID, "", None):
        event = one(raw(key={"participant": same}))
        assert (event.group_id, event.person.wa_id) == (None, PHONE)


def test_an_echo_in_a_group_is_of_the_group_alone() -> None:
    event = one(raw(key={"remoteJid": GROUP, "fromMe": True, "participant": JID}))
    assert (event.kind, event.group_id) == ("echo.text", GROUP)
    assert event.person.wa_id is None


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ({"remoteJidAlt": JID}, {}),
        ({"senderPn": JID}, {}),
        ({}, {"sender": JID}),
        ({"participantAlt": JID}, {}),
        ({}, {"telefono": f"+{PHONE}"}),
        ({"remoteJidAlt": JID, "senderPn": "1@s.whatsapp.net"}, {"sender": "2@c.us"}),
        ({"remoteJidAlt": "9@lid", "senderPn": JID}, {"sender": "2@c.us"}),
        ({"remoteJid": JID, "remoteJidAlt": LID}, {"sender": "2@c.us"}),
    ],
)
def test_a_lid_is_no_phone_and_the_phone_beside_it_is_found(
    key: dict[str, Any], beside: dict[str, Any]
) -> None:
    event = one(raw(key={"remoteJid": LID, **key}, **beside))
    assert (event.person.wa_id, event.person.bsuid) == (PHONE, LID)


def test_a_lid_alone_is_a_person_without_a_phone() -> None:
    ours = {"server_url": "https://evolution.example", "date_time": "x"}
    for body in (
        raw(key={"remoteJid": LID}),
        raw(key={"remoteJid": LID.replace("@", ":7@")}),
        flat(telefono=LID, mensaje="Hola"),
        # Evolution's own `sender` is the number of the line.
        raw(key={"remoteJid": LID}, sender="5491100000000@s.whatsapp.net", **ours),
    ):
        person = one(body).person
        assert (person.wa_id, person.bsuid) == (None, LID)


@pytest.mark.parametrize(
    "written",
    [
        PHONE,
        int(PHONE),
        float(PHONE),
        f"+{PHONE}",
        "+54 9 11 0000-0001",
        "(+54) 9 11 0000.0001",
        "00 54 9 11 0000 0001",
        f" {PHONE} ",
        JID,
        f"{PHONE}@c.us",
        f"{PHONE}:12@s.whatsapp.net",
        f"{PHONE}@S.WhatsApp.net",
    ],
)
def test_a_phone_is_read_in_any_notation(written: Any) -> None:
    for alias in ("telefono", "phone", "from", "remoteJid"):
        event = one({alias: written, "mensaje": "Hola"})
        assert event.person.wa_id == PHONE
        assert event.sender == (
            written if isinstance(written, str) else str(int(written))
        )


@pytest.mark.parametrize(
    "written", ["", "abc", "@", "@s.whatsapp.net", "a@b.example", True, [], {}, "+"]
)
def test_what_is_no_phone_is_none(written: Any) -> None:
    found = address_of(written)
    assert found is None or found.kind == ""


def test_a_bsuid_is_an_address_and_an_agents_number_is_not() -> None:
    assert one({"from": "AR.13491208", "text": "a"}).person.bsuid == "AR.13491208"
    event = one({"from_user_id": "AR.1", "id": "a", "text": {"body": "b"}})
    assert (event.kind, event.person.bsuid) == ("message.text", "AR.1")
    assert one(flat(mensaje="a", user_id=17)).person.bsuid is None


# --- what it says -----------------------------------------------------------------------


@pytest.mark.parametrize("alias", ["mensaje", "message", "text", "body", "contenido"])
@pytest.mark.parametrize(
    "form",
    [
        "Hola",
        {"body": "Hola"},
        {"text": "Hola"},
        {"conversation": "Hola"},
        {"text": {"body": "Hola"}},
        {"extendedTextMessage": {"text": "Hola"}},
    ],
)
def test_a_text_is_a_text_or_an_object(alias: str, form: Any) -> None:
    event = one({"telefono": PHONE, alias: form})
    assert event.kind == "message.text"
    assert event.content is not None
    assert event.content.said == "Hola"


@pytest.mark.parametrize(
    ("alias", "read_as"),
    [
        *((name, "id") for name in ("messageId", "message_id", "id")),
        ("whatsapp_message_id", "id"),
        *((name, "name") for name in ("nombre", "name", "pushName", "nombre_contacto")),
        *((name, "quoted") for name in ("whatsapp_context_id", "context_id")),
        ("contextMessageId", "quoted"),
    ],
)
def test_an_alias_is_read(alias: str, read_as: str) -> None:
    event = one({"phone": PHONE, "text": "Hola", alias: "X1"})
    quoted = event.content and event.content.quoted_id
    found = {"id": event.id, "name": event.person.name, "quoted": quoted}
    assert found == {"id": None, "name": None, "quoted": None, read_as: "X1"}


@pytest.mark.parametrize("alias", ["timestamp", "ts"])
@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (1764000010, 1764000010),
        ("1764000010", 1764000010),
        (1764000010500, 1764000010.5),
        ("2025-11-24T16:00:10Z", 1764000010),
        ("2025-11-24T13:00:10-03:00", 1764000010),
        ("2025-11-24T16:00:10.500Z", 1764000010.5),
        ({"low": 1764000010, "high": 0, "unsigned": True}, 1764000010),
        ("2025-11-24T16:00:10", None),  # of which place?
        ("0001-01-01T00:00:00+23:59", None),
        ("ayer", None),
        (True, None),
        ([], None),
    ],
)
def test_a_time_is_read_in_any_notation(
    alias: str, sent: Any, seconds: float | None
) -> None:
    at = one(flat(mensaje="Hola", **{alias: sent})).timestamp
    assert (at and at.timestamp()) == seconds
    if alias == "timestamp":
        item = {"from": PHONE, "type": "text", "text": "Hola", "timestamp": sent}
        again = one({"messages": [item]})
        if not isinstance(sent, dict):
            assert (again.timestamp and again.timestamp.timestamp()) == seconds
        assert again.content is not None
        assert again.content.said == "Hola"


def media(body: Any) -> tuple[str | None, ...]:
    event = one(body)
    assert event.content is not None
    assert event.content.media is not None
    told = event.content.media
    return (event.kind, event.content.said, told.mime_type, told.filename, told.url)


URL = "https://files.example/a"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (flat(mediaType="image", media_url=URL), ("image", "", None, None, URL)),
        (
            flat(mensaje="mirá", media_type="imagen", mediaUrl=URL),
            ("image", "mirá", None, None, URL),
        ),
        (
            flat(type="text", text="mirá", mediaUrl=URL, mimetype="application/pdf"),
            ("document", "mirá", "application/pdf", None, URL),
        ),
        (
            flat(mediaType="video/mp4", mediaUrl=URL),
            ("video", "", "video/mp4", None, URL),
        ),
        (flat(mediaUrl=URL, fileName="a.pdf"), ("document", "", None, "a.pdf", URL)),
        (flat(mediaType="ptt", mediaUrl=URL), ("voice", "", None, None, URL)),
        (flat(tipo="sticker"), None),
        (
            {
                "from": PHONE,
                "id": "A",
                "type": "image",
                "image": {"id": "M"},
                "text": "mirá",
            },
            ("image", "mirá", None, None, None),
        ),
        (
            raw({"imageMessage": {"caption": "mirá", "url": "https://mmg.example"}}),
            ("image", "mirá", None, None, None),
        ),
        (
            raw({"videoMessage": {"mimetype": "video/mp4"}}, media_url=URL),
            ("video", "", "video/mp4", None, URL),
        ),
        (
            raw({"audioMessage": {"ptt": True}, "mediaUrl": URL}),
            ("voice", "", None, None, URL),
        ),
        (
            raw({"conversation": "mirá"}, media_url=URL, mediaType="image"),
            ("image", "mirá", None, None, URL),
        ),
        (
            raw(
                {
                    "documentWithCaptionMessage": {
                        "message": {
                            "documentMessage": {"caption": "acá", "fileName": "a.pdf"}
                        }
                    }
                }
            ),
            ("document", "acá", None, "a.pdf", None),
        ),
        (
            raw(
                {
                    "messageContextInfo": {},
                    "ephemeralMessage": {
                        "message": {
                            "viewOnceMessageV2": {
                                "message": {"imageMessage": {"caption": "una vez"}}
                            }
                        }
                    },
                }
            ),
            ("image", "una vez", None, None, None),
        ),
        (raw({"stickerMessage": {"mimetype": "image/webp"}}), None),
    ],
)
def test_neither_file_nor_text_is_lost(body: Any, expected: Any) -> None:
    if expected is None:
        assert kinds_of(body) == ["message.sticker"]
    else:
        kind, *rest = expected
        assert media(body) == (f"message.{kind}", *rest)


@pytest.mark.parametrize(
    ("message", "kind", "text", "choice"),
    [
        ({"extendedTextMessage": {"text": "Hola"}}, "text", "Hola", None),
        ({"conversation": ""}, "text", "[Mensaje vacío]", None),
        (
            {
                "locationMessage": {
                    "degreesLatitude": -34.6,
                    "degreesLongitude": 0,
                    "name": "Plaza",
                }
            },
            "location",
            "[Ubicación: Plaza · -34.6, 0]",
            None,
        ),
        (
            {"contactMessage": {"displayName": "Beto"}},
            "contacts",
            "[Contacto: Beto]",
            None,
        ),
        (
            {
                "contactsArrayMessage": {
                    "contacts": [{"displayName": "Beto"}, {"displayName": "Ciro"}]
                }
            },
            "contacts",
            "[Contacto: Beto, Ciro]",
            None,
        ),
        (
            {
                "listResponseMessage": {
                    "title": "Alumnos",
                    "singleSelectReply": {"selectedRowId": "2"},
                }
            },
            "interactive.list_reply",
            "Alumnos",
            "2",
        ),
        (
            {
                "buttonsResponseMessage": {
                    "selectedButtonId": "22",
                    "selectedDisplayText": "Clases",
                }
            },
            "interactive.button_reply",
            "Clases",
            "22",
        ),
        (
            {
                "templateButtonReplyMessage": {
                    "selectedId": "22",
                    "selectedDisplayText": "Clases",
                }
            },
            "button",
            "Clases",
            "22",
        ),
        (
            {
                "interactiveResponseMessage": {
                    "body": {"text": "Clases"},
                    "nativeFlowResponseMessage": {"paramsJson": '{"id":"22"}'},
                }
            },
            "interactive.button_reply",
            "Clases",
            "22",
        ),
        (
            {
                "interactiveResponseMessage": {
                    "body": {"text": "Listo"},
                    "nativeFlowResponseMessage": {"paramsJson": "{"},
                }
            },
            "interactive.flow_reply",
            "Listo",
            None,
        ),
        (
            {"pollCreationMessage": {"name": "¿Cuándo?", "options": [5]}},
            "unrecognised",
            "¿Cuándo?",
            None,
        ),
        ({"holoMessage": {"x": 1}}, "unrecognised", "[Mensaje no disponible]", None),
        ([], "unrecognised", "[Mensaje no disponible]", None),
        (None, "text", "Hola", None),
    ],
)
def test_a_message_of_baileys_says_what_it_says(
    message: Any, kind: str, text: str, choice: str | None
) -> None:
    event = one(raw(message))
    assert event.kind == f"message.{kind}"
    assert event.content is not None
    assert (event.content.text, event.content.choice) == (text, choice)
    assert (event.id, event.person.wa_id, event.person.name) == ("3EB0", PHONE, "Ana")
    assert event.timestamp is not None
    assert event.timestamp.timestamp() == 1764000020


def test_a_location_and_a_contact_are_read_without_an_envelope() -> None:
    event = one(flat(mensaje="Acá", latitud="-34.6", longitud="-58.4"))
    assert event.kind == "message.location"
    assert event.content is not None
    assert event.content.text == "[Ubicación: Acá · -34.6, -58.4]"
    assert kinds_of(flat(tipo="contacto", mensaje="Beto")) == ["message.contacts"]


def test_what_a_message_quotes_and_where_the_person_came_from_is_kept() -> None:
    info = {
        "stanzaId": "3EAF",
        "externalAdReply": {
            "sourceId": "120",
            "sourceUrl": "https://ad.example",
            "ctwaClid": "c",
            "title": "Cursos",
        },
    }
    inside = raw({"extendedTextMessage": {"text": "Hola", "contextInfo": info}})
    beside = raw()
    beside["data"]["contextInfo"] = info
    for body in (inside, beside):
        content = one(body).content
        assert content is not None
        assert content.quoted_id == "3EAF"
        assert content.referral == {
            "source_id": "120",
            "source_url": "https://ad.example",
            "ctwa_clid": "c",
            "headline": "Cursos",
        }
    preview = {"externalAdReply": {"title": "A page", "sourceUrl": "https://x.example"}}
    link = one(raw({"extendedTextMessage": {"text": "x", "contextInfo": preview}}))
    assert link.content is not None
    assert link.content.referral is None


def test_metas_own_context_counts_before_the_words_of_others() -> None:
    item = {"from": PHONE, "id": "A", "text": "Hola", "context": {"id": "C"}}
    content = one({**item, "context_id": "X"}).content
    assert content is not None
    assert content.quoted_id == "C"


def test_a_null_hides_nothing_that_stands_beside_it() -> None:
    body = raw({"imageMessage": {"caption": ""}}, mediaUrl=URL, mensaje="mirá")
    body["data"] |= {"mediaUrl": None, "mensaje": None}
    assert media(body) == ("message.image", "mirá", None, None, URL)


def test_attribution_is_kept_under_the_names_it_comes_in() -> None:
    body = flat(
        mensaje="Hola",
        utm_source="web",
        utm_medium="",
        utm_data={"utm_campaign": "marzo"},
        referral={"source_id": "1", "ctwa_clid": "c"},
    )
    content = one(body).content
    assert content is not None
    assert content.referral == {
        "utm_source": "web",
        "utm_campaign": "marzo",
        "source_id": "1",
        "ctwa_clid": "c",
    }


@pytest.mark.parametrize(
    ("body", "kind", "target"),
    [
        (
            raw({"reactionMessage": {"text": "👍", "key": {"id": "T"}}}),
            "reaction",
            {"message_id": "T", "emoji": "👍"},
        ),
        (
            raw({"reactionMessage": {"text": "", "key": {"id": "T"}}}),
            "reaction_removed",
            {"message_id": "T"},
        ),
        (
            flat(tipo="reaction", emoji="👍", reactionToMessageId="T"),
            "reaction",
            {"message_id": "T", "emoji": "👍"},
        ),
        (
            flat(type="reaction", mensaje="👍", whatsapp_context_id="T"),
            "reaction",
            {"message_id": "T", "emoji": "👍"},
        ),
        (
            flat(mensaje="", emoji="", reactionToMessageId="T"),
            "reaction_removed",
            {"message_id": "T"},
        ),
        (
            raw({"protocolMessage": {"type": "REVOKE", "key": {"id": "T"}}}),
            "revoke",
            {"original_message_id": "T"},
        ),
        (
            raw({"protocolMessage": {"type": 0, "key": {"id": "T"}}}),
            "revoke",
            {"original_message_id": "T"},
        ),
        (
            raw(
                {
                    "editedMessage": {
                        "message": {
                            "protocolMessage": {
                                "type": 14,
                                "key": {"id": "T"},
                                "editedMessage": {"conversation": "b"},
                            }
                        }
                    }
                }
            ),
            "edit",
            {
                "original_message_id": "T",
                "message": {"type": "text", "text": {"body": "b"}},
            },
        ),
        (
            {
                "event": "messages.edited",
                "data": {
                    "key": {"id": "T", "remoteJid": JID},
                    "editedMessage": {"conversation": "b"},
                },
            },
            "edit",
            {
                "original_message_id": "T",
                "message": {"type": "text", "text": {"body": "b"}},
            },
        ),
        (
            {"event": "messages.delete", "data": {"id": "T", "remoteJid": JID}},
            "revoke",
            {"original_message_id": "T"},
        ),
        (
            {
                "from": PHONE,
                "id": "A",
                "type": "reaction",
                "reaction": {"message_id": "T"},
            },
            "reaction_removed",
            {"message_id": "T"},
        ),
    ],
)
def test_what_changes_another_message_says_which(
    body: Any, kind: str, target: dict[str, Any]
) -> None:
    event = one(body)
    assert (event.kind, event.person.wa_id) == (f"message.{kind}", PHONE)
    assert event.content is None
    form = meta_form(event.item)
    assert form[form["type"]] == target


def test_two_edits_of_one_message_are_two_events() -> None:
    def edit(text: str) -> str:
        data = {
            "key": {"id": "T", "remoteJid": JID},
            "editedMessage": {"conversation": text},
        }
        event = one({"event": "messages.edited", "data": data})
        assert event.id is None
        return event.key

    assert edit("a") == edit("a") != edit("b")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("SERVER_ACK", "sent"),
        ("DELIVERY_ACK", "delivered"),
        ("READ", "read"),
        ("PLAYED", "played"),
        ("ERROR", "failed"),
        ("DELETED", "deleted"),
        (2, "sent"),
        (3, "delivered"),
        (4, "read"),
        (5, "played"),
        (0, "failed"),
    ],
)
def test_an_update_with_a_status_is_that_status(sent: Any, status: str) -> None:
    key = {"id": "3EB0", "remoteJid": JID, "fromMe": True}
    for data in (
        {"keyId": "3EB0", "remoteJid": JID, "status": sent, "messageId": "row"},
        [{"key": key, "update": {"status": sent}}],
    ):
        event = one({"event": "messages.update", "instance": "L", "data": data})
        assert event.kind == f"status.{status}"
        assert event.status is not None
        assert (event.status.message_id, event.person.wa_id) == ("3EB0", PHONE)


def test_an_update_that_is_no_status_hides_none_beside_it() -> None:
    data = [{"keyId": "A", "status": "READ"}, {"keyId": "B", "status": "PENDING"}, 5]
    kinds = kinds_of({"event": "messages.update", "data": data})
    assert kinds == ["status.read", *["evolution.messages.update"] * 2]


# --- keys, items, lines -----------------------------------------------------------------


def test_an_item_is_kept_as_it_was_received() -> None:
    for name in ("f3_text", "f4", "f5", "f6", "f7", "f8", "f8_reaction"):
        assert one(SHAPES[name]).item == SHAPES[name]
    for name in ("f2", "f9"):
        body = SHAPES[name]
        items = body.get("messages") or body["data"]["messages"]
        assert [event.item for event in events_of(body)][: len(items)] == items
    item = {"from": JID, "type": "text", "text": "Hola", "timestamp": "x"}
    assert one({"messages": [item]}).item == item
    assert one({"foo": 1}).item == {"foo": 1}


@pytest.mark.parametrize("wamid", ["", None, [], {}, False, "absent"])
def test_a_message_without_an_id_is_told_apart_by_what_was_received(wamid: Any) -> None:
    def bodies(text: str) -> list[Any]:
        members = {} if wamid == "absent" else {"id": wamid}
        return [
            {"from": PHONE, "text": text, **members},
            {"telefono": PHONE, "mensaje": text, **members},
            {"data": {"key": {"remoteJid": JID, **members}, "message": {"text": text}}},
            {"messages": [{"from": PHONE, "type": "text", "text": text, **members}]},
            {"telefono": PHONE, "contenido": text, "fromMe": True, **members},
        ]

    for first, other in zip(bodies("a"), bodies("b"), strict=True):
        event = one(first)
        assert event.id is None
        assert event.key == digest_of(event.item)
        assert event.key == one(first).key != one(other).key


def test_an_id_is_the_key_in_every_shape() -> None:
    for body in (raw(), flat(mensaje="a"), SHAPES["f4"], SHAPES["f6"]):
        event = one(body)
        assert event.key == event.id


def test_the_number_is_that_of_the_metadata_and_the_line_stays_in_the_item() -> None:
    event = one(flat(mensaje="Hola", metadata={"phone_number_id": "100"}, linea="wsp4"))
    assert (event.phone_number_id, line_of(event.item)) == ("100", "wsp4")
    for name in ("linea", "inbox", "linea_origen", "instance"):
        event = one(flat(mensaje="Hola", **{name: "ventas"}))
        assert (event.phone_number_id, line_of(event.item)) == (None, "ventas")
    assert line_of(one(raw()).item) == "LINEA"
    assert line_of([]) is None


def test_members_that_n8n_added_do_not_hide_a_message() -> None:
    added: dict[str, Any] = {"errors": [], "history": [{"a": 1}], "messages": []}
    added |= {"data": {"x": 1}, "value": {"y": 2}, "event": "new", "calls": [{}]}
    for name, member in added.items():
        assert kinds_of(flat(mensaje="Hola", **{name: member})) == ["message.text"]
    unsupported = {"from": PHONE, "id": "A", "type": "unsupported"}
    assert kinds_of({**unsupported, "errors": [{"code": 131051}]}) == [
        "message.unsupported"
    ]


# --- nothing raises, nothing vanishes ---------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", 0, 1.5, 2**70, True, [], {}, [[]], [{}], {"a": 1}, "\0", "\ud83d"]
)
words = st.sampled_from(
    [
        *("telefono", "from", "to", "remoteJid", "key", "message", "messages", "data"),
        *(
            "event",
            "text",
            "type",
            "body",
            "value",
            "statuses",
            "status",
            "field",
            "id",
        ),
        *(
            "fromMe",
            "participant",
            "media_url",
            "multimedia",
            "contextInfo",
            "contacts",
        ),
        *("reaction", "protocolMessage", "imageMessage", "conversation", "referral"),
        *("update", "entry", "changes", "instance", "messageStubType", "timestamp"),
    ]
)
leaves = odd | st.sampled_from(
    [
        *(PHONE, JID, LID, GROUP, "status@broadcast", "messages.upsert"),
        *("messages.update", "text", "image", "reaction", "read", "READ", "REVOKE"),
        *("wamid.A", 1764000010),
    ]
)
look_alikes = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=6)
    ),
    max_leaves=25,
)


def check(value: Any) -> None:
    events = events_of(value)
    assert events or has_empty_envelope(value)
    assert all(event.key for event in events)
    assert all(event.content.text for event in events if event.content)
    assert [event.key for event in events] == [e.key for e in events_of(value)]
    assert "rejected.malformed" not in {event.kind for event in events}


def has_empty_envelope(value: Any) -> bool:
    return '"entry": []' in (text := json.dumps(value)) or '"changes": []' in text


@given(look_alikes)
@settings(max_examples=600)
def test_whatever_looks_like_a_shape_is_kept(value: Any) -> None:
    check(value)


@given(
    st.sampled_from(sorted(SHAPES)),
    odd | json_values | look_alikes,
    st.randoms(use_true_random=False),
)
@settings(max_examples=600)
def test_a_shape_with_anything_anywhere_is_kept(
    name: str, anything: Any, rng: random.Random
) -> None:
    mutated = json.loads(json.dumps(SHAPES[name]))
    for _ in range(rng.randint(1, 4)):
        holder, member = rng.choice(list(places_in(mutated)) or [({"": 0}, "")])
        if rng.random() < 0.2:
            del holder[member]
        else:
            holder[member] = json.loads(json.dumps(anything))
    check(mutated)


def places_in(root: Any) -> Any:
    stack = [root]
    while stack:
        value = stack.pop()
        for member in value if isinstance(value, dict) else range(len(value)):
            yield value, member
            if isinstance(value[member], dict | list):
                stack.append(value[member])


@given(st.lists(odd | st.just(None), max_size=4), st.integers(0, 4))
def test_one_bad_item_spoils_no_other(bad: list[Any], place: int) -> None:
    good = {"from": PHONE, "id": "A", "type": "text", "text": {"body": "Hola"}}
    for item in (good, raw()["data"]):
        items = [*bad[:place], item, *bad[place:]]
        for body in ({"messages": items}, {"event": "messages.upsert", "data": items}):
            kinds = kinds_of(body)
            assert len(kinds) == len(items)
            assert "message.text" in kinds


@pytest.mark.parametrize("depth", [100, 600, 900])
def test_no_depth_that_parses_is_too_deep(depth: int) -> None:
    deep = '{"message":' * depth + "1" + "}" * depth
    for template in (
        '{"telefono":"1","mensaje":DEEP}',
        '{"data":{"key":{"remoteJid":"1@c.us"},"message":DEEP}}',
        '{"messages":[{"from":"1","text":DEEP}]}',
        "DEEP",
    ):
        (event,) = read(template.replace("DEEP", deep).encode(), Door.SECRET)
        assert event.kind in {"message.unrecognised", "raw.unrecognised"}
        assert event.key


def test_an_item_that_breaks_its_reader_is_kept_and_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fragile(_body: Any) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setitem(baileys.READERS, "imageMessage", fragile)
    body = SHAPES["f9"]
    text, image = events_of(body)
    assert (text.kind, image.kind) == ("message.text", "raw.unrecognised")
    assert image.item == body["data"]["messages"][1]


def test_a_body_that_breaks_what_reads_it_is_kept_and_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fragile(dict[str, str]):
        def get(self, *_args: Any) -> Any:
            raise ZeroDivisionError

    monkeypatch.setattr(evolution, "_STATUSES", Fragile())
    update = {"event": "messages.update", "data": {"keyId": "A", "status": "READ"}}
    kinds = kinds_of([flat(mensaje="a"), update, flat(mensaje="b")])
    assert kinds == ["message.text", "raw.unrecognised", "message.text"]


def test_data_in_the_words_of_the_crm_is_a_message_whatever_the_event() -> None:
    for event in ("mensaje.nuevo", "messages.upsert", None):
        assert kinds_of({"event": event, "data": flat(mensaje="Hola")}) == [
            "message.text"
        ]


def test_forms_may_be_mixed_in_one_list_and_keep_their_order() -> None:
    meta = {"from": PHONE, "id": "A", "type": "text", "text": {"body": "Hola"}}
    value = {
        "metadata": {"phone_number_id": "100"},
        "contacts": [{"profile": {"name": "Ana"}, "wa_id": PHONE}],
        "messages": [meta, raw()["data"], flat(mensaje="Chau"), {**meta, "id": "B"}],
        "statuses": [{"id": "wamid.B", "status": "read", "recipient_id": PHONE}],
    }
    events = events_of(value)
    assert [event.id for event in events] == ["A", "3EB0", "3EB1", "B", "wamid.B"]
    assert {event.person.name for event in events} == {"Ana"}
    assert {event.phone_number_id for event in events} == {"100"}
