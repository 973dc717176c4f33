"""From a parsed body to its changes: entries, changes, and what is around them."""

from typing import Any

from router.model import Event
from router.whatsapp.fields import read_change
from router.whatsapp.members import text_of
from router.whatsapp.place import UNRECOGNISED, Place

WABA = "whatsapp_business_account"
EXCLUDED = "raw.values_excluded"


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
            read_one_change(change, scope, time, events)
    else:
        events.append(Place("", {}, scope, time).raw(entry))


def _excluded(place: Place, name: Any) -> Event:
    return place.raw(name, EXCLUDED if isinstance(name, str) else UNRECOGNISED)


def read_one_change(change: Any, scope: str, time: Any, events: list[Event]) -> None:
    """Append what a change of the entry *scope* reports: at least one event."""
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
