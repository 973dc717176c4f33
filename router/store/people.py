"""Who wrote, and in which conversation: from the aliases of an event to rows.

The lookup statement says which aliases, contacts and conversations exist. The directory
answers for one event after another, in order, and remembers what it had to invent, so that
two events of one new person in one batch make one contact with all the aliases of both.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from router.conversation.state import MAIN_AREA, Memory
from router.conversation.state import Conversation as State
from router.model import Event, Person
from router.store.database import Row
from router.store.keys import digest, lock_key, row_id
from router.whatsapp.storable import text

PARKING = "sin-identificar"  # telefono of the contact that stands for the nameless

LONGEST_NAME = 500  # characters; WhatsApp's own have at most 135

Alias = tuple[str, str, str]  # scope, kind, value
BEGINNING = State(first=True)


@dataclass(slots=True)
class Contact:
    """A row of contactos, or one to be."""

    id: UUID
    telefono: str
    nombre: str | None
    conversation: "Conversation | None" = None


@dataclass(slots=True)
class Conversation:
    """An open row of conversaciones, or one to be."""

    id: UUID
    contacto_id: UUID | None  # None: of a group
    telefono: str
    version: int | None = None  # xmin of the row; None: it is to be
    state: State = BEGINNING
    line: str | None = None  # of one to be: the line it begins on


def aliases_of(scope: str, person: Person) -> list[Alias]:
    """Return the names that find *person*, the most reliable first.

    A parent id and a username may pass to somebody else, so they are kept, and not asked.
    """
    names = (("bsuid", person.bsuid), ("wa_id", person.wa_id))
    scope = short(scope)
    return [(scope, kind, short(value)) for kind, value in names if value]


def short(name: str) -> str:
    """Return *name* as an index can hold it: of one that is too long, a digest."""
    if len(name) <= LONGEST_NAME:
        return text(name)
    return f"sha256:{digest(name).hex()}"


def telefono_of(person: Person) -> str:
    """Return what stands in contactos.telefono for a person met for the first time."""
    return short(person.wa_id or person.bsuid or PARKING)


@dataclass(slots=True)
class Directory:
    """What the database knows of the people of one batch, and what must be added."""

    known_messages: set[str] = field(default_factory=set)
    new_contacts: list[Contact] = field(default_factory=list)
    new_aliases: dict[Alias, UUID] = field(default_factory=dict)
    names: dict[UUID, str] = field(default_factory=dict)
    opened: list[Conversation] = field(default_factory=list)
    unopened: set[str] = field(default_factory=set)  # what to lock before opening
    by_alias: dict[Alias, Contact] = field(default_factory=dict)
    groups: dict[str, Conversation] = field(default_factory=dict)
    _by_telefono: dict[str, Contact] = field(default_factory=dict)
    _contacts: dict[UUID, Contact] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> "Directory":
        """Read the rows of the `lookup` statement."""
        directory = cls()
        for row in rows:
            directory._read(row)
        return directory

    def _read(self, row: Row) -> None:
        what, value = row["what"], row["value"]
        if what == "message":
            self.known_messages.add(value)
        elif what == "group":
            self.groups[value] = _conversation(row, value)
        elif what == "telefono":
            self._by_telefono[value] = self._contact(row)
        else:
            self.by_alias[row["scope"], what, value] = self._contact(row)

    def _contact(self, row: Row) -> Contact:
        contact = self._contacts.get(row["contacto_id"])
        if contact is None:
            contact = Contact(row["contacto_id"], row["telefono"], row["nombre"])
            if row["conversacion_id"] is not None:
                contact.conversation = _conversation(row, row["telefono"])
            self._contacts[contact.id] = contact
        return contact

    def conversation_of(
        self, event: Event, aliases: Sequence[Alias], line: str
    ) -> Conversation:
        """Return the open conversation that *event* belongs to, opening one on *line*."""
        if event.group_id:
            return self._of_group(short(event.group_id), line)
        contact = self._contact_of(event.person, aliases)
        if contact.conversation is None:
            contact.conversation = Conversation(
                id=row_id(),
                contacto_id=contact.id,
                telefono=contact.telefono,
                line=line,
            )
            self.opened.append(contact.conversation)
            if contact not in self.new_contacts:
                self.unopened.add(str(contact.id))
        return contact.conversation

    def _of_group(self, group: str, line: str) -> Conversation:
        if group not in self.groups:
            self.groups[group] = Conversation(
                id=row_id(), contacto_id=None, telefono=group, line=line
            )
            self.opened.append(self.groups[group])
            self.unopened.add(group)
        return self.groups[group]

    def _contact_of(self, person: Person, aliases: Sequence[Alias]) -> Contact:
        contact = next(
            (c for alias in aliases if (c := self.by_alias.get(alias))), None
        ) or self._by_telefono.get(telefono_of(person))
        if contact is None:
            contact = Contact(row_id(), telefono_of(person), _name(person))
            self.new_contacts.append(contact)
            self._by_telefono[contact.telefono] = contact
        elif contact.nombre is None and (name := _name(person)):
            contact.nombre = self.names[contact.id] = name
        for alias in aliases:
            if alias not in self.by_alias:
                self.by_alias[alias] = contact
                self.new_aliases[alias] = contact.id
        return contact

    @property
    def knows_everybody(self) -> bool:
        """Whether nobody and nothing has to be added before a message is written."""
        return not (self.new_contacts or self.new_aliases or self.names or self.opened)

    def people_arguments(self) -> tuple[Sequence[object], ...] | None:
        """Return the arguments of the `people` statement; None when nothing is new."""
        if not (self.new_contacts or self.new_aliases or self.names):
            return None
        contacts = [(c.id, c.telefono, c.nombre) for c in self.new_contacts]
        aliases = [(*alias, contact) for alias, contact in self.new_aliases.items()]
        return (
            *columns(contacts, 3),
            *columns(aliases, 4),
            list(self.names),
            list(self.names.values()),
        )

    def conversation_ids(self) -> list[UUID]:
        """Return the conversations that were found, in the order to lock them."""
        found = [c.conversation for c in self._contacts.values()]
        found += self.groups.values()
        return sorted(c.id for c in found if c and c.version is not None)

    def locks(self) -> list[int]:
        """Return the advisory locks to take before opening conversations, in order."""
        return sorted(map(lock_key, self.unopened))


def columns(rows: Sequence[Sequence[object]], width: int) -> Iterator[list[object]]:
    """Turn rows of *width* members into as many columns, for unnest."""
    return (
        (list(c) for c in zip(*rows, strict=True))
        if rows
        else ([] for _ in range(width))
    )


def _name(person: Person) -> str | None:
    return text(person.name) if person.name else None


def _conversation(row: Row, telefono: str) -> Conversation:
    return Conversation(
        id=row["conversacion_id"],
        contacto_id=row["contacto_id"],
        telefono=telefono,
        version=row["version"],
        state=_state(row),
    )


def _state(row: Row) -> State:
    bot = orjson.loads(row["bot"] or b"null")
    return State(
        router_estado=row["router_estado"] or "principal",
        submenu_actual=row["submenu_actual"],
        subetiqueta=row["subetiqueta"],
        area=row["area"] or MAIN_AREA,
        estado=row["estado"] or "nueva",
        ultima_derivacion=row["ultima_derivacion"],
        asignado_a=row["asignado_a"],
        inbox_fijo=row["inbox_fijo"],
        desconectado=row["desconectado"],
        first=bot is None and row["estado"] == "nueva",
        memory=Memory.from_json(bot),
    )
