"""What a batch of events becomes, in one transaction.

Round trips of a batch, whatever its size:
  one     record.sql, a transaction by itself, when everybody is remembered (recall.py)
  two     lookup.sql before it, of those who are not
  more    begin and commit around them, and one trip each for new people, an opened
          conversation (a lock, and the lookup again), and states that waited for an echo
  once for a thousand bodies, or a minute, their numbers

Messages are told apart without locks: what is stored is looked for, and record.sql claims the
rest. Where another writer holds a claim, or changed a conversation, nothing is written and we
start over with a closer look. See docs/decisions/0003-dedupe.md.
"""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from router.conversation.decide import Decision
from router.conversation.owner import attended
from router.conversation.state import Conversation as State
from router.errors import Transient
from router.model import Event, Received
from router.store import changes, rows
from router.store.advance import NOBODY, Advance, Lenders
from router.store.aliases import (
    short,
)
from router.store.batch import Batch, Message, Written, incoming, when
from router.store.database import Database, Fetches, Transaction
from router.store.derivations import Areas, derived, hand_over, number_tickets
from router.store.dialect import PLAN, Dialect
from router.store.directory import Directory, look_up
from router.store.enrol import add_people, move_people
from router.store.failures import Raced
from router.store.identity import Change
from router.store.keys import digest, lock_key
from router.store.numbers import Numbers
from router.store.owed import Telling, owed
from router.store.people import BEGINNING, Conversation
from router.store.recall import Recall
from router.store.reservations import Reservations
from router.store.sql_files import sql
from router.store.statuses import States, with_reports
from router.whatsapp.shapes.aliases import line_of


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


class Outcome(NamedTuple):
    """What a batch came to."""

    written: list[Written]
    told: set[str]  # the destinations with outbox rows that nobody is lent yet


class Desk(Telling, Areas, Protocol):
    """Who knows what a message means: the bot, and who must be told of what."""

    def line_of(self, phone_number_id: str | None) -> str:
        """Return the name of the line that a message came in by."""

    def beginning(self, event: Event) -> State:
        """Return the state in which a conversation begins with *event*."""

    def decide(self, event: Event, before: State, now: datetime) -> Decision:
        """Return what follows from an inbound message in a conversation."""


class Ledger:
    """Writes events as rows: each once, all of a batch or nothing."""

    def __init__(
        self,
        database: Database,
        desk: Desk,
        dialect: Dialect = PLAN,
        lenders: Lenders = NOBODY,
    ) -> None:
        """Ask *desk* what each message means; the tables are in the words of *dialect*.

        *lenders* may lend outbox rows as they are written.
        """
        self._database, self._desk, self._dialect = database, desk, dialect
        self._lenders = lenders
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
        for tried, look in enumerate(LOOKS, start=1):
            try:
                return await self._write(batch, look)
            except BaseException as exc:
                self._recall.forget(batch)
                if not isinstance(exc, Raced) or tried == len(LOOKS):
                    raise
        raise AssertionError  # the loop returns or raises

    async def _write(self, batch: Batch, look: Look) -> Outcome:
        directory, sight = await self._directory(batch, look)
        written = self._place(batch, directory)
        if look is not Look.HOLD and _is_plain(batch, directory, written):
            work = _Work(batch, directory, written, sight)
            outcome = await self._record(self._database, work, self._lenders)
        else:
            async with self._database.transaction() as tx:
                if directory.unopened or directory.is_moving or look is Look.HOLD:
                    directory = await self._look_closer(tx, batch, directory, look)
                    written, sight = self._place(batch, directory), Sight.ALL
                await add_people(tx, directory.people)
                work = _Work(batch, directory, written, sight)
                outcome = await self._record_with_derivations(tx, work)
                if directory.is_moving:
                    await move_people(tx, directory, self._dialect)
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
                directory.read(
                    await look_up(self._database, strangers, [], self._dialect)
                )
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
        found = await look_up(tx, batch.messages, ids, self._dialect)
        return Directory.from_rows(found, self._dialect)

    def _place(self, batch: Batch, directory: Directory) -> list[Written]:
        now = datetime.now(UTC)
        written = [
            self._decided(message, directory, now)
            for message in batch.messages
            if message.wamid not in directory.known_messages
        ]
        if directory.people.has_renumbered:
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
        else:
            conversation.state = attended(before, message.content.text, at.timestamp())
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
        contact = directory.people.contact_of(
            event.person, message.aliases, message.kept, at
        )
        conversation = directory.conversation_of(contact, line)
        if message.changed is not None:
            change = Change(*message.new_names(), at)
            directory.people.change(contact, event.person, change)
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

    async def _record(
        self, tx: Fetches, work: "_Work", lenders: Lenders = NOBODY
    ) -> Outcome:
        batch, written = work.batch, work.written
        said, told = owed(batch, written, self._desk)
        advance = Advance(told, lenders)
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
        try:
            (recorded,) = await tx.fetch(
                self._dialect.sql("record"), *arguments, *advance.arguments()
            )
        except (Transient, asyncio.CancelledError):
            advance.unheard()
            raise
        for new in written:
            new.conversation.version = recorded["version"]
        lent = dict(
            zip(recorded["lent"] or (), recorded["lent_ids"] or (), strict=True)
        )
        return Outcome(written, advance.lend(lent))


@dataclass(slots=True)
class _Work:
    """A batch on its way into the tables."""

    batch: Batch
    directory: Directory
    written: list[Written]
    sight: Sight
    states: States = field(default_factory=dict)


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


async def _forget_the_deleted(tx: Transaction, batch: Batch) -> None:
    wamids = [message.wamid for message in batch.messages]
    await tx.fetch(sql("lock"), sorted(map(lock_key, wamids)))
    await tx.fetch(sql("forget"), [digest(wamid) for wamid in wamids], wamids)


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
