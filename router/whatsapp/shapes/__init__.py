"""Every body shape that n8n and the CRM post, read by the readers of Meta's.

Arrays and n8n's `{"body": …}` are taken off first, and each thing in them is read by
itself. A shape is decided by its members, in this order:

| shape | decided by |
|---|---|
| F1 envelope | `entry` is a list |
| one entry of it | `changes` is a list |
| one change of it, F10 | `value` is an object, and there is `field` or one of the lists below in it |
| F7, F9 Evolution | `data` is a message or several: each has a `key`, or a phone and a text or `message` |
| Evolution's other events | `event` is a text, and there is `data` or `instance`, and no phone |
| F2, F10 value at root | one of its lists (`messages`, `statuses`, `message_echoes` …; beside a phone these three, not empty) |
| one status | `status` is one of Meta's words, with `id`, and without a phone or a text |
| F3, F4, F5, F6, F8, F7 without its `data` | a phone or another id of a person (any alias), or `key` and `message`: see `message` |
| a value of another field | `field` is a text |
| nothing of these | `raw.unrecognised` |

F3 is no shape of its own: a text that is a string is one in every shape, so a message of
Meta's at the root keeps both its text and its file.

A message of the business itself (`fromMe`) is `echo.<type>`. What comes by status@broadcast,
a list or a channel is `evolution.broadcast`, what phones tell each other
`evolution.protocol`, what happened in a group `evolution.stub`: kept, and no message.

Each item is put into a change of Meta's form and read like one of Meta's. What the event
keeps as its item is the item as received: the body, where it is one thing; else the member
of its list. Without an id it is told apart by the digest of that.
"""

from collections.abc import Iterator
from typing import Any

from router.model import Event
from router.whatsapp.envelope import read_envelope
from router.whatsapp.kinds import STATUSES, type_of
from router.whatsapp.members import Object, object_of, text_of
from router.whatsapp.shapes import aliases, evolution
from router.whatsapp.shapes.addresses import is_addressed
from router.whatsapp.shapes.change import keep, put
from router.whatsapp.shapes.items import read_evolution, read_item
from router.whatsapp.shapes.message import message_of
from router.whatsapp.shapes.value import STRONG, field_of, listed_in, read_value

_WRAPPINGS = 4  # arrays and {"body":…} around a shape: n8n makes two


def read_shapes(value: Any, events: list[Event]) -> None:
    """Append what a body reports, whatever shapes are in it: at least one event of each.

    Only Meta's own envelope may report nothing: where `entry` or `changes` is empty.
    """
    for shape in _unwrapped(value, _WRAPPINGS):
        _read_shape(shape, events)


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
    # envelope but perhaps somebody's words, and so is one beside a phone.
    return (
        isinstance(value, dict)
        and "entry" not in value
        and isinstance(value.get("body"), dict | list)
        and not is_addressed(value)
    )


def _read_shape(value: Any, events: list[Event]) -> None:
    start = len(events)
    try:
        _read(value, events)
    except Exception:  # noqa: BLE001 -- whatever is bad in a body, it is kept
        del events[start:]
        keep(value, events)


def meta_form(item: Any) -> Object:
    """Return the item of an event in the members of Meta's: itself, if it is one of Meta's.

    For who needs more of it than the event says: the message that a reaction, an edit
    or a revocation is of.
    """
    found = object_of(item)
    if isinstance(found.get(type_of(found)), dict | list):
        return found
    if evolution.is_evolution(found):
        found = next((inner for inner, _ in evolution.messages_in(found)), found)
    message = message_of(found)
    return message.item if message else found


def _read(value: Any, events: list[Event]) -> None:
    body = object_of(value)
    if isinstance(body.get("entry"), list):
        read_envelope(value, events)
    elif isinstance(body.get("changes"), list):
        read_envelope({"entry": [value]}, events)
    elif _is_change(body):
        inner = body["value"]
        read_value(inner, field_of(body, inner), value, events)
    elif evolution.is_evolution(body):
        read_evolution(body, events)
    elif _is_value(body):
        read_value(body, field_of(body, body), value, events)
    elif _is_status(body):
        put("messages", {**body, "statuses": [body]}, (), events)
    elif is_addressed(body) or _is_of_baileys(body):
        read_item(body, value, events)
    elif text_of(body.get("field")):
        read_value(body, field_of(body, body), value, events)
    else:
        keep(value, events)


def _is_change(body: Object) -> bool:
    inner = body.get("value")
    if not isinstance(inner, dict):
        return False
    return text_of(body.get("field")) is not None or listed_in(inner) is not None


def _is_value(body: Object) -> bool:
    # A message of Meta's alone may have `errors`, and n8n adds lists of its own.
    if is_addressed(body):
        return any(body[name] for name in STRONG if isinstance(body.get(name), list))
    return listed_in(body) is not None


def _is_of_baileys(body: Object) -> bool:
    return all(isinstance(body.get(name), dict) for name in ("key", "message"))


def _is_status(body: Object) -> bool:
    named = text_of(body.get("id")) and text_of(body.get("status")) in STATUSES
    return bool(named) and not is_addressed(body) and not aliases.words_in(body)
