"""Items of any form in a change of Meta's, and the events of it with what was received."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from router.model import Event
from router.whatsapp.envelope import read_one_change
from router.whatsapp.keys import digest_of
from router.whatsapp.kinds import suffixed
from router.whatsapp.members import Object
from router.whatsapp.place import UNRECOGNISED, Place

FIELD = "evolution"  # of notices that no field of Meta's has


class Original(NamedTuple):
    """What was received, for one thing that was made of it."""

    made: Any  # held, so that no other object gets its id()
    item: Any
    sender: str | None = None


def put(
    field: str, value: Object, made: Sequence[Original], events: list[Event]
) -> None:
    """Read *value* as a change of *field*; give each event the item as received."""
    start = len(events)
    change = {"field": field, "value": value}
    read_one_change(change, "", None, events)
    originals = {id(original.made): original for original in made}
    if whole := originals.get(id(value)):
        originals[id(change)] = whole._replace(made=change)
    events[start:] = _restored(events[start:], originals)


def _restored(events: list[Event], originals: dict[int, Original]) -> Iterator[Event]:
    for event in events:
        original = originals.get(id(event.item))
        if original is None or original.item is event.item:
            yield event
            continue
        item, key = original.item, event.key
        if event.id is None and event.status is None:
            key = digest_of(item)
        sender = original.sender or event.sender
        yield replace(event, item=item, key=key, sender=sender)


def keep(item: Any, events: list[Event], name: str | None = None) -> None:
    """Append *item* as a notice of that *name*; without one nobody knows what it is."""
    kind = UNRECOGNISED if name is None else suffixed(FIELD, name)
    events.append(Place("", {}, "", None).raw(item, kind))
