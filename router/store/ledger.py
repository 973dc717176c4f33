"""What a batch of events becomes, in one transaction.

Round trips of a batch, whatever its size:
  one     record.sql, a transaction by itself, when everybody is remembered (recall.py)
  two     lookup.sql before it, of those who are not
  more    begin and commit around them, and one trip each for new people, an opened
          conversation (a lock, and the lookup again), and states that waited for an echo
  once for a thousand bodies, their numbers

Messages are told apart without locks: what is stored is looked for, and record.sql claims the
rest. Where another writer holds a claim, or changed a conversation, nothing is written and we
start over with a closer look. See docs/decisions/0003-dedupe.md.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from router.conversation.decide import Decision
from router.conversation.state import Conversation as State
from router.model import Event, Person, Received, Reply
from router.store import changes, rows
from router.store.aliases import (
    Aliases,
    aliases_of,
    asked,
    kept_of,
    short,
    telefonos_asked,
)
from router.store.batch import Batch, Message, Said, Written, incoming, when
from router.store.database import Database, Row, Transaction
from router.store.derivations import TICKET, derived, hand_over, number_tickets
from router.store.dialect import PLAN, Dialect
from router.store.directory import Change, Directory, columns
from router.store.failures import Raced
from router.store.keys import digest, lock_key, row_id
from router.store.numbers import Numbers
from router.store.people import BEGINNING, Conversation
from router.store.recall import Recall
from router.store.reservations import Reservations
from router.store.rows import OutboxRow
from router.store.sql_files import sql
from router.store.statuses import States, with_reports
from router.whatsapp.shapes.aliases import line_of
from router.whatsapp.storable import text


class Look(enum.Enum):
    """How closely to look before writing."""

    RECALL = enum.auto()  # what we remember, and of strangers what the tables say
    LOOK_UP = enum.auto()  # what the tables say
    HOLD = enum.auto()  # what they say while nobody else may write it


class Sight(enum.Enum):
    """Of what a look read the tables."""

    NOBODY = enum.auto()
    STRANGERS = enum.auto()
    ALL = enum.auto()  # and whether the messages are there already


LOOKS = (Look.RECALL, Look.LOOK_UP, Look.HOLD, Look.HOLD, Look.HOLD)


class Fetches(Protocol):
    """A transaction, or the database, of which each statement is one."""

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run *sql* and return its rows."""


class Outcome(NamedTuple):
    """What a batch came to."""

    written: list[Written]
    told: set[str]  # the destinations that got outbox rows


class Desk(Protocol):
    """Who knows what a message means: the bot, and who must be told of what."""

    def line_of(self, phone_number_id: str | None) -> str:
        """Return the name of the line that a message came in by."""

    def beginning(self, event: Event) -> State:
        """Return the state in which a conversation begins with *event*."""

    def decide(self, event: Event, before: State, now: datetime) -> Decision:
        """Return what follows from an inbound message in a conversation."""

    def tell(self, new: Written) -> Iterable[OutboxRow]:
        """Return what a new message owes to whom."""

    def tell_status(self, event: Event) -> Iterable[OutboxRow]:
        """Return what a status owes to whom."""

    def send(self, said: Said) -> OutboxRow | None:
        """Return the row by which a reply goes out; None where it cannot."""

    def inbox_of(self, area: str) -> str | None:
        """Return the name of the destination that hears of an area's derivations."""

    def priority_of(self, event: Event, texts: Iterable[str]) -> str:
        """Return how urgent a ticket is, by what the person wrote."""


