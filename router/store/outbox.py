"""The outbox as a queue: what one destination must still be told, lent from the database.

Rows come from the transaction that stores their message (record.sql), so `put` is nobody's:
whoever committed some lends them to a reader that waits (advance.py), or calls `wake`. Rows of
another process are found by looking once a second. A row on loan has a token and an end, both
in the row: a process that died frees its rows by doing nothing, and one that only slept too
long finds that its token no longer counts. The database's clock is the only one.

Settling is a note in memory. The next `lease` writes all notes and then claims the next
rows, if there may be any; `flush` writes them without claiming. A note that is lost, or comes
too late, means that a destination is told again under the same webhook-id.

A `Gate` knows whether the destination is down. Then one row is lent, now and then, to see
whether it still is; an attempt on a row whose time had not come leaves the row as it was.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Container, Sequence

from router import telemetry
from router.config import Destination
from router.errors import QueueClosed
from router.model import Attempt, Notification
from router.queues.base import QueueStats
from router.store.advance import Offer
from router.store.claims import CLAIM_BYTES, POLL_S, Claim, Claims
from router.store.database import Database, Row
from router.store.gate import Gate, Open
from router.store.loans import Note, OutboxLease, note_rows
from router.store.pace import Pace
from router.store.rows import OutboxRow
from router.store.sql_files import sql

LEASE_S = 25.0  # what a dead process held must be tried again within 30 s
MARGIN_S = 5.0  # from the last attempt's end to the row: a slow database's answer
LOAN_BYTES = 8 * CLAIM_BYTES  # of payloads on loan to all readers together
ADVANCE_S = 1.0  # from the offer to a reader: more would be missing at the loan's end


def lease_s(destination: Destination) -> float:
    """Return for how long a row is lent: longer than the attempts of its batch take.

    `router.stages.notify` ends every attempt within the larger of its BEGIN_S and
    `timeout_s` + LEAST_BEGIN_S; a test holds the two together.
    """
    return max(LEASE_S, destination.timeout_s + MARGIN_S + 1.0)


class OutboxQueue:
    """What one destination must still be told. Several readers may lease from it."""

    def __init__(
        self,
        database: Database,
        destination: Destination,
        busy: Callable[[], bool] = lambda: False,
        gate: Gate | None = None,
    ) -> None:
        """Lend the rows of *destination* as *gate* lets; slowly while the router is *busy*."""
        self.destination = destination
        self.name = f"outbox:{destination.name}"
        self.closed = False
        self._database = database
        self._lease_s = lease_s(destination)
        self._pace, self._gate = Pace(busy), gate or Open()
        self._claims = Claims(database, destination, self._gate, self._lease_s)
        self._on_loan: dict[int, OutboxLease] = {}  # by the identity of the item
        self._notes: list[Note] = []
        self._news = asyncio.Event()
        self._is_wanted = True  # a claim: there may be rows
        self._is_short = self._is_behind = False  # the last one got few; left some
        self._look_at = 0.0  # monotonic: the next claim without news
        self._turn = asyncio.Lock()  # one reader waits for rows, the others for it
        self._readers = self._limit = 0  # who wait, and for how many rows
        self._advanced: deque[OutboxLease] = deque()  # lent, for whoever comes next
        self._advances = asyncio.Event()

    def wake(self) -> None:
        """Say that there may be rows to claim."""
        self._is_wanted = True
        self._news.set()

    def offer(self) -> Offer | None:
        """Return what a reader would be lent at once; None: nobody waits, or others come first."""
        if self._is_behind or self._gate.probes or not self._pace.is_easy:
            return None
        room = self._limit - len(self._advanced)
        if not self._readers or room <= 0 or self.closed:
            return None
        if self._bytes_on_loan() >= LOAN_BYTES:
            return None
        return Offer(room, secrets.randbits(63), self._lease_s, time.monotonic())

    def lend(self, offer: Offer, rows: Sequence[tuple[int, OutboxRow]]) -> None:
        """Lend *rows*, each with its id, which are written as *offer* says."""
        for number, row in rows:
            item = Notification(
                id=number,
                destination=row.destination,
                key=row.key,
                lane=row.lane,
                payload=row.payload,
                attempts=0,
            )
            lease = OutboxLease(item, offer.token, self._end, since=offer.since)
            self._on_loan[id(item)] = lease
            self._advanced.append(lease)
        if rows:
            self._advances.set()
            self._news.set()

    def unheard(self, offer: Offer) -> None:
        """Hear that rows may have been written as *offer* says, and nobody knows which."""
        self._claims.unheard(offer.token, offer.since)
        self.wake()

    def record(
        self, notification: Notification, attempt: Attempt, *, counts: bool = True
    ) -> None:
        """Note an attempt on a row that is on loan: its lease, when settled, counts it."""
        if lease := self._on_loan.get(id(notification)):
            lease.tried, lease.free = attempt, not counts

    def end(self, notification: Notification, delay_s: float | None) -> None:
        """End a row's loan before its batch ends: told (None), or tried again so late."""
        if lease := self._on_loan.get(id(notification)):
            lease.end_now("done" if delay_s is None else "pending", delay_s)

    def end_unknown(self, notification: Notification) -> None:
        """End a row's loan: it may have been taken, and is never sent again."""
        if lease := self._on_loan.get(id(notification)):
            lease.end_now("unknown")

    def early(self, notification: Notification) -> bool:
        """Return whether *notification* is lent before its time, to see who answers."""
        lease = self._on_loan.get(id(notification))
        return lease is not None and lease.early

    def bring_forward(self) -> None:
        """Lend soon what waits for a later attempt: the destination is back."""
        self._claims.bring_forward()
        self.wake()

    async def lease(self, limit: int) -> Sequence[OutboxLease]:
        """Write the notes down and lend 1 to *limit* rows, waiting for the first.

        Raises QueueClosed once the queue is closed, all that was lent is settled, and the
        notes are written; Transient while the database is away, notes kept.
        """
        self._readers += 1
        self._limit = limit
        try:
            async with self._turn:
                while True:
                    if self.closed and not self._on_loan:
                        await self.flush()
                        raise QueueClosed(f"{self.name} is closed")
                    if leases := await self._rows(limit):
                        return leases
        finally:
            self._readers -= 1

    async def _rows(self, limit: int) -> list[OutboxLease]:
        await _set_within(self._news, self._look_at - time.monotonic())
        if (pause_s := self._pace.pause_s()) > 0 and not self.closed:
            await _set_within(self._advances, pause_s)
            if leases := self._take_advances(limit):
                return leases
        self._news.clear()
        claims = self._pace.claims(0 if self.closed else limit)
        try:
            leases = await self._exchange(claims)
        except BaseException:
            self._news.set()  # of which nothing became
            raise
        return leases + self._take_advances(limit - len(leases))

    def _take_advances(self, limit: int) -> list[OutboxLease]:
        taken: list[OutboxLease] = []
        oldest = time.monotonic() - ADVANCE_S
        while self._advanced and len(taken) < limit:
            lease = self._advanced.popleft()
            if lease.since > oldest:
                taken.append(lease)
            else:
                lease.nack()  # what is left of its loan is not enough
        self._give_back({lease.item.lane for lease in taken})
        if self._advanced:
            self._news.set()  # for the next reader
        else:
            self._advances.clear()
        return taken

    def _give_back(self, lanes: Container[str]) -> None:
        # Another reader would tell what stands behind rows that one has in hand.
        for lease in [it for it in self._advanced if it.item.lane in lanes]:
            self._advanced.remove(lease)
            lease.nack()

    async def flush(self) -> None:
        """Write down what was settled: for who stops, after the readers have ended."""
        self._give_back({lease.item.lane for lease in self._advanced})
        if self._notes or self._claims.has_unheard:
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
            size_bytes=self._bytes_on_loan(),
            bound=0,
            oldest_s=max((now - lease.since for lease in loans), default=0.0),
        )

    def _bytes_on_loan(self) -> int:
        return sum(len(lease.item.payload) for lease in self._on_loan.values())

    def _end(self, lease: OutboxLease, note: Note) -> None:
        if self._on_loan.pop(id(lease.item), None) is None:
            raise RuntimeError("this lease is settled already")
        self._notes.append(note)
        if note.attempt is None:
            self._gate.probe_untried(note.id)
        self._news.set()  # a reader that waits writes it down

    async def _exchange(self, limit: int) -> list[OutboxLease]:
        # Notes first, so that a claim sees which lanes they make free. Each statement is a
        # transaction: any of them may be lost, or heard of never, and written again.
        await self._write_notes()
        if self._claims.has_unheard:
            self._is_wanted |= await self._claims.release_unheard()
        if not limit:
            self._look_at = time.monotonic() + POLL_S
            return []
        if not self._is_wanted and time.monotonic() < self._look_at:
            return []
        self._is_wanted = False
        try:
            leases, wait_s = await self._look(limit)
        except BaseException:
            self._is_wanted = True
            raise
        self._look_at = time.monotonic() + wait_s
        return leases

    async def _look(self, limit: int) -> tuple[list[OutboxLease], float]:
        # Lend what is due; return also how long to wait without news.
        if (pause_s := self._gate.lends_in_s()) > 0:
            return [], pause_s
        if self._bytes_on_loan() >= LOAN_BYTES:
            self._is_wanted = True  # as soon as a loan ends
            return [], POLL_S
        if self._is_short and not self._claims.saw_all_lately:
            await self._idle()  # what it looked at may stand behind heads that wait
        claim = await self._claims.claim(limit)
        self._is_short, self._is_behind = claim.is_short, claim.more
        leases = self._lend(claim)
        if claim.more:
            return leases, 0.0
        return leases, self._claims.wait_s() if leases else await self._idle()

    async def _write_notes(self) -> None:
        if not (notes := self._notes):
            return
        self._notes, left = [], notes
        try:
            left = await self._left_of(left)
            if left:  # a row that somebody changed just then, or has: look again
                left = await self._left_of(left)
        except BaseException:
            self._notes[:0] = left
            raise
        for note in notes:
            if note.delay_s:
                self._claims.due_at(note.at + note.delay_s)
        self._is_wanted |= any(note.state != "done" for note in notes)
        if left:
            telemetry.event(
                "leases_lost", level=logging.WARNING, queue=self.name, count=len(left)
            )

    async def _left_of(self, notes: list[Note]) -> list[Note]:
        taken = {row["id"]: row["leads"] for row in await self._settle(notes)}
        self._is_wanted |= any(taken.values())
        return [note for note in notes if note.id not in taken]

    async def _settle(self, notes: Sequence[Note]) -> Sequence[Row]:
        return await self._database.fetch(sql("outbox_settle"), note_rows(notes))

    def _lend(self, claim: Claim) -> list[OutboxLease]:
        leases = [
            OutboxLease(self._item(row), claim.token, self._end, claim.early)
            for row in claim.rows
        ]
        self._on_loan.update({id(lease.item): lease for lease in leases})
        return leases

    async def _idle(self) -> float:
        return await self._claims.idle()

    def _item(self, row: Row) -> Notification:
        return Notification(
            id=row["id"],
            destination=self.destination.name,
            key=row["key"],
            lane=row["lane"],
            payload=row["payload"],
            attempts=row["attempts"],
        )


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    if seconds <= 0 or event.is_set():
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
