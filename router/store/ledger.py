"""What a batch of events becomes, in one transaction.

Round trips of a batch, whatever its size: lookup and record, which is a transaction by itself.
Where there is more to write they become one transaction: begin, commit, and one trip each
for new people, an opened conversation (two: a lock, and the lookup again), statuses, notices,
and the states that waited for an echo.

Messages are told apart without locks: `lookup` finds what is stored, and `record` claims the
rest. A claim that another writer holds makes us wait for its commit and start over, and then
the lookup finds the message. See docs/decisions/0003-dedupe.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import orjson

from router.model import Content, Delivery, Event, Received
from router.store.database import Database, Row, Transaction
from router.store.failures import Raced
from router.store.keys import digest, lock_key, row_id
from router.store.people import (
    Alias,
    Conversation,
    Directory,
    aliases_of,
    columns,
    short,
    telefono_of,
)
from router.store.sql_files import sql
from router.store.statuses import progress
from router.whatsapp.storable import json_text, text

PREVIEW = 500  # characters of conversaciones.ultimo_mensaje
RACES_LOST = 3  # in a row, before the batch is taken for the culprit
EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)  # WhatsApp's first year
AHEAD = timedelta(hours=1)  # a clock may be wrong; a message of next year is


class OutboxRow(NamedTuple):
    """Something to tell: written with the message, sent later."""

    destination: str
    key: str
    lane: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """A message that is stored now and was not before."""

    event: Event
    content: Content
    conversation: Conversation
    delivery: Delivery
    at: datetime


class Fetches(Protocol):
    """A transaction, or the database, of which each statement is one."""

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run *sql* and return its rows."""


class Outcome(NamedTuple):
    """What a batch came to."""

    written: list[Written]
    told: set[str]  # the destinations that got outbox rows


Line = Callable[[str | None], str]
Tell = Callable[[Written], Iterable[OutboxRow]]
TellStatus = Callable[[Event], Iterable[OutboxRow]]


@dataclass(slots=True)
class _Batch:
    """The events of a batch, sorted by what they become."""

    messages: list[tuple[Received, Event, Content]] = field(default_factory=list)
    statuses: dict[bytes, tuple[Received, Event]] = field(default_factory=dict)
    notices: dict[str, tuple[Received, Event]] = field(default_factory=dict)
    bodies: dict[int, Delivery] = field(default_factory=dict)  # to be archived
    numbers: dict[int, int] = field(default_factory=dict)  # of bodies, by id()

    @property
    def is_plain(self) -> bool:
        """Whether messages and bodies are all there is: one statement writes them."""
        return not (self.statuses or self.notices)

    @classmethod
    def of(cls, received: Sequence[Received]) -> "_Batch":
        batch, seen = cls(), set[str]()
        for item in received:
            if item.delivery.id is None:
                batch.bodies[id(item.delivery)] = item.delivery
            if item.event is not None:
                batch._sort(item, item.event, seen)
        return batch

    def _sort(self, item: Received, event: Event, seen: set[str]) -> None:
        if event.status is not None:
            self.statuses.setdefault(digest(event.key), (item, event))
            return
        if event.content is None or not event.kind.startswith("message."):
            self.notices.setdefault(_notice_key(event), (item, event))
        if event.content is not None and (wamid := text(event.key)) not in seen:
            seen.add(wamid)
            self.messages.append((item, event, event.content))


