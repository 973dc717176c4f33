"""What the CRM asks to send: where it goes, and its rows, each once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from router.errors import Refused
from router.model import Door
from router.store.aliases import is_phone, same_phone
from router.store.conversations import names
from router.store.database import Database, Row
from router.store.dialect import PLAN, Dialect
from router.store.rows import PREVIEW, OutboxRow
from router.store.sql_files import sql
from router.whatsapp.events import read
from router.whatsapp.storable import json_text, text

UNPROCESSABLE = 422


class NotSent(Refused):
    """The sender must change something: answer 422 with *code*, store nothing."""

    def __init__(self, code: str, message: str) -> None:
        """Say why, by a *code* of contract 4's `error`, and in words without content."""
        super().__init__(message, status=UNPROCESSABLE)
        self.code = code


class Address(NamedTuple):
    """Where a message goes; `until` is when the last window for free text ends."""

    conversation: UUID
    line: str
    to: str  # digits or BSUID; '' for who cannot be reached
    until: datetime | None


class Outbound(NamedTuple):
    """An agent's message as a row of mensajes, in the code's words."""

    id: UUID
    conversation: UUID
    text: str
    tipo: str
    agent: str | None = None
    quoted_id: str | None = None
    media_url: str | None = None
    filename: str | None = None
    by_hand: bool = False  # no template: the answer is for who wrote it


class Key(NamedTuple):
    """An Idempotency-Key, and the digest of what was asked under it."""

    name: str
    digest: bytes


class Sends:
    """Finds addresses and writes what is to be sent."""

    def __init__(self, database: Database, dialect: Dialect = PLAN) -> None:
        """Read and write *database*, in the words of *dialect*."""
        self._database, self._dialect = database, dialect

    async def known(self, key: Key) -> UUID | None:
        """Return the row of mensajes that *key* stands for; None while it is free.

        Raises NotSent `idempotency_conflict` where something else was asked under it.
        """
        rows = await self._database.fetch(sql("send_known"), key.name)
        if not rows:
            return None
        if rows[0]["digest"] != key.digest:
            raise NotSent("idempotency_conflict", "this key was used for another body")
        found: UUID = rows[0]["mensaje_id"]
        return found

    async def address(self, conversation: UUID | None, alias: str) -> Address | None:
        """Return where a conversation, or else whoever *alias* names, is reached."""
        asked: tuple[Sequence[str], Sequence[str]] = ([], [])
        if conversation is None:
            asked = names(alias.strip())
        statement = self._dialect.sql("send_address")
        rows = await self._database.fetch(statement, conversation, *asked)
        return _address(rows[0]) if rows else None

    async def number_of(self, conversation: UUID) -> str | None:
        """Return the number of ours that a conversation's last message came in by.

        For a line without a number of its own; None where the body is not kept any more.
        """
        rows = await self._database.fetch(
            self._dialect.sql("send_number"), conversation
        )
        events = [e for row in rows for e in read(row["body"], Door(row["door"]))]
        return next(
            (e.phone_number_id for e in events if text(e.key) == rows[0]["wamid"]), None
        )

    async def write(self, said: Outbound, leaves: OutboxRow, key: Key | None) -> UUID:
        """Commit a message and its outbox row; return its id, or that of *key*'s first.

        Raises Transient, Poison, and NotSent as `known` does.
        """
        rows = await self._database.fetch(
            self._dialect.sql("send"),
            *(key or (None, None)),
            *self._row(said),
            *leaves[:4],
            said.by_hand,
        )
        if rows or key is None:
            return said.id
        # Somebody asked the same at the same moment, and was first.
        return await self.known(key) or said.id

    def _row(self, said: Outbound) -> tuple[Any, ...]:
        words = text(said.text)
        return (
            said.id,
            said.conversation,
            words,
            self._dialect.write("tipo", said.tipo),
            said.agent and text(said.agent),
            said.quoted_id and text(said.quoted_id),
            said.media_url and text(said.media_url),
            said.filename and text(said.filename),
            json_text({"kind": "sent"}),
            words[:PREVIEW],
        )


def _address(row: Row) -> Address:
    windows = [
        row[name] for name in ("ventana_24h_fin", "ventana_72h_fin") if row[name]
    ]
    until = max(windows, default=None)
    return Address(row["id"], row["linea_origen"], _recipient(row), until)


def _recipient(row: Row) -> str:
    # As WhatsApp spells the number that the contact has; then that number, any, an id.
    telefono: str = row["telefono"].removeprefix("+")
    phones: list[str] = row["phones"] or []
    if is_phone(telefono):
        return next((p for p in phones if same_phone(p, telefono)), telefono)
    return next(iter([*phones, *(row["user_ids"] or [])]), "")