class Ledger:
    """Writes events as rows: each once, all of a batch or nothing."""

    def __init__(self, database: Database, desk: Desk, dialect: Dialect = PLAN) -> None:
        """Ask *desk* what each message means; the tables are in the words of *dialect*."""
        self._database, self._desk, self._dialect = database, desk, dialect
        self._recall = Recall()
        self._numbers, self._reserved = Numbers(database), Reservations()

    async def write(self, received: Sequence[Received]) -> Outcome:
        """Commit *received*; return the messages that are new, and who must be told.

        Raises Transient when the database must be waited for, Poison when something in
        the batch can never be stored. Either way nothing of it is.
        """
        batch = Batch.of(received)
        async with self._reserved.of(batch.exclusive):
            await self._numbers.number(batch)
            outcome = await self._look_and_write(batch)
            for key, delivery in batch.bodies.items():
                delivery.id = batch.numbers[key]
        return outcome

    async def _look_and_write(self, batch: Batch) -> Outcome:
        for look in LOOKS:
            try:
                return await self._write(batch, look)
            except BaseException as exc:
                self._recall.forget(batch)
                if not isinstance(exc, Raced) or look is LOOKS[-1]:
                    raise
        raise AssertionError  # the loop returns or raises

    async def _write(self, batch: Batch, look: Look) -> Outcome:
        directory, sight = await self._directory(batch, look)
        written = self._place(batch, directory)
        if look is not Look.HOLD and _is_plain(batch, directory, written):
            work = _Work(batch, directory, written, sight)
            outcome = await self._record(self._database, work)
        else:
            async with self._database.transaction() as tx:
                if directory.unopened or directory.is_moving or look is Look.HOLD:
                    directory = await self._look_closer(tx, batch, directory, look)
                    written, sight = self._place(batch, directory), Sight.ALL
                await _add_people(tx, directory)
                work = _Work(batch, directory, written, sight)
                outcome = await self._record_with_derivations(tx, work)
                if directory.is_moving:
                    await _move_people(tx, directory, self._dialect)
                if changed := _changed(batch, directory, written):
                    await changes.apply(tx, changed, self._dialect)
        if sight is Sight.NOBODY:
            self._recall.remember_messages(batch, directory)
        else:
            self._recall.remember(batch, directory)
        return outcome

    async def _directory(self, batch: Batch, look: Look) -> tuple[Directory, Sight]:
        directory = Directory(dialect=self._dialect)
        if look is Look.RECALL:
            strangers = self._recall.fill(directory, batch)
            if strangers:
                directory.read(await self._found(self._database, strangers, ids=[]))
                return directory, Sight.STRANGERS
            if strangers is not None:
                return directory, Sight.NOBODY
        return await self._look_up(self._database, batch), Sight.ALL

    async def _look_closer(
        self, tx: Transaction, batch: Batch, directory: Directory, look: Look
    ) -> Directory:
        # Everybody locks in one order: people, conversations, messages; record.sql too.
        if locks := directory.locks(everybody=look is Look.HOLD):
            await tx.fetch(sql("lock"), locks)
        directory = await self._look_up(tx, batch)
        if look is Look.HOLD:
            await tx.fetch(sql("hold"), directory.conversation_ids())
            await _forget_the_deleted(tx, batch)
            directory = await self._look_up(tx, batch)
        return directory

    async def _look_up(self, tx: Fetches, batch: Batch) -> Directory:
        ids = [message.wamid for message in batch.messages]
        found = await self._found(tx, batch.messages, ids)
        return Directory.from_rows(found, self._dialect)

    async def _found(
        self, tx: Fetches, messages: Sequence[Message], ids: list[str]
    ) -> list[Row]:
        names, telefonos, groups = set[str](), set[str](), set[str]()
        for message in messages:
            if message.event.group_id:
                groups.add(short(message.event.group_id))
                continue
            new = _new_names(message)
            for alias in (*message.aliases, *message.kept, *new):
                names.update(asked(alias))
            telefonos |= telefonos_asked(message.aliases)
            if new:
                telefonos |= telefonos_asked(new)
        lookup = self._dialect.sql("lookup")
        return await tx.fetch(lookup, ids, list(names), list(telefonos), list(groups))

    def _place(self, batch: Batch, directory: Directory) -> list[Written]:
        now = datetime.now(UTC)
        written = [
            self._decided(message, directory, now)
            for message in batch.messages
            if message.wamid not in directory.known_messages
        ]
        if directory.has_renumbered:
            directory.settle()
        return written

    def _decided(
        self, message: Message, directory: Directory, now: datetime
    ) -> Written:
        event, delivery = message.event, message.delivery
        at = when(event, delivery)
        conversation = self._conversation_of(message, directory, at)
        if conversation.state is BEGINNING:
            conversation.state = self._desk.beginning(event)
        before, decision = conversation.state, None
        if incoming(event):
            decision = self._desk.decide(event, before, now)
            conversation.state = decision.conversation
        return Written(
            event,
            message.content,
            conversation,
            delivery,
            at,
            message.wamid,
            before,
            decision,
        )

    def _conversation_of(
        self, message: Message, directory: Directory, at: datetime
    ) -> Conversation:
        event = message.event
        line = self._line_of(event)
        if event.group_id:
            return directory.conversation_of_group(short(event.group_id), line)
        contact = directory.contact_of(event.person, message.aliases, message.kept, at)
        conversation = directory.conversation_of(contact, line)
        if message.changed is not None:
            change = Change(*_new_names_of(message, message.changed), at)
            directory.change(contact, event.person, change)
        return conversation

    def _line_of(self, event: Event) -> str:
        # Bodies of n8n and the CRM say their line by its name.
        if event.phone_number_id is None and (name := line_of(event.item)):
            return short(name)
        return self._desk.line_of(event.phone_number_id)

    async def _record_with_derivations(self, tx: Transaction, work: "_Work") -> Outcome:
        work.states = await _states_that_waited(tx, work.batch, work.written)
        if not derived(work.written):
            return await self._record(tx, work)
        fresh = await number_tickets(tx, work.written, datetime.now(UTC), self._dialect)
        for new, _ in derived(work.written):
            after = new.conversation.state
            new.conversation.state = replace(after, ultima_derivacion=new.ticket)
        outcome = await self._record(tx, work)
        await hand_over(tx, work.written, fresh, self._desk, self._dialect)
        return outcome

    async def _record(self, tx: Fetches, work: "_Work") -> Outcome:
        batch, written = work.batch, work.written
        said, told = self._replies(written)
        told += [row for new in written for row in self._desk.tell(new)]
        if batch.statuses:
            told += self._of_statuses(batch, written)
        arguments = rows.arguments(
            batch,
            work.directory,
            written,
            said,
            work.states,
            told,
            looked_up=work.sight is Sight.ALL,
            dialect=self._dialect,
        )
        (recorded,) = await tx.fetch(self._dialect.sql("record"), *arguments)
        for new in written:
            new.conversation.version = recorded["version"]
        return Outcome(written, {row.destination for row in told})

    def _of_statuses(
        self, batch: Batch, written: Sequence[Written]
    ) -> Iterable[OutboxRow]:
        # One that comes with its message waits behind it; record.sql sees the earlier ones.
        lanes = {new.wamid: str(new.conversation.id) for new in written}
        for key, (event, _) in batch.statuses.items():
            for row in self._desk.tell_status(event):
                lane = lanes.get(_about(event), row.lane)
                yield row._replace(status=key, lane=lane)

    def _replies(
        self, written: Sequence[Written]
    ) -> tuple[list[Said], list[OutboxRow]]:
        said: list[Said] = []
        told: list[OutboxRow] = []
        now = datetime.now(UTC)
        for new in written:
            for reply in replies_of(new):
                # In the order in which they are said, also where a clock is coarse.
                at = now + len(said) * timedelta(microseconds=1)
                line = Said(row_id(), new, reply, at, sent=False)
                if row := self._desk.send(line):
                    told.append(row)
                    line = line._replace(sent=True)
                said.append(line)
        return said, told