class Ledger:
    """Writes events as rows: each once, all of a batch or nothing."""

    def __init__(
        self, database: Database, *, line: Line, tell: Tell, tell_status: TellStatus
    ) -> None:
        """Name lines with *line*; put what *tell* returns into the outbox."""
        self._database = database
        self._line, self._tell, self._tell_status = line, tell, tell_status

    async def write(self, received: Sequence[Received]) -> Outcome:
        """Commit *received*; return the messages that are new, and who must be told.

        Raises Transient when the database must be waited for, Poison when something in
        the batch can never be stored. Either way nothing of it is.
        """
        batch = _Batch.of(received)
        for lost in range(RACES_LOST + 1):
            try:
                outcome = await self._write(batch, careful=lost > 0)
            except Raced:
                if lost == RACES_LOST:
                    raise
            else:
                for key, delivery in batch.bodies.items():
                    delivery.id = batch.numbers[key]
                return outcome
        raise AssertionError  # the loop returns or raises

    async def _write(self, batch: _Batch, *, careful: bool) -> Outcome:
        directory = await self._look_up(self._database, batch)
        written = self._place(batch, directory)
        if directory.knows_everybody and batch.is_plain and not careful:
            return await self._finish(self._database, batch, directory, written)
        async with self._database.transaction() as tx:
            if careful:
                await _forget_the_deleted(tx, written)
            if directory.unopened or careful:
                await tx.fetch(sql("lock"), directory.locks())
                directory = await self._look_up(tx, batch)
                written = self._place(batch, directory)
            await _add_people(tx, directory)
            fresh = await _write_statuses(tx, batch)
            await _write_notices(tx, batch)
            return await self._finish(tx, batch, directory, written, fresh)

    async def _finish(
        self,
        tx: Fetches,
        batch: _Batch,
        directory: Directory,
        written: list[Written],
        statuses: Sequence[Event] = (),
    ) -> Outcome:
        batch.numbers = dict(zip(batch.bodies, directory.delivery_ids, strict=True))
        told = [row for new in written for row in self._tell(new)]
        told += [row for event in statuses for row in self._tell_status(event)]
        await _record(tx, batch, directory, written, told)
        return Outcome(written, {row.destination for row in told})

    async def _look_up(self, tx: Fetches, batch: _Batch) -> Directory:
        aliases: set[Alias] = set()
        telefonos, groups, ids = set[str](), set[str](), set[str]()
        for _, event, _ in batch.messages:
            ids.add(text(event.key))
            if event.group_id:
                groups.add(short(event.group_id))
            else:
                aliases.update(aliases_of(event.scope, event.person))
                telefonos.add(telefono_of(event.person))
        rows = await tx.fetch(
            sql("lookup"),
            len(batch.bodies),
            list(ids),
            *columns(list(aliases), 3),
            list(telefonos),
            list(groups),
        )
        return Directory.from_rows(rows)

    def _place(self, batch: _Batch, directory: Directory) -> list[Written]:
        return [
            Written(
                event,
                content,
                directory.conversation_of(event, self._line(event.phone_number_id)),
                item.delivery,
                when(event, item.delivery),
            )
            for item, event, content in batch.messages
            if text(event.key) not in directory.known_messages
        ]


def when(event: Event, delivery: Delivery) -> datetime:
    """Return Meta's time where it can be true, else the time of receipt."""
    at = event.timestamp
    if at is None or not EARLIEST <= at <= delivery.received_at + AHEAD:
        return delivery.received_at
    return at


async def _forget_the_deleted(tx: Transaction, written: Sequence[Written]) -> None:
    wamids = [text(new.event.key) for new in written]
    await tx.fetch(sql("lock"), sorted(map(lock_key, wamids)))
    await tx.fetch(sql("forget"), [digest(wamid) for wamid in wamids], wamids)


async def _add_people(tx: Transaction, directory: Directory) -> None:
    arguments = directory.people_arguments()
    if arguments is None:
        return
    (row,) = await tx.fetch(sql("people"), *arguments)
    wanted = (len(directory.new_contacts), len(directory.new_aliases))
    if (row["contacts"], row["aliases"]) != wanted:
        raise Raced("another writer met the same person")


async def _write_statuses(tx: Transaction, batch: _Batch) -> list[Event]:
    if not batch.statuses:
        return []
    rows = [
        (
            key,
            _text(event.phone_number_id),
            _text(status.message_id),
            text(status.type),
            _text(status.status),
            _text(status.participant),
            event.timestamp,
            json_text(event.item),
            item.delivery.received_at,
            *progress(status),
            _text(status.error),
        )
        for key, (item, event) in batch.statuses.items()
        if (status := event.status)
    ]
    kept = await tx.fetch(sql("statuses"), *columns(rows, 12))
    return [batch.statuses[row["key"]][1] for row in kept]


