"""Items that are not in Meta's form, one by one: each becomes a change of its own."""

from typing import Any

from router.model import Event
from router.whatsapp.members import Object, object_of
from router.whatsapp.shapes import baileys, evolution
from router.whatsapp.shapes.change import Original, keep, put
from router.whatsapp.shapes.message import Message, message_of

_CIPHERTEXT = (2, "2", "CIPHERTEXT")


def read_evolution(body: Object, events: list[Event]) -> None:
    """Append what a body of Evolution's reports: at least one event."""
    start, name = len(events), evolution.event_of(body)
    for item, original in evolution.messages_in(body):
        read_item(item, original, events)
    for status, original in evolution.statuses_in(body):
        if status:
            made = Original(status, original)
            put("messages", {"statuses": [status]}, (made,), events)
        else:
            keep(original, events, name)
    if len(events) == start and name in {"", evolution.UPSERT}:
        keep(body, events)
    elif len(events) == start:
        keep(body, events, name)


def read_item(item: Any, original: Any, events: list[Event]) -> None:
    """Append the one event of *item*; what was received of it is *original*."""
    start = len(events)
    try:
        _read_one(object_of(item), original, events)
    except Exception:  # noqa: BLE001 -- one bad item spoils no other, whatever is bad
        del events[start:]
    if len(events) == start:
        keep(original, events)


def _read_one(item: Object, original: Any, events: list[Event]) -> None:
    message = message_of(item)
    if message is None:
        return
    inside = object_of(item.get("message"))
    stub = item.get("messageStubType")
    if message.who.broadcast:
        keep(original, events, "broadcast")
    elif baileys.is_housekeeping(inside) and baileys.content_of(inside) is None:
        keep(original, events, "protocol")
    elif stub is not None and stub not in _CIPHERTEXT and not inside:
        keep(original, events, "stub")
    else:
        _read_message(message, item, original, events)


def _read_message(
    message: Message, item: Object, original: Any, events: list[Event]
) -> None:
    field, member = ("messages", "messages")
    if message.echo:
        field, member = ("message_echoes", "message_echoes")
    value = {
        "metadata": item.get("metadata"),
        "phone_number_id": item.get("phone_number_id"),
        "contacts": _contacts(message, item),
        member: [message.item],
    }
    said = None if message.echo else message.who.said
    put(field, value, (Original(message.item, original, said),), events)


def _contacts(message: Message, item: Object) -> Any:
    if message.name is not None:
        return [{"profile": {"name": message.name}}]
    listed = item.get("contacts")
    return listed if item.get("type") != "contacts" else None
