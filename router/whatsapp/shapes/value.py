"""A value of Meta's at the root of a body (F2, F10): read as it is, where it is Meta's."""

from typing import Any

from router.model import Event
from router.whatsapp.members import Object, text_of
from router.whatsapp.shapes import aliases
from router.whatsapp.shapes.change import Original, put
from router.whatsapp.shapes.items import read_item

# The lists of a value at the root, and the field that they are in.
_LISTS = {
    "messages": "messages",
    "statuses": "messages",
    "message_echoes": "message_echoes",
    "user_actions": "messages",
    "errors": "messages",
    "calls": "calls",
    "history": "history",
    "user_preferences": "user_preferences",
    "state_sync": "smb_app_state_sync",
}
STRONG = ("messages", "statuses", "message_echoes")  # they count beside a phone too


def listed_in(value: Object) -> str | None:
    """Return the name of the first list of Meta's that *value* has."""
    return next((name for name in _LISTS if isinstance(value.get(name), list)), None)


def field_of(holder: Object, value: Object) -> str:
    """Return the field that *holder* says; else the one that the lists of *value* are in."""
    field = holder.get("field")
    if isinstance(field, str) and field:
        return field
    return _LISTS.get(listed_in(value) or "", "messages")


def read_value(value: Object, field: str, body: Any, events: list[Event]) -> None:
    """Append what *value* reports as a change of *field*; it was received as *body*."""
    items = value.get("messages")
    if field.lower() != "messages" or not isinstance(items, list):
        put(field, value, (Original(value, body),), events)
    elif aliases.is_own(value) or any(map(_is_foreign, items)):
        _read_mixture(value, items, events)
    else:
        made = [Original(_refined(item), item) for item in items]
        refined = {**value, "messages": [original.made for original in made]}
        put(field, refined, (*made, Original(refined, body)), events)


def _read_mixture(value: Object, items: list[Any], events: list[Event]) -> None:
    own = {"fromMe": True} if aliases.is_own(value) else {}
    for item in items:
        if _is_foreign(item) or (own and isinstance(item, dict)):
            read_item({**_beside(value), **item, **own}, item, events)
        else:
            read_value({**_beside(value), "messages": [item]}, "messages", item, events)
    rest = {name: member for name, member in value.items() if name != "messages"}
    if listed_in(rest) is not None:
        put("messages", rest, (), events)


def _beside(value: Object) -> dict[str, Any]:
    return {name: value[name] for name in ("metadata", "contacts") if name in value}


def _is_foreign(item: Any) -> bool:
    """Return whether a member of `messages` is in a form that is not Meta's."""
    if not isinstance(item, dict):
        return False
    if isinstance(item.get("key"), dict) or aliases.is_own(item):
        return True
    if "@" in (text_of(item.get("from")) or "") or isinstance(
        item.get("telefono"), str
    ):
        return True
    untyped = not isinstance(item.get("type"), str)
    return untyped and any(isinstance(item.get(name), str) for name in aliases.TEXT)


def _refined(item: Any) -> Any:
    """Return a message of Meta's in which what n8n flattened is as Meta sends it."""
    if not isinstance(item, dict):
        return item
    mended: dict[str, Any] = {}
    text, at = item.get("text"), item.get("timestamp")
    if isinstance(text, str) and item.get("type") == "text":
        mended["text"] = {"body": text}
    if isinstance(at, str) and (time := aliases.as_time(at)) is not None and time != at:
        mended["timestamp"] = time
    return {**item, **mended} if mended else item