async def _write_notices(tx: Transaction, batch: _Batch) -> None:
    if not batch.notices:
        return
    rows = [
        (key, text(event.kind), json_text(event.item), item.delivery.received_at)
        for key, (item, event) in batch.notices.items()
    ]
    await tx.fetch(sql("notices"), *columns(rows, 4))


async def _record(
    tx: Fetches,
    batch: _Batch,
    directory: Directory,
    written: Sequence[Written],
    told: Sequence[OutboxRow],
) -> None:
    bodies = [
        (batch.numbers[key], delivery.received_at, delivery.door.value, delivery.body)
        for key, delivery in batch.bodies.items()
    ]
    claims = sorted(digest(text(new.event.key)) for new in written)
    opened, touched = _conversations(directory, written)
    states = await _states_that_waited(tx, written)
    messages = [_message_row(new, states, batch.numbers) for new in written]
    message_columns = list(columns(messages, 15))
    await tx.fetch(
        sql("record"),
        *columns(bodies, 4),
        *columns([row[:7] for row in opened], 7),
        *columns(touched, 4),
        claims,
        *message_columns[:14],
        *columns(told, 4),
        len(claims),
        [estado for *_, estado in opened],
        message_columns[14],
    )


def _conversations(
    directory: Directory, written: Sequence[Written]
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    by_id: dict[UUID, tuple[str, datetime, datetime | None]] = {}
    for new in written:
        key = new.conversation.id
        preview, ts, inbound = by_id.get(key, ("", EARLIEST, None))
        if new.at >= ts:
            preview, ts = text(new.content.text)[:PREVIEW], new.at
        if _incoming(new.event):
            inbound = new.at if inbound is None else max(inbound, new.at)
        by_id[key] = (preview, ts, inbound)
    wrote = Counter(n.conversation.id for n in written if _incoming(n.event))
    opened: list[tuple[object, ...]] = [
        (c.id, c.contacto_id, c.telefono, c.line, *by_id[c.id], _estado(wrote[c.id]))
        for c in directory.opened
    ]
    fresh = {c.id for c in directory.opened}
    touched: list[tuple[object, ...]] = [
        (key, *by_id[key]) for key in sorted(by_id) if key not in fresh
    ]
    return opened, touched


def _estado(messages: int) -> str:
    # As if each had come in a batch of its own: the second one makes it active.
    return "activa" if messages > 1 else "nueva"


async def _states_that_waited(
    tx: Fetches, written: Sequence[Written]
) -> dict[str, tuple[str, str | None]]:
    outgoing = [text(new.event.key) for new in written if not _incoming(new.event)]
    if not outgoing:
        return {}
    rows = await tx.fetch(sql("statuses_waiting"), outgoing)
    return {row["wamid"]: (row["status"], row["error"]) for row in rows}


def _message_row(
    new: Written, states: dict[str, tuple[str, str | None]], numbers: dict[int, int]
) -> tuple[object, ...]:
    event, content, media = new.event, new.content, new.content.media
    wamid, incoming = text(event.key), _incoming(event)
    state, error = (None, None) if incoming else states.get(wamid, ("sent", None))
    delivery = new.delivery.id or numbers.get(id(new.delivery), 0)
    return (
        row_id(),
        new.conversation.id,
        text(content.text),
        content.tipo,
        "entrante" if incoming else "saliente",
        "contact" if incoming else "agent",
        _text(event.person.name) if incoming else None,
        new.at,
        wamid,
        _text(content.quoted_id),
        _text(media.mime_type) if media else None,
        _text(media.filename) if media else None,
        state,
        _metadata(event, delivery),
        _text(error),
    )


def _metadata(event: Event, delivery: int) -> str:
    head = orjson.dumps({"kind": event.kind, "delivery": delivery}).decode()
    return f'{head[:-1]},"item":{json_text(event.item)}}}'


def _incoming(event: Event) -> bool:
    return event.kind.startswith("message.")


def _notice_key(event: Event) -> str:
    return digest(f"{event.kind.partition('.')[0]}|{event.key}").hex()


def _text(value: str | None) -> str | None:
    return None if value is None else text(value)
