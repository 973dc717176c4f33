"""The contacts beside the items of a change: found by name, never by place."""

import re
from typing import Any

from router.whatsapp.members import Object, object_of, objects_of, text_of

# Country, dot, up to 128 letters and digits; a parent id says ENT in between.
_BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]+")
_FORMATTING = re.compile(r"[+ ().\u00a0-]")


def names_of(address: str | None) -> tuple[str | None, str | None]:
    """Return (phone, BSUID) of an address: a number in digits alone, or an id."""
    if address is None:
        return None, None
    if address.isascii() and address.isdigit():
        return address, None
    if _BSUID.fullmatch(address):
        return None, address
    digits = _FORMATTING.sub("", address)
    return (digits, None) if digits.isascii() and digits.isdigit() else (None, None)


def phone_of(contact: Object) -> str | None:
    """Return the phone of a contact, in digits."""
    # n8n puts wa_id into the profile.
    nested = object_of(contact.get("profile")).get("wa_id")
    return names_of(text_of(contact.get("wa_id")) or text_of(nested))[0]


class Contacts:
    """An index of `value.contacts`: a body may hold thousands, and as many messages.

    `only` is the contact where there is exactly one thing in the list.
    """

    __slots__ = ("_by_phone", "_by_user_id", "only")

    def __init__(self, listed: Any) -> None:
        """Index *listed*, which may be of any type."""
        self._by_phone: dict[str, Object] = {}
        self._by_user_id: dict[str, Object] = {}
        self.only: Object | None = None
        for contact in objects_of(listed):
            self.only = contact if len(listed) == 1 else None
            phone, user_id = _names_of(contact)
            if user_id:
                self._by_user_id.setdefault(user_id, contact)
            if phone:
                self._by_phone.setdefault(phone, contact)

    def find(self, wa_id: str | None, bsuid: str | None) -> Object | None:
        """Return the contact by BSUID, then by phone."""
        found = self._by_user_id.get(bsuid) if bsuid else None
        if found is None and wa_id:
            found = self._by_phone.get(wa_id)
        return found

    def only_of(self, wa_id: str | None, bsuid: str | None) -> Object | None:
        """Return the only contact, unless it names somebody else. Call after `find`."""
        if self.only is None:
            return None
        # Both say who, and it is not the same: it would have been found.
        other = (bsuid and self._by_user_id) or (wa_id and self._by_phone)
        return None if other else self.only


def _names_of(contact: Object) -> tuple[str | None, str | None]:
    phone, user_id = names_of(text_of(contact.get("wa_id")))
    return phone or phone_of(contact), text_of(contact.get("user_id")) or user_id