@dataclass(slots=True)
class _Work:
    """A batch on its way into the tables."""

    batch: Batch
    directory: Directory
    written: list[Written]
    sight: Sight
    states: States = field(default_factory=dict)


def _about(event: Event) -> str:
    return text((event.status.message_id if event.status else None) or "")


def _new_names(message: Message) -> Aliases:
    if message.changed is None:
        return ()
    new, kept = _new_names_of(message, message.changed)
    return new + kept


def _new_names_of(message: Message, new: Person) -> tuple[Aliases, Aliases]:
    scope = message.event.scope
    return aliases_of(scope, new), kept_of(scope, new)


def _is_plain(batch: Batch, directory: Directory, written: Sequence[Written]) -> bool:
    # One statement is enough.
    simple = directory.knows_everybody and not batch.has_outgoing
    return simple and not (batch.targets or directory.waiting or derived(written))


def _changed(
    batch: Batch, directory: Directory, written: Sequence[Written]
) -> list[str]:
    """Return the messages that something was said of, perhaps before they came."""
    late = [
        new.wamid
        for new in written
        if new.wamid in directory.waiting or not incoming(new.event)
    ]
    return sorted({*batch.targets.values(), *late})


def replies_of(new: Written) -> Sequence[Reply]:
    """Return what is said after a message, the ticket's number filled in."""
    if new.decision is None:
        return ()
    derivation = new.decision.derivation
    if derivation is None or new.ticket is None:
        return new.decision.replies
    confirmed = derivation.confirmation.replace(TICKET, new.ticket)
    return (*new.decision.replies, Reply(text=confirmed))


