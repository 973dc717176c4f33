"""Which items a change has, by its field: looked at before anything inside the value.

`history` and `standby` bring `messages` that are not new, `calls` brings `statuses` that are
not a message's.
"""

from collections.abc import Callable

from router.model import Event
from router.whatsapp import kinds, messages, statuses
from router.whatsapp.members import Object, object_of, word_of
from router.whatsapp.people import SUBJECT, person_of
from router.whatsapp.place import Make, Place, each
from router.whatsapp.storable import text

Read = Callable[[Place, list[Event]], None]


def read_change(place: Place, events: list[Event]) -> None:
    """Append what the change at *place* reports; nothing where nothing is known."""
    read = _FIELDS.get(place.field)
    if read is not None:
        read(place, events)
    elif place.field.startswith("group_"):
        each(place, place.value, "groups", _group, events)
    else:
        events.append(_whole(place, place.value.get("event")))


def _messages(place: Place, events: list[Event]) -> None:
    for member, make in _OF_MESSAGES:
        if member in place.value:  # one of them, nearly always
            each(place, place.value, member, make, events)


def _calls(place: Place, events: list[Event]) -> None:
    each(place, place.value, "calls", statuses.call, events)
    each(place, place.value, "statuses", statuses.call_status, events)
    each(place, place.value, "errors", _error, events)


def _echoes(place: Place, events: list[Event]) -> None:
    each(place, place.value, "message_echoes", messages.echo, events)


def _history(place: Place, events: list[Event]) -> None:
    each(place, place.value, "history", messages.chunk, events)
    each(place, place.value, "messages", messages.old_message, events)
    each(place, place.value, "message_echoes", messages.old_echo, events)


def _standby(place: Place, events: list[Event]) -> None:
    inner = object_of(place.value.get("standby"))
    place.contacts = inner.get("contacts", place.contacts)
    each(place, inner, "messages", messages.standby_message, events)
    each(place, inner, "statuses", statuses.standby_status, events)
    each(place, inner, "message_echoes", messages.standby_echo, events)


def _preferences(place: Place, events: list[Event]) -> None:
    each(place, place.value, "user_preferences", _preference, events)


def _tracking(place: Place, events: list[Event]) -> None:
    each(place, place.value, "events", _named, events)


def _automatic(place: Place, events: list[Event]) -> None:
    each(place, place.value, "automatic_events", _named, events)


def _address_book(place: Place, events: list[Event]) -> None:
    each(place, place.value, "state_sync", _entry_of_address_book, events)


def _handover(place: Place, events: list[Event]) -> None:
    events.append(_whole(place, place.value.get("type")))


def _template_status(place: Place, events: list[Event]) -> None:
    # Meta's own example sends the quality's value under the status's field.
    value = place.value
    scored = "new_quality_score" in value or "previous_quality_score" in value
    if scored and not word_of(value.get("event")):
        events.append(place.notice("message_template_quality_update", value))
    else:
        events.append(_whole(place, value.get("event")))


def _whole(place: Place, suffix: object) -> Event:
    return place.notice(kinds.suffixed(text(place.field), suffix), place.value)


def _error(place: Place, item: Object) -> Event:
    return place.notice("error", item)


def _user_action(place: Place, item: Object) -> Event:
    word = word_of(item.get("action_type")) or kinds.UNKNOWN
    return place.notice(kinds.suffixed("user_action", word), item)


def _group(place: Place, item: Object) -> Event:
    return place.notice(kinds.suffixed(text(place.field), item.get("type")), item)


def _preference(place: Place, item: Object) -> Event:
    kind = kinds.suffixed(place.field, item.get("value"))
    return place.notice(kind, item, person_of(item, SUBJECT, place))


def _named(place: Place, item: Object) -> Event:
    return place.notice(kinds.suffixed(place.field, item.get("event_name")), item)


def _entry_of_address_book(place: Place, item: Object) -> Event:
    kind = kinds.suffixed(place.field, item.get("action"))
    contact = object_of(item.get("contact"))
    return place.notice(kind, item, person_of(contact, SUBJECT, place))


_OF_MESSAGES: tuple[tuple[str, Make], ...] = (
    ("messages", messages.message),
    ("statuses", statuses.status),
    ("errors", _error),
    ("user_actions", _user_action),
)
_FIELDS: dict[str, Read] = {
    "messages": _messages,
    "calls": _calls,
    "history": _history,
    "standby": _standby,
    "message_echoes": _echoes,
    "smb_message_echoes": _echoes,
    "user_preferences": _preferences,
    "tracking_events": _tracking,
    "automatic_events": _automatic,
    "smb_app_state_sync": _address_book,
    "messaging_handovers": _handover,
    "message_template_status_update": _template_status,
}
