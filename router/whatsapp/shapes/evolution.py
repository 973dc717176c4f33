"""Evolution's bodies: an `event`, whose `data` is a message, several, or something else.

| event | becomes |
|---|---|
| `messages.upsert`, and an unknown one that brings messages | `message.*`, `echo.*` |
| `messages.update` with a status (SERVER_ACK, 3, …) | `status.*` |
| `messages.edited`, `messages.delete` | `message.edit`, `message.revoke` (of an echo: `echo.*`) |
| any other (`connection.update`, `send.message`, `presence.update` …) | `evolution.<event>` |
"""

from collections.abc import Iterator
from typing import Any

from router.whatsapp.members import Object, first_text, object_of, text_of
from router.whatsapp.shapes import aliases
from router.whatsapp.shapes.addresses import is_addressed, who_of

UPSERT = "messages.upsert"
_CHANGES = {"messages.edited": "MESSAGE_EDIT", "messages.delete": "REVOKE"}
# They bring messages that are no news: what another program sent by Evolution (the CRM
# stores it itself), and what was there before.
_NO_NEWS = frozenset(
    {"send.message", "send.message.update", "messages.set", "messages.update"}
)
# As Evolution names them, and by Baileys' numbers. PENDING (1) is no status of Meta's.
_STATUSES = {
    "ERROR": "failed",
    "SERVER_ACK": "sent",
    "DELIVERY_ACK": "delivered",
    "READ": "read",
    "PLAYED": "played",
    "DELETED": "deleted",
    "0": "failed",
    "2": "sent",
    "3": "delivered",
    "4": "read",
    "5": "played",
}
# What stands beside `data` and belongs to a message that is alone in its body. Not
# `sender`: see `_lent`.
_LENT = frozenset(
    {
        *("telefono", "phone", "mensaje", "caption", "nombre", "referral", "utm_data"),
        *(*aliases.URLS, "mediaType", "media_type", *aliases.MIMES, *aliases.QUOTES),
        *(*aliases.FILENAMES, *aliases.OWN, *aliases.REACTED, "emoji", "tipo"),
        *("messageId", "message_id", "whatsapp_message_id", "timestamp", "ts"),
    }
)
# Evolution adds these to what it posts, and then `sender` is the number of the line.
_OF_EVOLUTION = ("server_url", "apikey", "destination", "date_time")


def event_of(body: Object) -> str:
    """Return the event's name as `messages.upsert`; '' where there is none."""
    name = body.get("event")
    return name.lower().replace("_", ".") if isinstance(name, str) else ""


def is_evolution(body: Object) -> bool:
    """Return whether *body* is Evolution's: its `data` looks like a message or like news."""
    data = body.get("data")
    if any(map(_is_message, _listed(data))):
        return True
    named = bool(event_of(body)) and ("data" in body or "instance" in body)
    return named and not is_addressed(body)


def messages_in(body: Object) -> Iterator[tuple[Any, Any]]:
    """Yield (one message with all that belongs to it, the item as received)."""
    name, data = event_of(body), body.get("data")
    items = _listed(data)
    if name in _CHANGES:
        yield from _changes(name, body, items)
    elif name == UPSERT or (name not in _NO_NEWS and any(map(_is_message, items))):
        for item in items:
            if item is data:
                yield _with(item, _lent(body)), body
            else:
                yield item, item


def statuses_in(body: Object) -> Iterator[tuple[Object, Any]]:
    """Yield (a status in Meta's members, the item as received) of `messages.update`.

    The members are empty where an update is not of the status, or the status not Meta's.
    """
    data = body.get("data")
    if event_of(body) == "messages.update":
        for item in _listed(data):
            yield _status(object_of(item)), body if item is data else item


def _status(item: Object) -> dict[str, Any]:
    word = first_text(item, ("status",)) or text_of(
        object_of(item.get("update")).get("status")
    )
    status = _STATUSES.get(word or "")
    key = object_of(item.get("key"))
    # messageId is the row of Evolution's own database.
    message_id = first_text(item, ("keyId",)) or first_text(key, ("id",))
    message_id = message_id or first_text(item, ("id",))
    if not status or not message_id:
        return {}
    who = who_of(item, echo=True)
    told = {
        "id": message_id,
        "status": status,
        "timestamp": aliases.time_in(item),
        "recipient_id": who.group or who.phone,
        "recipient_user_id": who.user_id,
        "recipient_type": "group" if who.group else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _changes(name: str, body: Object, items: list[Any]) -> Iterator[tuple[Any, Any]]:
    for item in items:
        original = body if item is body.get("data") else item
        if not isinstance(item, dict):
            yield item, original
            continue
        key = object_of(item.get("key")) or item
        told = {**item, "key": key, "type": _CHANGES[name]}
        # The id is that of the message which changed: this event has none of its own.
        own = {n: v for n, v in key.items() if n != "id"}
        at = item.get("timestampMs")
        message = {"key": own, "timestamp": at, "message": {"protocolMessage": told}}
        yield message, original


def _with(item: Any, lent: Object) -> Object:
    # null is nothing that a member could hide behind.
    return {**lent, **{n: v for n, v in item.items() if v is not None or n not in lent}}


def _lent(body: Object) -> dict[str, Any]:
    lent = {n: v for n, v in body.items() if n in _LENT or n.startswith("utm_")}
    # Of raw bodies `sender` is the line itself; of those that n8n made, the person.
    if not any(name in body for name in _OF_EVOLUTION):
        lent["sender"] = body.get("sender")
    return lent


def _listed(data: Any) -> list[Any]:
    if isinstance(data, dict):
        inner = data.get("messages")
        return inner if isinstance(inner, list) else [data]
    return data if isinstance(data, list) else []


def _is_message(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    if isinstance(item.get("key"), dict):
        return True
    said = isinstance(item.get("message"), dict) or aliases.words_in(item)
    return bool(said) and is_addressed(item)