async def _forget_the_deleted(tx: Transaction, batch: Batch) -> None:
    wamids = [message.wamid for message in batch.messages]
    await tx.fetch(sql("lock"), sorted(map(lock_key, wamids)))
    await tx.fetch(sql("forget"), [digest(wamid) for wamid in wamids], wamids)


async def _add_people(tx: Transaction, directory: Directory) -> None:
    for contact, telefono in directory.renumbered:
        await tx.fetch(sql("renumber"), contact, telefono)
    arguments = directory.people_arguments()
    if arguments is None:
        return
    (row,) = await tx.fetch(sql("people"), *arguments)
    wanted = (len(directory.new_contacts), len(directory.new_aliases))
    if (row["contacts"], row["aliases"]) != wanted:
        raise Raced("another writer met the same person")


async def _move_people(tx: Transaction, directory: Directory, dialect: Dialect) -> None:
    """Write which names passed to whom, and who turned out to be one."""
    given = {
        **directory.moved,
        **{a: directory.by_alias[a] for a in directory.left_now},
    }
    if given:
        aliases = [(*a, c.id, directory.left.get(a)) for a, c in given.items()]
        await tx.fetch(sql("realias"), *columns(aliases, 5))
    if directory.adopted:
        pairs = [(c.id, c.contacto_id) for c in directory.adopted]
        await tx.fetch(sql("adopt"), *columns(pairs, 2))
    for loser, survivor, open_one, telefono in directory.merges:
        kept_open = open_one.id if open_one else None
        await tx.fetch(
            sql("merge"), loser.id, survivor.id, kept_open, telefono, loser.plain
        )
    involved = [(c.id, telefono) for c, telefono in directory.involved.items()]
    if involved:
        await tx.fetch(dialect.sql("touch"), *columns(sorted(involved), 2))


async def _states_that_waited(
    tx: Fetches, batch: Batch, written: Sequence[Written]
) -> States:
    outgoing = [new.wamid for new in written if not incoming(new.event)]
    if not outgoing:
        return {}
    found = await tx.fetch(sql("statuses_waiting"), outgoing)
    states: States = {row["wamid"]: (row["status"], row["error"]) for row in found}
    # Some may have come together with their message.
    reports = [event.status for event, _ in batch.statuses.values() if event.status]
    return with_reports(states, reports, set(outgoing))
