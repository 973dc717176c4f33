"""Who a message is from or to: its own members, joined with the contacts beside it."""

from typing import Any, NamedTuple

from router.model import Person
from router.whatsapp.contacts import Contacts, names_of, phone_of
from router.whatsapp.members import (
    Object,
    first_text,
    object_of,
    objects_of,
    text_of,
)
from router.whatsapp.place import NOBODY, Place


class Naming(NamedTuple):
    """The members by which an item names a person, in every spelling."""

    address: tuple[str, ...]
    user_id: tuple[str, ...]
    parent_user_id: tuple[str, ...]


SENDER = Naming(("from",), ("from_user_id",), ("from_parent_user_id",))
ADDRESSEE = Naming(("to",), ("to_user_id",), ("to_parent_user_id",))
RECIPIENT = Naming(
    ("recipient_id",),
    ("recipient_user_id",),
    ("recipient_parent_user_id", "parent_recipient_user_id", "parent_user_id"),
)
PARTICIPANT = Naming(
    ("recipient_participant_id", "participant_recipient_id"),
    ("recipient_participant_user_id", "participant_recipient_user_id"),
    ("recipient_participant_parent_user_id", "participant_recipient_parent_user_id"),
)
SUBJECT = Naming(("wa_id", "phone_number"), ("user_id",), ("parent_user_id",))


def person_of(item: Object, naming: Naming, place: Place) -> Person:
    """Return the person that *item* names, with what the contacts know of them."""
    wa_id, bsuid = names_of(first_text(item, naming.address))
    bsuid = first_text(item, naming.user_id) or bsuid
    parent = first_text(item, naming.parent_user_id)
    contact = _contact_of(wa_id, bsuid, naming, place)
    if contact is None:
        if wa_id is bsuid is parent:  # all None
            return NOBODY
        return Person(wa_id=wa_id, bsuid=bsuid, parent_bsuid=parent)
    profile = object_of(contact.get("profile"))
    return Person(
        wa_id=wa_id or phone_of(contact),
        bsuid=bsuid or text_of(contact.get("user_id")),
        parent_bsuid=parent or text_of(contact.get("parent_user_id")),
        username=username_of(profile.get("username") or contact.get("username")),
        name=_name_of(profile.get("name")),
    )


def username_of(value: Any) -> str | None:
    """Return a username as it is compared: without the @, in lower case."""
    name = text_of(value)
    return name.strip().removeprefix("@").lower() or None if name else None


def _name_of(value: Any) -> str | None:
    name = text_of(value)
    return name if name and not name.isspace() else None


def _contact_of(
    wa_id: str | None, bsuid: str | None, naming: Naming, place: Place
) -> Object | None:
    # By user_id, then by phone, then the only one if it names nobody else. Never by place:
    # a list may hold more contacts than messages, or somebody else's.
    if not place.contacts:
        return None
    if place.book is None:
        place.book = Contacts(place.contacts)
    found = place.book.find(wa_id, bsuid)
    if found is None:
        found = place.book.only_of(wa_id, bsuid)
        if found is not None and not _alone(naming, place):
            return None
    return found


def _alone(naming: Naming, place: Place) -> bool:
    """Return whether all items of the list name one and the same person."""
    if naming not in place.alone:
        named = {
            (first_text(item, naming.address), first_text(item, naming.user_id))
            for item in objects_of(place.items)
        }
        place.alone[naming] = len(named) == 1
    return place.alone[naming]
