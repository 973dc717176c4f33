"""What a body reports: each thing once, under its name, whatever stands beside it."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.model import Door, Event
from router.whatsapp import fields
from router.whatsapp.events import read
from router.whatsapp.kinds import MESSAGE_TYPES
from router.whatsapp.place import Place, each

CORPUS = [
    path.read_bytes()
    for path in sorted((Path(__file__).parent / "corpus").glob("*.json"))
    if path.stat().st_size < 100_000 and not path.name.startswith("bad_")
]


def value_of(**members: Any) -> dict[str, Any]:
    return {"metadata": {"phone_number_id": "100"}, **members}


def change(field: Any = "messages", /, **members: Any) -> dict[str, Any]:
    return {"field": field, "value": value_of(**members)}


def entry(*changes: Any, **members: Any) -> dict[str, Any]:
    return {"id": "200", "changes": list(changes), **members}


def body(*entries: Any, **members: Any) -> dict[str, Any]:
    envelope = {"object": "whatsapp_business_account", "entry": list(entries)}
    return {**envelope, **members}


def events_of(value: Any, door: Door = Door.META) -> tuple[Event, ...]:
    return read(json.dumps(value).encode(), door)


def kinds_of(value: Any, door: Door = Door.META) -> list[str]:
    return [event.kind for event in events_of(value, door)]


def in_field(field: str, /, **members: Any) -> list[str]:
    return kinds_of(body(entry(change(field, **members))))


def message(**members: Any) -> dict[str, Any]:
    plain = {"from": "5491100000001", "id": "wamid.A", "timestamp": "1795478500"}
    return {**plain, "type": "text", "text": {"body": "Hola"}, **members}


def status(**members: Any) -> dict[str, Any]:
    plain = {"id": "wamid.S", "status": "read", "timestamp": "1795478500"}
    return {**plain, "recipient_id": "5491100000001", **members}


def of_message(contacts: Any = None, **members: Any) -> Event:
    members = message(**members)
    (event,) = events_of(body(entry(change(messages=[members], contacts=contacts))))
    return event


def of_status(**members: Any) -> Event:
    (event,) = events_of(body(entry(change(statuses=[status(**members)]))))
    return event


# --- nothing raises ---------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
odd: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        "",
        "x",
        0,
        1.5,
        -1,
        2**70,
        True,
        [],
        {},
        [[]],
        [{}],
        {"a": 1},
        "\0",
        "\ud83d",
    ]
)
doors = st.sampled_from(list(Door))


@given(st.binary(), doors)
def test_any_bytes_give_at_least_one_event(data: bytes, door: Door) -> None:
    events = read(data, door)
    assert events
    assert all(event.key for event in events)


@given(json_values, doors)
def test_any_json_is_kept(value: Any, door: Door) -> None:
    assert "rejected.malformed" not in kinds_of(value, door)


@given(st.sampled_from(CORPUS), odd | json_values, st.randoms(use_true_random=False))
@settings(max_examples=400)
def test_a_body_with_anything_anywhere_is_read(
    original: bytes, anything: Any, rng: random.Random
) -> None:
    mutated = json.loads(original)
    for _ in range(rng.randint(1, 4)):
        mutate(mutated, anything, rng)
    for door in Door:
        events = events_of(mutated, door)
        assert all(event.key for event in events)
        assert all(event.content.text for event in events if event.content)
        assert [event.key for event in events_of(mutated, door)] == [
            event.key for event in events
        ]


def mutate(value: Any, anything: Any, rng: random.Random) -> None:
    """Put *anything* in the place of one member, or take the member away."""
    places = list(places_in(value))
    if not places:
        return
    holder, key = rng.choice(places)
    if rng.random() < 0.2:
        del holder[key]
    elif rng.random() < 0.2 and isinstance(holder, list):
        holder.append(copied(holder[key]))
    else:
        holder[key] = copied(anything)


def copied(value: Any) -> Any:
    return json.loads(json.dumps(value))  # deepcopy recurses, and the corpus is deep


def places_in(root: Any) -> Any:
    stack = [root]
    while stack:
        value = stack.pop()
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield value, key
            if isinstance(value[key], dict | list):
                stack.append(value[key])


@given(st.sampled_from(CORPUS), st.integers(0), st.integers(0), st.binary(max_size=3))
def test_a_body_with_a_piece_cut_out_is_read_or_malformed(
    data: bytes, start: int, length: int, patch: bytes
) -> None:
    start %= len(data)
    cut = data[:start] + patch + data[start + length % 50 :]
    assert all(event.key for event in read(cut, Door.META))


@pytest.mark.parametrize("depth", [200, 600, 900])
def test_no_depth_that_parses_is_too_deep(depth: int) -> None:
    deep = b'{"d":' * depth + b"1" + b"}" * depth
    envelope = json.dumps(body(entry(change(messages=[message(id=None, x="DEEP")]))))
    (event,) = read(envelope.replace('"DEEP"', deep.decode()).encode(), Door.META)
    assert event.kind == "message.text"
    assert event.key.startswith("sha256:")
    for door in Door:
        assert read(b"[" * depth + b"]" * depth, door)[0].kind == "raw.unrecognised"


def test_an_item_that_breaks_its_reader_is_kept_and_spoils_no_other() -> None:
    def fragile(place: Place, item: Any) -> Event:
        if item["n"] == 2:
            raise ZeroDivisionError
        return place.event("message.text", item)

    events: list[Event] = []
    items = [{"n": 1}, {"n": 2}, {"n": 3}]
    each(Place("messages", {}, "200", None), {"m": items}, "m", fragile, events)
    assert [(event.kind, event.item["n"]) for event in events] == [
        ("message.text", 1),
        ("raw.unrecognised", 2),
        ("message.text", 3),
    ]


def test_a_change_that_breaks_its_reader_is_kept_and_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fragile(place: Place, events: list[Event]) -> None:
        events.append(place.notice("error", {}))
        raise ZeroDivisionError

    monkeypatch.setitem(fields._FIELDS, "flows", fragile)
    assert kinds_of(body(entry(change("flows"), change(messages=[message()])))) == [
        "error",
        "raw.unrecognised",
        "message.text",
    ]


# --- the envelope -----------------------------------------------------------------------


def test_a_body_that_is_no_json_is_one_rejected_event_with_its_digest() -> None:
    (event,) = read(b"not json", Door.META)
    assert (event.kind, event.item, event.id) == ("rejected.malformed", None, None)
    assert event.key == f"sha256:{hashlib.sha256(b'not json').hexdigest()}"


def test_every_item_of_every_change_of_every_entry_is_read() -> None:
    two = change(messages=[message(id="a"), message(id="b")], statuses=[status()])
    assert (
        kinds_of(body(entry(two, two), entry(two)))
        == [
            "message.text",
            "message.text",
            "status.read",
        ]
        * 3
    )


def test_an_empty_entry_and_empty_changes_report_nothing() -> None:
    assert kinds_of(body()) == []
    assert kinds_of(body(entry())) == []
    assert kinds_of(body(entry(), entry())) == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "text",
        {},
        {"object": "whatsapp_business_account"},
        {"object": "whatsapp_business_account", "entry": None},
        {"object": "whatsapp_business_account", "entry": {"id": "1"}},
        body(entry(change(messages=[message()])), object="page"),
        body(None),
        body("text"),
        body([]),
        body({"id": "200"}),
        body({"id": "200", "changes": {"field": "messages"}}),
        body(entry(None)),
        body(entry({})),
        body(entry({"field": "messages"})),
        body(entry({"field": "messages", "value": None})),
        body(entry({"field": "messages", "value": []})),
        body(entry({"value": value_of(messages=[message()])})),
        body(entry(change(["messages"], messages=[message()]))),
        body(entry(change(None, messages=[message()]))),
        body(entry(change(messages=[], statuses=[]))),
        body(entry(change(something=[1]))),
        body(entry(change(messages=[None]))),
        body(entry(change(messages=message()))),
        body(entry(change("calls"))),
        body(entry(change("history", errors=[{"code": 1}]))),
        body(entry(change("standby", messages=[message()]))),
        body(entry(change("standby", standby=[message()]))),
        body(entry(change("group_settings_update"))),
        body(entry(change("user_preferences"))),
        body(entry(change("smb_message_echoes", messages=[message()]))),
        [body(entry(change(messages=[message()])))],
        [],
    ],
)
def test_what_has_no_known_shape_is_kept_as_one_event(value: Any) -> None:
    assert kinds_of(value) == ["raw.unrecognised"]


def test_a_list_that_is_none_does_not_hide_the_list_beside_it() -> None:
    assert in_field("messages", messages="x", statuses=[status()]) == [
        "raw.unrecognised",
        "status.read",
    ]


def test_an_envelope_without_its_object_is_read() -> None:
    value = body(entry(change(messages=[message()])))
    del value["object"]
    assert kinds_of(value) == ["message.text"]


def test_names_without_values_are_one_event_each() -> None:
    excluded = {
        "id": "200",
        "time": 1795478500,
        "changed_fields": ["messages", "flows"],
    }
    events = events_of(body(excluded))
    assert [(event.kind, event.item) for event in events] == [
        ("raw.values_excluded", "messages"),
        ("raw.values_excluded", "flows"),
    ]
    assert events[0].key != events[1].key
    assert events[0].scope == "200"


def test_wrappings_are_taken_off_at_the_door_of_the_secret_only() -> None:
    plain = body(entry(change(messages=[message()])))
    wrapped = {"headers": {}, "body": plain}
    for value in (
        [plain],
        [wrapped],
        [plain, wrapped],
        [[wrapped]],
        [{"body": [plain]}],
    ):
        assert set(kinds_of(value, Door.SECRET)) == {"message.text"}
        assert kinds_of(value, Door.META) == ["raw.unrecognised"]
    assert kinds_of([plain, wrapped, 5], Door.SECRET) == [
        "message.text",
        "message.text",
        "raw.unrecognised",
    ]


def test_what_is_no_envelope_is_kept_at_the_door_of_the_secret() -> None:
    values: list[Any] = [{"body": "Hola"}, {"telefono": "1"}, [], None]
    for value in values:
        assert kinds_of(value, Door.SECRET) == ["raw.unrecognised"]


# --- names of kinds ---------------------------------------------------------------------

FINER_TYPES = {"interactive", "system", "reaction"}
PLAIN_TYPES = sorted(MESSAGE_TYPES - FINER_TYPES)


def test_the_known_types_are_those_of_metas_pages() -> None:
    assert len(MESSAGE_TYPES) == 19
    assert MESSAGE_TYPES > FINER_TYPES


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        *(({"type": name}, name) for name in PLAIN_TYPES),
        ({"type": "audio", "audio": {"voice": True}}, "voice"),
        ({"type": "audio", "audio": {"voice": False}}, "audio"),
        ({"type": "reaction", "reaction": {"emoji": "👍"}}, "reaction"),
        ({"type": "reaction", "reaction": {"emoji": ""}}, "reaction_removed"),
        ({"type": "reaction", "reaction": {"message_id": "a"}}, "reaction_removed"),
        ({"type": "interactive"}, "interactive.other"),
        ({"type": "interactive", "interactive": None}, "interactive.other"),
        ({"type": "interactive", "interactive": {"type": []}}, "interactive.other"),
        ({"type": "interactive", "interactive": {"type": "x"}}, "interactive.other"),
        *(
            (
                {"type": "interactive", "interactive": {"type": sent}},
                f"interactive.{name}",
            )
            for sent, name in (
                ("button_reply", "button_reply"),
                ("list_reply", "list_reply"),
                ("nfm_reply", "flow_reply"),
                ("call_permission_reply", "call_permission"),
                ("product", "product"),
            )
        ),
        (
            {
                "type": "interactive",
                "interactive": {"type": "nfm_reply", "nfm_reply": {"name": "flow"}},
            },
            "interactive.flow_reply",
        ),
        (
            {
                "type": "interactive",
                "interactive": {
                    "type": "nfm_reply",
                    "nfm_reply": {"name": "address_message"},
                },
            },
            "interactive.address_reply",
        ),
        *(
            ({"type": "system", "system": {"type": sent}}, f"system.{name}")
            for sent, name in (
                ("user_changed_number", "number_changed"),
                ("customer_changed_number", "number_changed"),
                ("user_changed_user_id", "user_id_changed"),
                ("customer_identity_changed", "identity_changed"),
                ("user_became_business", "other"),
                (["user_changed_number"], "other"),
            )
        ),
        ({"type": "system", "system": {"new_wa_id": "1"}}, "system.number_changed"),
        ({"type": "system"}, "system.other"),
        ({"type": "holo"}, "unrecognised"),
        ({"type": "Text"}, "unrecognised"),
        ({"type": "__class__"}, "unrecognised"),
        ({"type": ""}, "unrecognised"),
        ({"type": None}, "unrecognised"),
        ({"type": 5}, "unrecognised"),
        ({"type": ["text"]}, "unrecognised"),
        ({"type": {"text": 1}}, "unrecognised"),
    ],
)
def test_a_message_is_named_by_its_type(members: dict[str, Any], kind: str) -> None:
    assert of_message(**members).kind == f"message.{kind}"


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        *(
            ({"status": word}, word)
            for word in ("sent", "delivered", "read", "played", "failed", "deleted")
        ),
        ({"status": "warning"}, "unrecognised"),
        ({"status": "SENT"}, "unrecognised"),
        ({"status": None}, "unrecognised"),
        ({"status": ["sent"]}, "unrecognised"),
        ({"status": "captured"}, "unrecognised"),
        ({"type": "payment", "status": "captured"}, "payment.captured"),
        ({"type": "payment", "status": "failed"}, "payment.failed"),
        ({"type": "payment", "status": "anything"}, "payment.anything"),
        ({"type": "payment", "status": None}, "unrecognised"),
        ({"type": ["payment"], "status": "failed"}, "failed"),
    ],
)
def test_a_status_is_named_by_its_word(members: dict[str, Any], kind: str) -> None:
    assert of_status(**members).kind == f"status.{kind}"


@pytest.mark.parametrize(
    ("field", "members", "kinds"),
    [
        ("messages", {"errors": [{"code": 1}, {"code": 2}]}, ["error", "error"]),
        ("messages", {"errors": [None]}, ["raw.unrecognised"]),
        (
            "messages",
            {"user_actions": [{"action_type": "landing_page_view"}, {}]},
            ["user_action.landing_page_view", "user_action.unrecognised"],
        ),
        (
            "calls",
            {
                "calls": [{"event": "connect"}, {"event": "terminate"}, {}],
                "statuses": [{"status": "RINGING", "type": "call"}],
                "errors": [{"code": 1}],
            },
            [
                "call.connect",
                "call.terminate",
                "call.unrecognised",
                "call.status.ringing",
                "error",
            ],
        ),
        (
            "history",
            {
                "history": [{"threads": []}, {"errors": [{"code": 2593109}]}],
                "messages": [message(), message(type="gif"), message(type="new")],
                "message_echoes": [message(type="image")],
            },
            [
                "history.chunk",
                "history.declined",
                "history.message.text",
                "history.message.gif",
                "history.message.unrecognised",
                "history.echo.image",
            ],
        ),
        (
            "standby",
            {
                "standby": {
                    "messages": [message()],
                    "statuses": [status()],
                    "message_echoes": [{"id": "a", "message": {}}],
                }
            },
            ["standby.message.text", "standby.status.read", "standby.echo"],
        ),
        ("message_echoes", {"message_echoes": [message()]}, ["echo.text"]),
        (
            "smb_message_echoes",
            {"message_echoes": [message(type="revoke"), message(type="new"), 5]},
            ["echo.revoke", "echo.unrecognised", "raw.unrecognised"],
        ),
        (
            "user_preferences",
            {"user_preferences": [{"value": "stop"}, {"value": "RESUME"}, {}]},
            ["user_preferences.stop", "user_preferences.resume", "user_preferences"],
        ),
        (
            "tracking_events",
            {"events": [{"event_name": "Click"}]},
            ["tracking_events.click"],
        ),
        (
            "automatic_events",
            {"automatic_events": [{"event_name": "LeadSubmitted"}]},
            ["automatic_events.leadsubmitted"],
        ),
        (
            "smb_app_state_sync",
            {"state_sync": [{"action": "add"}, {"action": "remove"}]},
            ["smb_app_state_sync.add", "smb_app_state_sync.remove"],
        ),
        (
            "group_participant_update",
            {"groups": [{"type": "group_participants_add"}, {}]},
            [
                "group_participant_update.group_participants_add",
                "group_participant_update",
            ],
        ),
        ("group_new_update", {"groups": [{"type": "X"}]}, ["group_new_update.x"]),
        (
            "messaging_handovers",
            {"type": "control_taken", "event": "no"},
            ["messaging_handovers.control_taken"],
        ),
        (
            "message_template_status_update",
            {"event": "PENDING_DELETION"},
            ["message_template_status_update.pending_deletion"],
        ),
        (
            "message_template_status_update",
            {"new_quality_score": "RED"},
            ["message_template_quality_update"],
        ),
        (
            "message_template_status_update",
            {"new_quality_score": "RED", "event": "FLAGGED"},
            ["message_template_status_update.flagged"],
        ),
        ("message_template_status_update", {}, ["message_template_status_update"]),
        (
            "account_update",
            {"event": "PARTNER_REMOVED"},
            ["account_update.partner_removed"],
        ),
        ("account_update", {"event": ["X"]}, ["account_update"]),
        ("account_update", {"event": ""}, ["account_update"]),
        ("Invented_Field", {"event": "Some Thing"}, ["invented_field.some thing"]),
        ("user_id_update", {"user_id_update": [{}, {}]}, ["user_id_update"]),
    ],
)
def test_a_field_gives_its_events(
    field: str, members: dict[str, Any], kinds: list[str]
) -> None:
    assert in_field(field, **members) == kinds


# --- keys -------------------------------------------------------------------------------


def test_messages_are_told_apart_by_their_ids_and_by_case() -> None:
    assert of_message(id="wamid.a").key != of_message(id="wamid.A").key
    assert of_message(id="x" * 600).key == "x" * 600
    assert of_message(id=7).id == of_message(id=7).key == "7"
    assert of_message(id=7.0).id == "7"
    assert of_message(id=7.5).id is None
    assert of_message(text={"body": "other"}).key == of_message().key


@pytest.mark.parametrize("wamid", ["", None, [], {}, False])
def test_a_message_without_an_id_is_told_apart_by_its_digest(wamid: Any) -> None:
    one, other = of_message(id=wamid), of_message(id=wamid, text={"body": "b"})
    assert one.id is None
    assert one.key.startswith("sha256:")
    assert one.key != other.key
    assert one.key == of_message(id=wamid).key


def test_a_digest_is_the_same_however_the_item_was_written() -> None:
    envelope = body(entry(change(messages=[message(id="", big=2**70, odd="\ud83d")])))
    shapes = (
        json.dumps(envelope),
        json.dumps(envelope, indent=3),
        json.dumps(envelope, sort_keys=True),
    )
    assert len({read(shape.encode(), Door.META)[0].key for shape in shapes}) == 1
    clean = json.dumps(body(entry(change("account_update", event="É")))).encode()
    again = orjson.dumps(orjson.loads(clean), option=orjson.OPT_INDENT_2)
    assert read(clean, Door.META)[0].key == read(again, Door.META)[0].key


def test_each_member_of_a_statuses_identity_makes_another_key() -> None:
    keys = [
        of_status(**members).key
        for members in (
            {},
            {"id": "wamid.s"},
            {"status": "delivered"},
            {"type": "payment"},
            {"timestamp": "1795478501"},
            {"recipient_participant_id": "1"},
            {"recipient_participant_id": "2"},
            {"id": None},
            {"id": None, "recipient_id": "2"},
        )
    ]
    elsewhere = change(statuses=[status()], metadata={"phone_number_id": "101"})
    keys.append(events_of(body(entry(elsewhere)))[0].key)
    assert len(set(keys)) == len(keys)


def test_a_status_is_the_same_in_both_spellings_and_whatever_comes_with_it() -> None:
    one = of_status(recipient_participant_id="1")
    assert one.key == of_status(participant_recipient_id="1").key
    assert of_status().key == of_status(pricing={"billable": True}).key
    assert of_status().key == of_status(timestamp=1795478500).key


def test_a_status_with_a_broken_emoji_in_its_id_has_a_key_of_its_own() -> None:
    keys = [
        of_status(id=wamid).key for wamid in ("\ud83d", "\ude00", "\\ud83d", "\ufffd")
    ]
    assert len(set(keys)) == 4


def test_statuses_whose_members_hold_separators_do_not_meet() -> None:
    left = of_status(id='a","b', status="c")
    right = of_status(id="a", status='b","c')
    assert left.key != right.key


def test_a_call_is_told_apart_by_id_event_and_time() -> None:
    def key(list_name: str = "calls", **members: Any) -> str:
        item = {"id": "wacid.A", "timestamp": "1795478500", **members}
        (event,) = events_of(body(entry(change("calls", **{list_name: [item]}))))
        return event.key

    assert key(event="connect") == key(event="connect", session={"sdp": "x"})
    keys = [
        key(event="connect"),
        key(event="terminate"),
        key(event="connect", id="wacid.a"),
        key(event="connect", timestamp="1795478501"),
        key(event="connect", id=None),
        key(event="connect", id=None, to="1"),
        key("statuses", status="connect"),
    ]
    assert len(set(keys)) == len(keys)


def test_other_events_are_told_apart_by_item_account_time_and_kind() -> None:
    def key(**members: Any) -> str:
        (event,) = events_of(
            body(entry(change("account_update", event="X"), **members))
        )
        return event.key

    assert key() == key()
    assert len({key(), key(id="201"), key(time=1), key(time=2)}) == 4
    assert in_field("errors", event="a") != in_field("error", event="a")


# --- members ----------------------------------------------------------------------------


def test_an_event_knows_where_it_came_from() -> None:
    event = of_message(group_id="G1")
    assert (event.scope, event.phone_number_id, event.group_id) == ("200", "100", "G1")
    assert event.item == message(group_id="G1")


def test_numbers_are_ids_too() -> None:
    value = change(messages=[message(**{"from": 5491100000001})])
    value["value"]["metadata"]["phone_number_id"] = 100
    (event,) = events_of(body(entry(value, id=200)))
    assert (event.scope, event.phone_number_id) == ("200", "100")
    assert (event.sender, event.person.wa_id) == ("5491100000001", "5491100000001")


@pytest.mark.parametrize("member", ["recipient", "phone_number_settings"])
def test_the_phone_number_id_is_found_where_there_is_no_metadata(member: str) -> None:
    value = {"field": "any_field", "value": {member: {"phone_number_id": "7"}}}
    assert events_of(body(entry(value)))[0].phone_number_id == "7"


def test_a_body_without_metadata_has_no_phone_number_id() -> None:
    odd_ones: list[Any] = [None, [], "x", {}, {"phone_number_id": []}]
    for metadata in odd_ones:
        value = change(messages=[message()], metadata=metadata)
        (event,) = events_of(body(entry(value)))
        assert (event.kind, event.phone_number_id) == ("message.text", None)


@pytest.mark.parametrize(
    ("sent", "iso"),
    [
        ("1795478500", "2026-11-24T00:01:40+00:00"),
        (1795478500, "2026-11-24T00:01:40+00:00"),
        (1795478500.0, "2026-11-24T00:01:40+00:00"),
        ("1795478500000", "2026-11-24T00:01:40+00:00"),
        (1795478500000, "2026-11-24T00:01:40+00:00"),
        ("١٧٩٥٤٧٨٥٠٠", "2026-11-24T00:01:40+00:00"),
        (" 1795478500 ", "2026-11-24T00:01:40+00:00"),
        ("1795478500.5", "2026-11-24T00:01:40.500000+00:00"),
        ("0", "1970-01-01T00:00:00+00:00"),
        ("1504902988", "2017-09-08T20:36:28+00:00"),
        ("-1", None),
        (-1, None),
        ("", None),
        ("yesterday", None),
        ("1e9", None),
        ("1_000", None),
        ("²", None),
        ("nan", None),
        ("9" * 18, None),
        ("9" * 5000, None),
        (10**300, None),
        (1e300, None),
        (True, None),
        (None, None),
        ([1795478500], None),
        ({}, None),
    ],
)
def test_a_time_is_read_or_there_is_none(sent: Any, iso: str | None) -> None:
    at = of_message(timestamp=sent).timestamp
    assert (at and at.isoformat()) == iso


def test_the_time_of_the_entry_is_that_of_its_notices_and_of_no_message() -> None:
    time = 1795478500
    fields = entry(change("account_update"), change("flows", timestamp=1), time=time)
    at = [
        event.timestamp and event.timestamp.timestamp()
        for event in events_of(body(fields))
    ]
    assert at == [time, 1]
    (event,) = events_of(
        body(entry(change(messages=[message(timestamp=None)]), time=time))
    )
    assert event.timestamp is None


def test_a_status_says_whose_and_what() -> None:
    event = of_status(
        status="failed",
        recipient_user_id="AR.1",
        errors=[{"code": "131049", "title": "Healthy ecosystem"}, {"title": "Second"}],
    )
    told = event.status
    assert told is not None
    assert (told.message_id, told.type, told.status) == ("wamid.S", "message", "failed")
    assert (told.error, told.participant) == ("Healthy ecosystem", None)
    assert (event.person.wa_id, event.person.bsuid) == ("5491100000001", "AR.1")
    assert event.sender is None


def test_a_status_of_a_group_says_which_participant() -> None:
    event = of_status(
        recipient_id="Y2hlZXJz",
        recipient_type="group",
        participant_recipient_id="5491100000002",
    )
    assert event.status is not None
    assert event.status.participant == "5491100000002"
    assert (event.group_id, event.person.wa_id) == ("Y2hlZXJz", "5491100000002")


def test_an_echo_to_a_group_is_of_the_group() -> None:
    sent = message(to="Y2hlZXJz", recipient_type="group")
    (event,) = events_of(body(entry(change("message_echoes", message_echoes=[sent]))))
    assert (event.group_id, event.person.wa_id) == ("Y2hlZXJz", None)


def test_only_statuses_have_a_status_and_only_content_has_content() -> None:
    assert of_status().content is None
    assert of_message().status is None
    for name in ("reaction", "edit", "revoke"):
        assert of_message(type=name).content is None
    assert events_of(body(entry(change("flows"))))[0].content is None
