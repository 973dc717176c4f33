"""Who has which names: from the aliases of a batch to contacts.

The tables say who had them; here is answered, for one message after another, who has them
now, and remembered what had to be invented or changed, so that two messages of one new person
in one batch make one contact with all the aliases of both. The rules are in
docs/decisions/0009-identity.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from router.conversation.owner import Owner, owner_of
from router.model import Person
from router.store import aliases as names
from router.store.aliases import PHONE, USER_ID, Alias
from router.store.keys import row_id
from router.store.people import Contact, Conversation
from router.whatsapp.phones import canonical
from router.whatsapp.storable import text

# Meta's clock and ours may differ by this: who is younger than a change of numbers.
CLOCKS = timedelta(hours=1)


class Change(NamedTuple):
    """The names that somebody has from `at` on."""

    asked: Sequence[Alias]
    kept: Sequence[Alias]
    at: datetime


class Merge(NamedTuple):
    """Two contacts that are one person."""

    loser: Contact
    survivor: Contact
    open_one: Conversation | None  # which stays open
    telefono: str  # that the loser had


@dataclass(slots=True, eq=False)
class People:
    """Everybody of one batch, by every name, and what of it is not in the tables yet."""

    by_alias: dict[Alias, Contact] = field(default_factory=dict)
    contacts: dict[UUID, Contact] = field(default_factory=dict)
    new_contacts: list[Contact] = field(default_factory=list)
    new_aliases: dict[Alias, UUID] = field(default_factory=dict)
    names: dict[UUID, str] = field(default_factory=dict)
    # What changes beyond new rows:
    merges: list[Merge] = field(default_factory=list)
    moved: dict[Alias, Contact] = field(default_factory=dict)
    left: dict[Alias, datetime] = field(default_factory=dict)  # since when, if it is
    left_now: set[Alias] = field(default_factory=set)
    involved: dict[Contact, str] = field(default_factory=dict)  # the telefono each had
    renumbered: list[tuple[UUID, str]] = field(default_factory=list)  # in this order
    has_renumbered: bool = False
    known: set[Alias] = field(default_factory=set)  # as the tables have it
    known_telefonos: set[str] = field(default_factory=set)
    _by_telefono: dict[str, Contact] = field(default_factory=dict)
    # (kind, value; a phone's canonical form) -> scope -> who
    _by_name: dict[tuple[str, str], dict[str, Contact]] = field(default_factory=dict)

    def recall(self, contact: Contact, aliases: Iterable[Alias]) -> None:
        """Take it that *contact* has *aliases*, as it once had."""
        for alias in aliases:
            self.by_alias[alias] = contact

    def know_the_recalled(self) -> None:
        """Find those who were recalled by all of their names, beside others to learn of."""
        for contact in set(self.by_alias.values()):
            self.contacts[contact.id] = contact
            for alias in contact.aliases:
                self._by_name.setdefault(_key(alias), {})[alias.scope] = contact

    def learn(self, alias: Alias, contact: Contact, left_at: datetime | None) -> None:
        """Learn from the tables that *alias* is of *contact*, or was until *left_at*."""
        self.known.add(alias)
        self._name(alias, contact)
        if left_at:
            self.left[alias] = left_at

    def learn_telefono(self, telefono: str, contact: Contact) -> None:
        """Learn from the tables that *contact* has *telefono*."""
        self._by_telefono[telefono] = contact
        self.known_telefonos.add(telefono)

    def contact_of(
        self,
        person: Person,
        asked: Sequence[Alias],
        kept: Sequence[Alias],
        at: datetime,
    ) -> Contact:
        """Return who *person* is, who wrote at *at*, making a contact of a stranger."""
        contact = self.by_alias.get(asked[0]) if asked else None
        several = len(asked) > 1
        if (
            contact is None
            or self.left
            or (several and not self._all_of(contact, asked))
        ):
            contact = self._resolved(person, asked, at)
        if contact.nombre is None and (name := _name(person)):
            contact.nombre = name
            if not contact.is_new:
                self.names[contact.id] = name
        for alias in kept:
            self._give(alias, contact)
        return contact

    def _all_of(self, contact: Contact, asked: Sequence[Alias]) -> bool:
        return all(self.by_alias.get(alias) is contact for alias in asked)

    def _resolved(
        self, person: Person, asked: Sequence[Alias], at: datetime
    ) -> Contact:
        by_kind = {alias.kind: alias for alias in asked}
        phone, user_id = by_kind.get(PHONE), by_kind.get(USER_ID)
        mine = self._owner_of_id(user_id) if user_id else None
        owner = self._owner_of_phone(phone, at) if phone else None
        taken: list[Alias] = []
        if phone and owner and owner is not mine and _is_other(owner, user_id):
            if owner.active_at is not None and at < owner.active_at:
                phone = None  # news of the past: the number has gone on since
            else:
                taken = self._take_phone(owner, phone.value)
            owner = None
        contact = mine or owner or self._stranger(person, phone, user_id, at)
        if owner and contact is not owner:
            contact = self._merge(contact, owner)
        for alias in (*filter(None, (user_id, phone)), *taken):
            self._give(alias, contact)
        if phone:
            self._learn_phone(contact, phone.value)
        return contact

    def _owner_of_id(self, alias: Alias) -> Contact | None:
        found = self._by_name.get((USER_ID, alias.value), {})
        if alias.scope in found:
            return found[alias.scope]
        if not alias.scope and found:  # who knows which business: whoever it is
            return next(iter(found.values()))
        if "" in found:
            return found[""]
        by_hand = self._by_telefono.get(alias.value)
        return by_hand if by_hand and not by_hand.aliases else None

    def _owner_of_phone(self, alias: Alias, at: datetime) -> Contact | None:
        if exact := self.by_alias.get(alias):
            return None if self._has_left(alias, at) else exact
        for scope, contact in self._by_name.get(
            (PHONE, canonical(alias.value)), {}
        ).items():
            if not self._has_left(alias._replace(scope=scope), at):
                return contact
        forms = names.forms_of(alias.value)
        return next((c for f in forms if (c := self._by_telefono.get(f))), None)

    def _has_left(self, alias: Alias, at: datetime) -> bool:
        return any(
            at > since
            for other, since in self.left.items()
            if other.scope == alias.scope and names.same_phone(other.value, alias.value)
        )

    def _stranger(
        self,
        person: Person,
        phone: Alias | None,
        user_id: Alias | None,
        at: datetime,
    ) -> Contact:
        telefono = names.telefono_of(person)
        if phone is None and user_id:
            telefono = user_id.value
        if telefono in self._by_telefono and telefono != names.PARKING:
            telefono = names.marked_id(user_id or Alias("", "", telefono))
        contact = self._by_telefono.get(telefono)
        if contact is None:
            contact = Contact(row_id(), telefono, None, is_new=True, active_at=at)
            self.new_contacts.append(contact)
            self.contacts[contact.id] = contact
            self._by_telefono[telefono] = contact
        return contact

    def _give(self, alias: Alias, contact: Contact) -> None:
        owner = self.by_alias.get(alias)
        if owner is contact:
            return
        if owner is None:
            self.new_aliases[alias] = contact.id
        else:
            owner.aliases.discard(alias)
            self._move(alias, contact)
        self._name(alias, contact)

    def _move(self, alias: Alias, contact: Contact) -> None:
        if alias in self.new_aliases:  # not in the table yet
            self.new_aliases[alias] = contact.id
        else:
            self.moved[alias] = contact
        self.left.pop(alias, None)

    def _name(self, alias: Alias, contact: Contact) -> None:
        self.by_alias[alias] = contact
        if alias.kind in {PHONE, USER_ID}:
            contact.aliases.add(alias)
            scopes = self._by_name.setdefault(_key(alias), {})
            scopes[alias.scope] = contact

    def _take_phone(self, owner: Contact, phone: str) -> list[Alias]:
        """Take a number from who had it, and return its aliases, for who has it now."""
        taken = [a for a in owner.aliases if _is_phone(a, phone)]
        if names.same_phone(owner.telefono, phone):
            ids = sorted(a.value for a in owner.aliases if a.kind == USER_ID)
            self._renumber(owner, *ids, f"{owner.telefono}~{owner.id.hex[:8]}")
        self._involve(owner)
        return taken

    def _learn_phone(self, contact: Contact, phone: str) -> None:
        if not names.is_phone(contact.telefono) and contact.telefono != names.PARKING:
            self._renumber(contact, phone)

    def _renumber(self, contact: Contact, *wanted: str) -> None:
        """Give *contact* the first telefono of *wanted* that nobody else has."""
        telefono = next((t for t in wanted if self._is_free(t, contact)), None)
        if telefono is None or telefono == contact.telefono:
            return
        self._involve(contact)
        if not contact.is_new:
            self.renumbered.append((contact.id, telefono))
        self._by_telefono.pop(contact.telefono, None)
        contact.telefono = telefono
        self._by_telefono[telefono] = contact
        self.has_renumbered = True

    def _is_free(self, telefono: str, contact: Contact) -> bool:
        return self._by_telefono.get(telefono) in {None, contact}

    def _involve(self, contact: Contact) -> None:
        if not contact.is_new:
            self.involved.setdefault(contact, contact.telefono)

    def change(self, contact: Contact, before: Person, after: Change) -> None:
        """Give *contact*, known as *before*, the names that a system message brings."""
        for alias in after.asked:
            contact = self._claim(alias, contact, after)
        for alias in after.kept:
            self._give(alias, contact)
        phone = next((a.value for a in after.asked if a.kind == PHONE), None)
        user_id = next((a.value for a in after.asked if a.kind == USER_ID), None)
        if phone and before.wa_id and not names.same_phone(phone, before.wa_id):
            self._leave(contact, before.wa_id, after.at)
        if phone:
            stands_for = names.is_phone(contact.telefono)
            was = before.wa_id or ""
            if not stands_for or names.same_phone(contact.telefono, was):
                self._renumber(contact, phone)
        elif user_id and contact.telefono == before.bsuid:
            self._renumber(contact, user_id)

    def _claim(self, alias: Alias, contact: Contact, after: Change) -> Contact:
        """Return who has *alias* now that it is *contact*'s: perhaps both were one."""
        taken: list[Alias] = []
        if alias.kind == USER_ID:
            other = self._owner_of_id(alias)
        else:
            other = self._owner_of_phone(alias, after.at)
        if other and other is not contact:
            if alias.kind == PHONE and _is_older(other, contact, after):
                taken = self._take_phone(other, alias.value)
            else:
                contact = self._merge(other, contact)
        for name in (alias, *taken):
            self._give(name, contact)
        return contact

    def _leave(self, contact: Contact, phone: str, at: datetime) -> None:
        for alias in contact.aliases:
            if _is_phone(alias, phone):
                self.left[alias] = at
                self.left_now.add(alias)
        self._involve(contact)

    def _merge(self, loser: Contact, survivor: Contact) -> Contact:
        """Make one of two contacts; what somebody wrote in by hand is kept."""
        if survivor.plain and not loser.plain:
            loser, survivor = survivor, loser
        for alias, contact in list(self.by_alias.items()):
            if contact is loser:
                self._name(alias, survivor)
        survivor.aliases |= loser.aliases
        for alias in loser.aliases:
            self._name(alias, survivor)
        open_one = _open_one(survivor.conversation, loser.conversation)
        survivor.conversation = open_one
        self.merges.append(Merge(loser, survivor, open_one, loser.telefono))
        self._free_telefono(loser, survivor)
        self._involve(survivor)
        return survivor

    def _free_telefono(self, loser: Contact, survivor: Contact) -> None:
        if loser.plain:
            telefono = loser.telefono
            self._renumber(loser, f"{telefono}~{loser.id.hex[:8]}")
            if names.is_phone(telefono):
                self._learn_phone(survivor, telefono)

    @property
    def is_moving(self) -> bool:
        """Whether names pass from one contact to another, or change."""
        return bool(self.involved or self.merges or self.moved or self.left_now)

    @property
    def is_growing(self) -> bool:
        """Whether somebody is new, or has a new name."""
        return bool(self.new_contacts or self.new_aliases or self.names)

    def new_phones(self) -> list[Alias]:
        """Return the numbers that new contacts come with."""
        new = {contact.id for contact in self.new_contacts}
        return [
            alias
            for alias, owner in self.new_aliases.items()
            if alias.kind == PHONE and owner in new
        ]

    def locks(self, *, everybody: bool) -> Iterator[str]:
        """Yield what the locks of the numbers are called, of new people or of *everybody*."""
        return map(number_of, self.by_alias if everybody else self.new_phones())


