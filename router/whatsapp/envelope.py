"""From a parsed body to its changes: entries, changes, and what is around them."""

from collections.abc import Iterator
from typing import Any

from router.model import Door, Event
from router.whatsapp.fields import read_change
from router.whatsapp.members import text_of
from router.whatsapp.place import UNRECOGNISED, Place

WABA = "whatsapp_business_account"
EXCLUDED = "raw.values_excluded"
_WRAPPINGS = 4  # arrays and {"body":…} around an envelope: n8n makes two


def envelopes_of(value: Any, door: Door) -> Iterator[Any]:
    """Yield what *value* wraps, at the door where wrapping is allowed.

    The other shapes that n8n and the CRM post would be turned into envelopes here.
    """
    return _unwrapped(value, _WRAPPINGS) if door is Door.SECRET else iter((value,))


def _unwrapped(value: Any, left: int) -> Iterator[Any]:
    if left and isinstance(value, list) and value:
        for member in value:
            yield from _unwrapped(member, left - 1)
    elif left and _is_wrapper(value):
        yield from _unwrapped(value["body"], left - 1)
    else:
        yield value


def _is_wrapper(value: Any) -> bool:
    # n8n's webhook node hands on {"headers": …, "body": …}; a body that is text is no
    # envelope but perhaps somebody's words.
    return (
        isinstance(value, dict)
        and "entry" not in value
        and isinstance(value.get("body"), dict | list)
    )


def read_envelope(value: Any, events: list[Event]) -> None:
    """Append what one envelope reports; `raw.unrecognised` if it is none."""
    entries = value.get("entry") if isinstance(value, dict) else None
    if not isinstance(entries, list) or (value.get("object") or WABA) != WABA:
        events.append(_nowhere().raw(value))
        return
    for entry in entries:
        _read_entry(entry, events)


def _read_entry(entry: Any, events: list[Event]) -> None:
    if not isinstance(entry, dict):
        events.append(_nowhere().raw(entry))
        return
    scope, time = text_of(entry.get("id")) or "", entry.get("time")
    changes, names = entry.get("changes"), entry.get("changed_fields")
    if isinstance(names, list) and not changes:
        # "Include values" is off in the App Dashboard: what happened cannot be had.
        place = Place("", {}, scope, time)
        events.extend(_excluded(place, name) for name in names)
    elif isinstance(changes, list):
        for change in changes:
            _read_change(change, scope, time, events)
    else:
        events.append(Place("", {}, scope, time).raw(entry))


def _excluded(place: Place, name: Any) -> Event:
    return place.raw(name, EXCLUDED if isinstance(name, str) else UNRECOGNISED)


def _read_change(change: Any, scope: str, time: Any, events: list[Event]) -> None:
    expected = len(events) + 1
    field = change.get("field") if isinstance(change, dict) else None
    value = change.get("value") if isinstance(change, dict) else None
    if isinstance(field, str) and field and isinstance(value, dict):
        place = Place(field.lower(), value, scope, time)
        try:
            read_change(place, events)
        except Exception:  # noqa: BLE001 -- one bad change spoils no other
            expected = len(events) + 1
    else:
        place = Place("", {}, scope, time)
    if len(events) < expected:
        events.append(place.raw(change))


def _nowhere() -> Place:
    return Place("", {}, "", None)
