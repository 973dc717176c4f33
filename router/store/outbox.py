"""The outbox as a queue: what one destination must still be told, lent from the database.

Rows come from the transaction that stores their message (record.sql), so `put` is nobody's:
whoever committed some calls `wake`. Rows of another process are found by looking once a
second. A row on loan has a token and an end, both in the row: a process that died frees
its rows by doing nothing, and one that only slept too long finds that its token no longer
counts. The database's clock is the only one.

Settling is a note in memory. The next `lease` writes all notes and claims the next rows in
one transaction; `flush` writes them without claiming. A note that is lost, or comes too
late, means that a destination is told again under the same webhook-id.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from router import telemetry
from router.config import Destination
from router.errors import QueueClosed
from router.model import Attempt, Notification
from router.queues.base import STORED, QueueStats, Settled, Tally
from router.store.database import Database, Row, Transaction
from router.store.sql_files import sql

LEASE_S = 25.0  # what a dead process held must be tried again within 30 s
MARGIN_S = 5.0  # from the last attempt's end to the row: a slow database's answer
POLL_S = 1.0  # another process may have committed rows, or died
PACE_S = 0.02  # between two claims
YIELD_S = 0.25  # between two claims while senders wait
CLAIM_BYTES = 1024 * 1024  # of payloads at once: a message may be 3 MB long
TEXT_CHARS = 500  # of an answer or an error


def lease_s(destination: Destination) -> float:
    """Return for how long a row is lent: longer than the attempts of its batch take.

    `router.stages.notify` ends every attempt within the larger of its BEGIN_S and
    `timeout_s` + LEAST_BEGIN_S; a test holds the two together.
    """
    return max(LEASE_S, destination.timeout_s + MARGIN_S + 1.0)


@dataclass(frozen=True, slots=True)
class _Note:
    """How a loan ended, until it is written down."""

    id: int
    token: int
    state: str
    delay_s: float | None  # None: keep the place
    at: float  # monotonic
    attempt: Attempt | None


@dataclass(slots=True)
class OutboxLease:
    """One row on loan; settling it twice is a bug and raises RuntimeError."""

    item: Notification
    _token: int
    _queue: "OutboxQueue"
    _since: float = field(default_factory=time.monotonic)
    _attempt: Attempt | None = None

    @property
    def attempt(self) -> int:
        """1 on the first loan, one more after each attempt that was made."""
        return self.item.attempts + 1

    def ack(self, tally: Tally = STORED) -> None:
        """End the loan: the destination was told."""
        del tally
        self._end("done")

    def nack(self, delay_s: float = 0.0) -> None:
        """End the loan: without a delay the row keeps its place."""
        self._end("pending", delay_s or None)

    def bury(self, reason: str) -> None:
        """End the loan: whoever buries has written *reason* down already."""
        del reason
        self._end("dead")

    def _end(self, state: str, delay_s: float | None = None) -> None:
        self._queue._end(  # noqa: SLF001 -- one module
            self,
            _Note(
                self.item.id,
                self._token,
                state,
                delay_s,
                time.monotonic(),
                self._attempt,
            ),
        )


class OutboxQueue:
    """What one destination must still be told. Several readers may lease from it."""

    durable = True

    def __init__(
        self,
        database: Database,
        destination: Destination,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Lend the rows of *destination*, more slowly while the router is *busy*."""
        self.destination = destination
        self.name = f"outbox:{destination.name}"
        self.closed = False
        self._database = database
        self._lease_s = lease_s(destination)
        self._on_loan: dict[int, OutboxLease] = {}  # by the identity of the item
        self._notes: list[_Note] = []
        self._unheard: list[int] = []  # tokens of claims whose answer was lost
        self._news = asyncio.Event()
        self._busy = busy
        self._exchanged = 0.0  # monotonic

    def wake(self) -> None:
        """Say that there may be something new, or something settled."""
        self._news.set()

    async def put(
        self,
        item: Notification,
        *,
        lane: str = "",
        size: int = 0,
        settled: Settled | None = None,
    ) -> None:
        """Raise RuntimeError: rows are written with their message, never by themselves."""
        del item, lane, size, settled
        raise RuntimeError("an outbox row is written in its message's transaction")

    def record(self, notification: Notification, attempt: Attempt) -> None:
        """Note an attempt on a row that is on loan: its lease, when settled, counts it."""
        if lease := self._on_loan.get(id(notification)):
            lease._attempt = attempt  # noqa: SLF001 -- one module

    async def lease(self, limit: int) -> Sequence[OutboxLease]:
        """Write the notes down and lend 1 to *limit* rows, waiting for the first.

        Raises QueueClosed once the queue is closed, all that was lent is settled, and the
        notes are written; Transient while the database is away, notes kept.
        """
        while True:
            await self._pace()
            self._news.clear()
            if self.closed and not self._on_loan:
                await self.flush()
                self.wake()  # another reader that waits
                raise QueueClosed(f"{self.name} is closed")
            leases, pause_s = await self._exchange(0 if self.closed else limit)
            if leases:
                return leases
            await self._news_within(pause_s)

    async def _pace(self) -> None:
        # A claim costs the database a millisecond, and a notification the loop three times
        # what a message does: so a few rows at a time, and while senders wait for their
        # commits, fewer still. They are answered first; what is to be told is durable.
        least_s = YIELD_S if self._busy() else PACE_S
        pause_s = self._exchanged + least_s - time.monotonic()
        if pause_s > 0 and not self.closed:
            await asyncio.sleep(pause_s)
        self._exchanged = time.monotonic()

    async def flush(self) -> None:
        """Write down what was settled: for who stops, after the readers have ended."""
        if self._notes or self._unheard:
            await self._exchange(0)

    async def close(self) -> None:
        """Lend nothing more, and let no new attempt begin."""
        self.closed = True
        self.wake()

    def stats(self) -> QueueStats:
        """Return what this process holds; the backlog is in the table, not here."""
        loans = self._on_loan.values()
        now = time.monotonic()
        return QueueStats(
            depth=0,
            unsettled=len(loans) + len(self._notes),
            size_bytes=sum(len(lease.item.payload) for lease in loans),
            bound=0,
            oldest_s=max((now - lease._since for lease in loans), default=0.0),  # noqa: SLF001
        )

    def _end(self, lease: OutboxLease, note: _Note) -> None:
        if self._on_loan.pop(id(lease.item), None) is None:
            raise RuntimeError("this lease is settled already")
        self._notes.append(note)
        if self.closed:
            self.wake()

    async def _exchange(self, limit: int) -> tuple[list[OutboxLease], float]:
        # All in one transaction, so that a claim sees which lanes the notes make free.
        notes, unheard = self._notes, self._unheard
        self._notes, self._unheard = [], []
        leases: list[OutboxLease] = []
        pause_s = POLL_S
        try:
            async with self._database.transaction() as transaction:
                await self._write(transaction, notes, unheard)
                if limit:
                    leases = await self._claim(transaction, limit, unheard)
                if limit and not leases:
                    pause_s = await self._idle(transaction)
        except BaseException:
            self._notes[:0], self._unheard[:0] = notes, unheard
            raise
        return self._lend(leases, limit), pause_s

    async def _write(
        self, transaction: Transaction, notes: list[_Note], unheard: list[int]
    ) -> None:
        if unheard:
            name = self.destination.name
            await transaction.fetch(sql("outbox_release"), name, unheard)
        if not notes:
            return
        taken = await transaction.fetch(sql("outbox_settle"), *_columns(notes))
        if late := len(notes) - len(taken):
            telemetry.event(
                "leases_lost", level=logging.WARNING, queue=self.name, count=late
            )

    async def _claim(
        self, transaction: Transaction, limit: int, unheard: list[int]
    ) -> list[OutboxLease]:
        token = secrets.randbits(63)
        unheard.append(token)  # until the transaction's end is heard
        rows = await transaction.fetch(
            sql("outbox_claim"),
            self.destination.name,
            limit,
            token,
            self._lease_s,
            CLAIM_BYTES,
        )
        rows.sort(key=itemgetter("id"))  # a lane's order; RETURNING has none
        return [OutboxLease(self._item(row), token, self) for row in rows]

    async def _idle(self, transaction: Transaction) -> float:
        rows = await transaction.fetch(sql("outbox_idle"), self.destination.name)
        return min(POLL_S, float(rows[0]["due_in_s"])) if rows else POLL_S

    def _lend(self, leases: list[OutboxLease], limit: int) -> list[OutboxLease]:
        self._on_loan.update({id(lease.item): lease for lease in leases})
        if leases and len(leases) == limit:
            self.wake()  # there may be more, for another reader
        return leases

    def _item(self, row: Row) -> Notification:
        return Notification(
            id=row["id"],
            destination=self.destination.name,
            key=row["key"],
            lane=row["lane"],
            payload=row["payload"],
            attempts=row["attempts"],
        )

    async def _news_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return


def _columns(notes: Iterable[_Note]) -> list[tuple[Any, ...]]:
    now = time.monotonic()
    return list(zip(*(_values(note, now) for note in notes), strict=True))


def _values(note: _Note, now: float) -> tuple[Any, ...]:
    attempt = note.attempt or Attempt()
    return (
        note.id,
        note.token,
        note.state,
        note.delay_s,
        now - note.at,
        note.attempt is not None,
        attempt.status,
        attempt.latency_ms,
        _start(attempt.answer),
        _start(attempt.error),
    )


def _start(text: str | None) -> str | None:
    return None if text is None else text[:TEXT_CHARS].replace("\0", "\ufffd")