def _key(alias: Alias) -> tuple[str, str]:
    if alias.kind == PHONE:
        return PHONE, canonical(alias.value)
    return alias.kind, alias.value


def number_of(alias: Alias) -> str:
    """Return what the lock of a name is called: one of all forms of a number."""
    return " ".join(_key(alias))


def _is_phone(alias: Alias, phone: str) -> bool:
    return alias.kind == PHONE and names.same_phone(alias.value, phone)


def _is_other(owner: Contact, user_id: Alias | None) -> bool:
    """Return whether the *owner* of a number has another id: it changed hands."""
    if user_id is None:
        return False
    ids = {
        alias.value
        for alias in owner.aliases
        if alias.kind == USER_ID
        and (alias.scope == user_id.scope or not (alias.scope and user_id.scope))
    }
    return bool(ids) and user_id.value not in ids


def _is_older(other: Contact, contact: Contact, after: Change) -> bool:
    """Return whether *other* had the number before *contact* changed to it."""
    if not other.plain and contact.plain is False:
        return True  # two people of the CRM's
    user_id = next((a for a in after.asked if a.kind == USER_ID), None)
    if _is_other(other, user_id):
        return True
    return other.made_at is not None and other.made_at < after.at - CLOCKS


def _open_one(
    mine: Conversation | None, other: Conversation | None
) -> Conversation | None:
    """Return which of two conversations of one person stays open.

    The one that people answer in; else that of the contact that stays.
    """
    if mine is None or other is None:
        return mine or other
    human = [owner_of(c.state, None) is Owner.HUMAN for c in (mine, other)]
    return other if human == [False, True] else mine


def _name(person: Person) -> str | None:
    return text(person.name) if person.name else None
