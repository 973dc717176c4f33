"""What a batch comes to, as the rows that record.sql takes.

Each row is a tuple in the order of its type in migrations/0002_router_tables.sql.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from router.conversation.state import OPEN
from router.conversation.state import Conversation as State
from router.model import Delivery
from router.store.batch import EARLIEST, Batch, Said, Written, incoming
from router.store.changes import tail
from router.store.dialect import CONVERSATION, MESSAGE, PLAN, STATUS, Dialect
from router.store.directory import Directory
from router.store.keys import digest, row_id
from router.store.metadata import attribution, of_message, of_reply
from router.store.people import Conversation
from router.store.statuses import States, progress
from router.whatsapp.storable import json_text, text

NEW = "nueva"
CALLBACK = "biz_opaque_callback_data"
REPLY_KEY = "psi_"  # before the id of a reply's row in mensajes: its outbox key
ROUTER = "Router PSI"  # mensajes.remitente_nombre of a reply
TEMPORARY = "/whatsapp_business/attachments/"  # in an address of WhatsApp's
PREVIEW = 500  # characters of conversaciones.ultimo_mensaje

Rows = list[tuple[object, ...]]


class OutboxRow(NamedTuple):
    """Something to tell: written with what it tells of, sent later."""

    destination: str
    key: str
    lane: str
    payload: bytes
    status: bytes | None = None  # key of the status that it tells of


def arguments(  # noqa: PLR0913, PLR0917 -- what a batch comes to
    batch: Batch,
    directory: Directory,
    written: Sequence[Written],
    said: Sequence[Said],
    states: States,
    told: Sequence[OutboxRow],
    *,
    looked_up: bool,
    dialect: Dialect = PLAN,
) -> tuple[Any, ...]:
    """Return the arguments of the `record` statement."""
    claims = sorted(digest(new.wamid) for new in written)
    opened, touched = conversations(directory, written)
    ids = [row_id() for _ in written]
    quotable = dict(zip((new.wamid for new in written), ids, strict=True))
    messages = [
        _message(key, new, states, batch, quotable)
        for key, new in zip(ids, written, strict=True)
    ]
    if said:
        messages += map(_reply, said)
    statuses = _statuses(batch)
    if not dialect.is_plain:
        stored = {new.conversation.id: new.conversation.stored for new in written}
        opened, touched = (
            [_in_words(row, stored, dialect) for row in rows]
            for rows in (opened, touched)
        )
        messages = [dialect.row(row, MESSAGE) for row in messages]
        statuses = [dialect.row(row, STATUS) for row in statuses]
    return (
        [_body(batch, delivery) for delivery in batch.bodies.values()],
        opened,
        touched,
        claims,
        messages,
        [] if looked_up else [new.wamid for new in written],
        statuses,
        _notices(batch),
        told,
        len(claims),
        len(touched),
    )


def _in_words(
    row: tuple[Any, ...],
    stored: Mapping[UUID, Mapping[str, str] | None],
    dialect: Dialect,
) -> tuple[Any, ...]:
    """Return a conversation's row in the table's words, and unchanged ones as they stand."""
    had = stored.get(row[0]) or {}
    return tuple(
        had.get(value) or dialect.write(CONVERSATION[n], value)
        if n in CONVERSATION
        else value
        for n, value in enumerate(row)
    )


def conversations(
    directory: Directory, written: Iterable[Written]
) -> tuple[Rows, Rows]:
    """Return the rows of the conversations to open and of those that go on."""
    changes: dict[UUID, _Change] = {}
    for new in written:
        key = new.conversation.id
        change = changes.get(key)
        if change is None:
            change = changes[key] = _Change(new.conversation, new.before)
        change.take(new)
    known = sorted(key for key, c in changes.items() if c.it.version is not None)
    return (
        [changes[it.id].row() for it in directory.opened],
        [changes[key].row() for key in known],
    )


class _Change:
    """What the messages of a batch make of one conversation."""

    __slots__ = (
        "before",
        "came_from",
        "derived_at",
        "inbound",
        "it",
        "preview",
        "referred",
        "ts",
        "wrote",
    )

    def __init__(self, it: Conversation, before: State) -> None:
        self.it, self.before = it, before
        self.preview, self.ts = "", EARLIEST
        self.inbound: datetime | None = None
        self.derived_at: datetime | None = None
        self.wrote = 0
        self.referred: datetime | None = None
        self.came_from: dict[str, Any] = {}

    def take(self, new: Written) -> None:
        if new.at >= self.ts:
            self.preview, self.ts = text(new.content.text)[:PREVIEW], new.at
        if incoming(new.event):
            self.wrote += 1
            self.inbound = new.at if self.inbound is None else max(self.inbound, new.at)
            if new.content.referral:
                self._refer(new.content.referral, new.at)
        if new.ticket:
            self.derived_at = new.delivery.received_at

    def _refer(self, referral: Mapping[str, Any], at: datetime) -> None:
        self.came_from |= attribution(referral)
        if "referral" in self.came_from:
            self.referred = at if self.referred is None else max(self.referred, at)

    def row(self) -> tuple[object, ...]:
        it, state = self.it, self.it.state
        if state.estado == NEW and self.wrote > (it.version is None):
            # The second message makes it active, in whatever batches they come.
            state = it.state = replace(state, estado=OPEN)
        return (
            it.id,
            it.version,
            it.contacto_id,
            it.telefono,
            it.line,
            state.area,
            state.estado,
            state.router_estado,
            state.submenu_actual,
            state.subetiqueta,
            state.ultima_derivacion,
            self.derived_at,
            state.asignado_a is None and self.before.asignado_a is not None,
            self._metadata(),
            self.preview,
            self.ts,
            self.inbound,
            self.referred,
        )

    def _metadata(self) -> str | None:
        memory = self.it.state.memory
        # A new one says that it knows of no reply yet.
        kept = memory is self.before.memory and self.it.version is not None
        if self.came_from:
            bot = {} if kept else {"bot": memory.to_json()}
            return json_text(self.came_from | bot)
        return None if kept else orjson.dumps({"bot": memory.to_json()}).decode()


def _body(batch: Batch, delivery: Delivery) -> tuple[object, ...]:
    number = batch.numbers[id(delivery)]
    return number, delivery.received_at, delivery.door.value, delivery.body


def _message(
    key: UUID, new: Written, states: States, batch: Batch, quotable: Mapping[str, UUID]
) -> tuple[object, ...]:
    event, content, media = new.event, new.content, new.content.media
    inbound = incoming(event)
    state, error = (None, None) if inbound else states.get(new.wamid, ("sent", None))
    quoted = _text(content.quoted_id)
    return (
        key,
        new.conversation.id,
        text(content.text),
        content.tipo,
        "entrante" if inbound else "saliente",
        "contact" if inbound else "agent",
        _text(event.person.name) if inbound else None,
        new.at,
        new.wamid,
        quoted,
        _text(media.mime_type) if media else None,
        _text(media.filename) if media else None,
        state,
        _text(error),
        of_message(new, batch.number_of(new.delivery)),
        _address(media.url) if media and media.url else None,
        quotable.get(quoted) if quoted else None,
        tail(quoted) if quoted else None,
    )


def _reply(said: Said) -> tuple[object, ...]:
    return (
        said.id,
        said.new.conversation.id,
        said.reply.text,
        "text",
        "saliente",
        "system",
        ROUTER,
        said.at,
        None,
        None,
        None,
        None,
        "pendiente" if said.sent else "no_enviado",
        None,
        of_reply(said),
        None,
        None,
        None,
    )


def _statuses(batch: Batch) -> Rows:
    return [
        (
            key,
            _text(event.phone_number_id),
            _text(status.message_id),
            text(status.type),
            _text(status.status),
            _text(status.participant),
            event.timestamp,
            json_text(event.item),
            delivery.received_at,
            *progress(status),
            _text(status.error),
            _reply_of(event.item),
        )
        for key, (event, delivery) in sorted(batch.statuses.items())
        if (status := event.status)
    ]


def _reply_of(item: Any) -> UUID | None:
    # What we asked WhatsApp to send back with the statuses of a reply: its outbox key.
    named = item.get(CALLBACK) if isinstance(item, dict) else None
    if not isinstance(named, str) or not named.startswith(REPLY_KEY):
        return None
    try:
        return UUID(named.removeprefix(REPLY_KEY))
    except ValueError:
        return None


def _notices(batch: Batch) -> Rows:
    return [
        (
            key,
            text(event.kind),
            json_text(event.item),
            delivery.received_at,
            (target := batch.targets.get(key)),
            tail(target),
        )
        for key, (event, delivery) in sorted(batch.notices.items())
    ]


def _address(url: str) -> str | None:
    # WhatsApp's own ends in five minutes, and opens with its token only.
    return None if TEMPORARY in url else text(url)


def _text(value: str | None) -> str | None:
    return None if value is None else text(value)
