"""Who wrote, and in which conversation: rows of contactos and conversaciones, or rows to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import orjson

from router.conversation.state import MAIN_AREA, Memory
from router.conversation.state import Conversation as State
from router.store.aliases import Alias
from router.store.database import Row
from router.store.dialect import CONVERSATION, Dialect

BEGINNING = State(first=True)


@dataclass(slots=True, eq=False)
class Contact:
    """A row of contactos, or one to be.

    `plain`: nobody but a router wrote in it. `made_at` and `active_at` (of the last message
    of its conversation) are None of one to be.
    """

    id: UUID
    telefono: str
    nombre: str | None
    conversation: "Conversation | None" = None
    is_new: bool = False
    plain: bool = True
    made_at: datetime | None = None
    active_at: datetime | None = None
    aliases: set[Alias] = field(default_factory=set)  # those that are asked


@dataclass(slots=True, eq=False)
class Conversation:
    """An open row of conversaciones, or one to be."""

    id: UUID
    contacto_id: UUID | None  # None: of a group
    telefono: str
    version: int | None = None  # xmin of the row; None: it is to be
    state: State = BEGINNING
    line: str | None = None  # of one to be: the line it begins on
    held: bool = False  # a batch is changing it: nobody else is to go by it
    # As the table has it, by the code's word: another writer's spelling stays.
    stored: Mapping[str, str] | None = None


def read_conversation(row: Row, telefono: str, dialect: Dialect) -> Conversation:
    """Return the conversation in a row of the `lookup` statement, in the code's words."""
    conversation = Conversation(
        id=row["conversacion_id"],
        contacto_id=row["contacto_id"],
        telefono=telefono,
        version=row["version"],
        state=_state(row),
    )
    if not dialect.is_plain:
        stored = {group: row[group] for group in CONVERSATION.values()}
        read = {group: dialect.read(group, word) for group, word in stored.items()}
        named = {group: word for group, word in read.items() if word}
        conversation.state = replace(conversation.state, **named)
        conversation.stored = {read[group]: word for group, word in stored.items()}
    return conversation


def _state(row: Row) -> State:
    bot = orjson.loads(row["bot"] or b"null")
    memory = Memory.from_json(bot)
    spoke = (
        isinstance(bot, dict) and "last" in bot
    )  # or it has nothing of the bot's own
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
        first=not memory.last if spoke else row["estado"] == "nueva",
        memory=memory,
    )
