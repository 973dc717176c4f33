"""Whose message it is, and in which conversation: what the lookup statement says of a batch.

It says which messages, contacts and conversations exist; who is meant by a message's names is
identity.py's. The directory remembers which conversations had to be opened or adopted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from router.store.aliases import Alias, asked, forms_of, short, telefonos_asked
from router.store.batch import Message
from router.store.database import Fetches, Row
from router.store.dialect import PLAN, Dialect
from router.store.identity import People
from router.store.keys import lock_key, row_id
from router.store.people import Contact, Conversation, read_conversation


@dataclass(slots=True, eq=False)
class Directory:
    """What the database knows of the people of one batch, and what must change."""

    dialect: Dialect = PLAN
    people: People = field(default_factory=People)
    known_messages: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)  # messages that some change is of
    groups: dict[str, Conversation] = field(default_factory=dict)
    opened: list[Conversation] = field(default_factory=list)
    unopened: set[str] = field(default_factory=set)  # what to lock before opening
    adopted: list[Conversation] = field(default_factory=list)  # that had no contact
    held: set[Conversation] = field(default_factory=set)  # of those that are remembered
    _orphans: dict[str, Conversation] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: Iterable[Row], dialect: Dialect = PLAN) -> "Directory":
        """Read the rows of the `lookup` statement, which are in the words of *dialect*."""
        directory = cls(dialect=dialect)
        directory.read(rows)
        return directory

    def read(self, rows: Iterable[Row]) -> None:
        """Learn from rows of the `lookup` statement, beside what is recalled."""
        self.people.know_the_recalled()
        for row in rows:
            self._read(row)

    def _read(self, row: Row) -> None:
        what, value = row["what"], row["value"]
        if what == "message":
            self.known_messages.add(value)
        elif what == "waiting":
            self.waiting.add(value)
        elif what == "group":
            self.groups[value] = read_conversation(row, value, self.dialect)
        elif what == "orphan":
            self._orphans[value] = read_conversation(row, value, self.dialect)
        elif what == "telefono":
            self.people.learn_telefono(value, self._contact(row))
        else:
            alias = Alias(row["scope"], what, value)
            self.people.learn(alias, self._contact(row), row["left_at"])

    def _contact(self, row: Row) -> Contact:
        contact = self.people.contacts.get(row["contacto_id"])
        if contact is None:
            contact = Contact(
                row["contacto_id"],
                row["telefono"],
                row["nombre"],
                plain=row["plain"],
                made_at=row["made_at"],
                active_at=row["active_at"],
            )
            contact.aliases.update(
                Alias(*a) for a in orjson.loads(row["aliases"] or "[]")
            )
            if row["conversacion_id"] is not None:
                contact.conversation = read_conversation(
                    row, row["telefono"], self.dialect
                )
            self.people.contacts[contact.id] = contact
        return contact

    def conversation_of_group(self, group: str, line: str) -> Conversation:
        """Return the open conversation of *group*, opening one on *line*."""
        if group not in self.groups:
            self.groups[group] = Conversation(
                id=row_id(), contacto_id=None, telefono=group, line=line
            )
            self.opened.append(self.groups[group])
            self.unopened.add(group)
        return self.groups[group]

    def conversation_of(self, contact: Contact, line: str) -> Conversation:
        """Return the open conversation of *contact*, opening one on *line*."""
        if contact.conversation is None and (orphan := self._orphan_of(contact)):
            contact.conversation = orphan
            orphan.contacto_id = contact.id
            self.adopted.append(orphan)
        if contact.conversation is None:
            contact.conversation = Conversation(
                id=row_id(),
                contacto_id=contact.id,
                telefono=contact.telefono,
                line=line,
            )
            self.opened.append(contact.conversation)
            if not contact.is_new:
                self.unopened.add(str(contact.id))
        return contact.conversation

    def _orphan_of(self, contact: Contact) -> Conversation | None:
        """Return the conversation that the CRM opened for a phone, and for no contact."""
        if not self._orphans:
            return None
        forms = forms_of(contact.telefono.removeprefix("+"))
        return next((o for f in forms if (o := self._orphans.pop(f, None))), None)

    def settle(self) -> None:
        """Give the conversations to be opened the telefono that their people have by now."""
        now = {merge.loser.id: merge.survivor for merge in self.people.merges}
        for conversation in self.opened:
            owner = conversation.contacto_id
            while owner in now:
                owner = now[owner].id
            if owner and (contact := self.people.contacts.get(owner)):
                conversation.telefono = contact.telefono

    @property
    def is_moving(self) -> bool:
        """Whether names pass from one contact to another, or change."""
        return self.people.is_moving or bool(self.adopted)

    @property
    def knows_everybody(self) -> bool:
        """Whether nobody and nothing has to be added before a message is written."""
        return not (self.people.is_growing or self.opened or self.is_moving)

    def conversation_ids(self) -> list[UUID]:
        """Return the conversations that were found, in the order to lock them."""
        found = [c.conversation for c in self.people.contacts.values()]
        found += self.groups.values()
        return sorted(c.id for c in found if c and c.version is not None)

    def locks(self, *, everybody: bool) -> list[int]:
        """Return the advisory locks to take before opening conversations, in order.

        Those of new people are among them: what add_people takes later is held then.
        """
        numbers = self.people.locks(everybody=everybody or self.is_moving)
        return sorted(map(lock_key, {*self.unopened, *numbers}))


async def look_up(
    tx: Fetches, messages: Iterable[Message], ids: Sequence[str], dialect: Dialect
) -> list[Row]:
    """Return what the tables say of *ids*, and of who wrote *messages* or changed by them."""
    names, telefonos, groups = set[str](), set[str](), set[str]()
    for message in messages:
        if message.event.group_id:
            groups.add(short(message.event.group_id))
            continue
        found, kept = message.new_names()
        new = found + kept
        for alias in (*message.aliases, *message.kept, *new):
            names.update(asked(alias))
        telefonos |= telefonos_asked(message.aliases)
        if new:
            telefonos |= telefonos_asked(new)
    return await tx.fetch(
        dialect.sql("lookup"), ids, list(names), list(telefonos), list(groups)
    )
