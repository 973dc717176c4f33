"""Where an item stands: what it shares with the others of its change."""

from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from typing import Any

from router.model import Content, Event, Person, Status
from router.whatsapp.contacts import Contacts
from router.whatsapp.keys import digest_of
from router.whatsapp.members import Object, object_of, text_of, time_of

UNRECOGNISED = "raw.unrecognised"
NOBODY = Person()


class Place:
    """One change of one entry: its members, read once for all of its items."""

    __slots__ = (
        "alone",
        "book",
        "contacts",
        "field",
        "items",
        "phone_number_id",
        "scope",
        "time",
        "value",
    )

    def __init__(self, field: str, value: Object, scope: str, time: Any) -> None:
        """Stand in *value* of *field*, of the entry with id *scope* and *time*."""
        self.field, self.value, self.scope = field, value, scope
        self.time = time if isinstance(time, str | int | float) else None
        self.phone_number_id = _phone_number_id(value)
        self.contacts: Any = value.get("contacts")
        self.book: Contacts | None = None  # of the contacts, once somebody asks
        self.start(())

    def start(self, items: Sequence[Any]) -> None:
        """Begin to read the list *items*."""
        self.items = items
        self.alone: dict[
            Hashable, bool
        ] = {}  # does one person own all items, by naming

    def event(  # noqa: PLR0913 -- what an item may know
        self,
        kind: str,
        item: Object,
        *,
        key: str | None = None,
        at: datetime | None = None,
        group_id: str | None = None,
        person: Person = NOBODY,
        content: Content | None = None,
        status: Status | None = None,
    ) -> Event:
        """Make an event; without *key*, its whole item and its place tell it apart."""
        return Event(
            kind=kind,
            key=self.digest(kind, item) if key is None else key,
            item=item,
            id=text_of(item.get("id")),
            sender=text_of(item.get("from")),
            timestamp=time_of(item.get("timestamp")) if at is None else at,
            scope=self.scope,
            phone_number_id=self.phone_number_id,
            group_id=group_id,
            person=person,
            content=content,
            status=status,
        )

    def notice(self, kind: str, item: Object, person: Person = NOBODY) -> Event:
        """Make an event whose time is its entry's, where it has none itself."""
        when = item.get("timestamp", object_of(item.get("metadata")).get("timestamp"))
        at = time_of(self.time if when is None else when)
        group = text_of(item.get("group_id"))
        return self.event(kind, item, at=at, group_id=group, person=person)

    def raw(self, item: Any, kind: str = UNRECOGNISED) -> Event:
        """Keep *item*, of which nothing more is known; it may be of any type."""
        return Event(
            kind=kind,
            key=self.digest(kind, item),
            item=item,
            timestamp=time_of(self.time),
            scope=self.scope,
            phone_number_id=self.phone_number_id,
        )

    def digest(self, kind: str, item: Any) -> str:
        """Return a key of *kind* that the same item at the same place shares."""
        return digest_of([kind, self.scope, self.time, self.phone_number_id, item])


Make = Callable[[Place, Object], Event]


def each(
    place: Place, holder: Object, member: str, make: Make, events: list[Event]
) -> None:
    """Append one event for each item of the list *member* of *holder*."""
    items = holder.get(member)
    if items is None:
        return
    if not isinstance(items, list):
        events.append(place.raw({member: items}))
        return
    place.start(items)
    for item in items:
        events.append(_one(place, item, make))  # noqa: PERF401 -- kept if a later one fails


def _one(place: Place, item: Any, make: Make) -> Event:
    if not isinstance(item, dict):
        return place.raw(item)
    try:
        return make(place, item)
    except Exception:  # noqa: BLE001 -- one bad item spoils no other, whatever is bad
        return place.raw(item)


def _phone_number_id(value: Object) -> str | None:
    # messaging_handovers and account_settings_update have no metadata.
    for member in ("metadata", "recipient", "phone_number_settings"):
        if found := text_of(object_of(value.get(member)).get("phone_number_id")):
            return found
    return text_of(value.get("phone_number_id"))
