"""Where items go that a person must look at, and how they are found there."""

import hashlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime

from router.model import Delivery, Notification, Received
from router.store.conversations import names
from router.store.database import Database
from router.store.sql_files import sql
from router.whatsapp.phones import written_forms
from router.whatsapp.storable import json_text, text

REASON = 500  # characters
PAGE = 100  # letters without their bytes
PAGE_OF_BODIES = 4  # of up to 4 MB each
SHORTEST_NAME = 4  # characters, of a person; less is found in every body


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A row of router.dead_letters; `body` is empty where it was not asked for."""

    id: int
    stage: str
    reason: str
    fingerprint: str  # of its bytes: however often they come, it is one letter
    first_at: datetime
    last_at: datetime
    replayed_at: datetime | None
    destination: str | None
    key: str | None  # the webhook-id
    size: int  # bytes of the body
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which letters: those to which all of it applies."""

    ids: Sequence[int] | None = None
    since: datetime | None = None  # that it came for the last time
    until: datetime | None = None  # that it came for the first time
    contact: str | None = None  # whose: any alias
    destination: str | None = None
    stage: str | None = None
    reason: str | None = None  # words in it
    fresh: bool = False  # not replayed, or buried again since


async def letters(
    database: Database, wanted: Wanted, *, bodies: bool = False
) -> AsyncGenerator[Letter, None]:
    """Yield what is buried, the oldest first; with its bytes where *bodies* says so."""
    after, page = 0, PAGE_OF_BODIES if bodies else PAGE
    named = await _names_of(database, wanted.contact) if wanted.contact else None
    while True:
        rows = await database.fetch(
            sql("letters"),
            *(wanted.ids, wanted.since, wanted.destination, wanted.stage),
            *(wanted.reason, wanted.fresh, after, page, bodies),
            *(wanted.until, named),
        )
        for row in rows:
            found = {name: row[name] for name in row.keys()}  # noqa: SIM118 -- a Row
            yield Letter(**{**found, "body": row["body"] or b""})
            after = row["id"]
        if len(rows) < page:
            return


async def _names_of(database: Database, alias: str) -> list[str]:
    # All that a body or a lane may have of a person, who may also be nobody we know.
    alias = alias.strip()
    telefonos, aliases = names(alias)
    known = await database.fetch(sql("letter_names"), telefonos, aliases)
    found = {row["name"] for row in known} | {alias.removeprefix("@")}
    found |= set(written_forms(alias))
    return sorted(name for name in found if len(name) >= SHORTEST_NAME)


async def mark_replayed(database: Database, letter: Letter) -> None:
    """Write down that *letter* was taken up again."""
    await database.execute(sql("letters_replayed"), [letter.id])


async def tell_again(database: Database, letter: Letter, *, only_ask: bool) -> bool:
    """Let the notification of *letter* be told again, under the same webhook-id.

    Returns False, and does nothing, where its destination has confirmed it or is about to
    be told. With *only_ask* nothing is changed.
    """
    name = "letter_to_tell" if only_ask else "letter_tell"
    more = () if only_ask else (letter.id,)
    return bool(await database.fetch(sql(name), letter.destination, letter.key, *more))


class DeadLetters:
    """Writes down what is buried, with its bytes, before its lease ends."""

    def __init__(self, database: Database) -> None:
        """Write to *database*."""
        self._database = database

    async def bury(
        self, stage: str, item: Delivery | Received | Notification, reason: str
    ) -> None:
        """Keep *item* under a fingerprint of its bytes; once, however often it comes.

        What could not be told is one letter for each destination, whatever its bytes.
        Raises Transient while the database is away.
        """
        body, delivery = _bytes_of(item), _delivery_of(item)
        archive = delivery if delivery is not None and delivery.id is None else None
        rows = await self._database.fetch(
            sql("bury"),
            stage,
            text(reason)[:REASON],
            _fingerprint(stage, item, body),
            body,
            archive.received_at if archive else None,
            archive.door.value if archive else None,
            archive.body if archive else None,
            *_address(item),
        )
        if archive and rows:
            archive.id = rows[0]["id"]


def _fingerprint(
    stage: str, item: Delivery | Received | Notification, body: bytes
) -> str:
    _, key = _address(item)
    parts = (stage, key) if key else (stage,)
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + body).hexdigest()


def _address(
    item: Delivery | Received | Notification,
) -> tuple[str | None, str | None]:
    # Who was to be told, and under which webhook-id: it is another for each destination.
    if isinstance(item, Notification):
        return item.destination, item.key
    return None, None


def _bytes_of(item: Delivery | Received | Notification) -> bytes:
    match item:
        case Delivery():
            return item.body
        case Notification():
            return item.payload
        case Received(event=event, delivery=delivery):
            return delivery.body if event is None else json_text(event.item).encode()


def _delivery_of(item: Delivery | Received | Notification) -> Delivery | None:
    match item:
        case Delivery():
            return item
        case Received(delivery=delivery):
            return delivery
        case Notification():
            return None
