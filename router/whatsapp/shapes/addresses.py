"""Whose message it is, by the ids around it: phones in any notation, JIDs, groups, lists.

A JID is `name@server`, in newer ones `name:device@server`. The server alone says what the
name is: nothing here looks at a text.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from router.whatsapp.contacts import names_of
from router.whatsapp.members import Object, first_text, object_of, text_of

CHAT = ("remoteJid", "telefono", "phone", "from")
_CHAT_OF_ECHO = ("remoteJid", "to", "telefono", "phone", "from")
_SERVERS = {
    "s.whatsapp.net": "phone",
    "c.us": "phone",
    "hosted": "phone",
    "lid": "lid",
    "hosted.lid": "lid",
    "g.us": "group",
    "broadcast": "broadcast",  # status@broadcast, and lists of a person's own
    "newsletter": "broadcast",
}
_NOTATION = re.compile(r"[+ ().\u00a0\t/-]")
_LONGEST = 100  # characters of an address; more is no phone in any notation


class Address(NamedTuple):
    """One id: what it is of, its plain form, and how it was received."""

    kind: str  # phone, lid, group, broadcast; '' where nobody knows
    name: str  # digits of a phone; of the others with their server
    said: str


class Who(NamedTuple):
    """Whom a message is from, or to if it is an echo; each may be missing."""

    phone: str | None = None
    user_id: str | None = None  # `…@lid`, or a BSUID
    said: str | None = None  # as received
    group: str | None = None
    broadcast: bool = False


def address_of(value: Any) -> Address | None:
    """Return what *value* names; None where it is no text."""
    said = text_of(value)
    if said is None:
        return None
    name, at, server = said.strip().partition("@")
    kind = _SERVERS.get(server.lower(), "") if at else "phone"
    if kind == "phone":
        digits = phone_of(name)
        return Address(kind, digits, said) if digits else Address("", said, said)
    if kind == "lid":
        name = f"{name.partition(':')[0]}@lid"
        return Address(kind, name, said)
    return Address(kind, said.strip(), said)


def phone_of(name: str) -> str | None:
    """Return the digits of a number in any notation, without the device behind a colon."""
    if len(name) > _LONGEST:
        return None
    digits = _NOTATION.sub("", name.partition(":")[0]).removeprefix("00")
    return digits if digits.isascii() and digits.isdigit() else None


def who_of(item: Object, *, echo: bool) -> Who:
    """Return whom *item* is from or to, by its own members and those of its `key`."""
    key = object_of(item.get("key"))
    chat = _chat_of(_CHAT_OF_ECHO if echo else CHAT, key, item)
    if chat is not None and chat.kind == "broadcast":
        return Who(said=chat.said, broadcast=True)
    group = _group_of(chat, key, item)
    if group is not None and echo:
        return Who(group=group)
    near = _members(_IN_GROUP if group else _TO if echo else _DIRECT, key, item)
    phone, lid = _first("phone", near), _first("lid", near)
    named = _named(item) or (names_of(chat.said)[1] if chat else None)
    if phone is None and lid is None and group is None:
        return Who(user_id=named, said=chat.said if chat else named)
    known = phone or lid
    return Who(
        phone=phone.name if phone else None,
        user_id=named or (lid.name if lid else None),
        said=known.said if known else None,
        group=group,
    )


def is_addressed(item: Object) -> bool:
    """Return whether anything in *item* names whom it is from or to."""
    key = object_of(item.get("key"))
    return bool(first_text(item, CHAT) or first_text(key, CHAT) or _named(item))


def _named(item: Object) -> str | None:
    # Meta's id of a person. A `user_id` of another form is the CRM's, of an agent perhaps.
    return (
        first_text(item, ("from_user_id",)) or names_of(text_of(item.get("user_id")))[1]
    )


# The chat itself, then what else Baileys and Evolution call a person whose chat is an
# @lid. What they say of the sender is, in an echo, the business itself.
_TO = (*_CHAT_OF_ECHO, "remoteJidAlt", "previousRemoteJid")
_DIRECT = (
    *(*CHAT, "remoteJidAlt", "senderPn", "sender", "participantAlt"),
    *("senderLid", "previousRemoteJid"),
)
_IN_GROUP = (
    *("participant", "participantAlt", "participantPn", "senderPn", "author"),
    *("telefono", "phone", "from", "participantLid", "senderLid"),
)


def _chat_of(names: tuple[str, ...], key: Object, item: Object) -> Address | None:
    # A group or a list is one whichever member says so.
    found = _members(names, key, item)
    for address in found:
        if address.kind in {"group", "broadcast"}:
            return address
    return found[0] if found else None


def _group_of(chat: Address | None, key: Object, item: Object) -> str | None:
    if chat is None or chat.kind == "group":
        return chat and chat.name
    # A participant who is not the chat itself is one of several. A second name of the
    # same person is an @lid, and no phone.
    other = _first("phone", _members(("participant",), key, item))
    is_other = other is not None and chat.kind == "phone" and other.name != chat.name
    return chat.said if is_other else None


def _members(names: Iterable[str], key: Object, item: Object) -> list[Address]:
    found = (address_of(holder.get(n)) for n in names for holder in (key, item))
    return [address for address in found if address is not None]


def _first(kind: str, addresses: Iterable[Address]) -> Address | None:
    return next((found for found in addresses if found.kind == kind), None)
