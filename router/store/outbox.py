"""The outbox as a queue: what one destination must still be told, lent from the database.

Rows come from the transaction that stores their message (record.sql), so `put` is nobody's:
whoever committed some calls `wake`. Rows of another process are found by looking once a
second. A row on loan has a token and an end, both in the row: a process that died frees
its rows by doing nothing, and one that only slept too long finds that its token no longer
counts. The database's clock is the only one.

Settling is a note in memory. The next `lease` writes all notes and then claims the next
rows; `flush` writes them without claiming. A note that is lost, or comes too late, means
that a destination is told again under the same webhook-id.

A `Gate` knows whether the destination is down. Then one row is lent, now and then, to see
whether it still is; an attempt on a row whose time had not come leaves the row as it was.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import itemgetter

from router import telemetry
from router.config import Destination
from router.errors import QueueClosed
from router.model import Attempt, Notification
from router.queues.base import QueueStats
from router.store.database import Database, Row
from router.store.gate import Gate, Open
from router.store.loans import Note, OutboxLease, note_rows
from router.store.pace import Pace
from router.store.reach import Reach
from router.store.sql_files import sql

LEASE_S = 25.0  # what a dead process held must be tried again within 30 s
MARGIN_S = 5.0  # from the last attempt's end to the row: a slow database's answer
POLL_S = 1.0  # another process may have committed rows, or died
CLAIM_BYTES = 1024 * 1024  # of payloads at once: a message may be 3 MB long
LOAN_BYTES = 8 * CLAIM_BYTES  # of payloads on loan to all readers together


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
        self._on_loan: dict[int, OutboxLease] = {}  # by the identity of the item
        self._notes: list[Note] = []
        self._unheard: dict[int, float] = {}  # tokens of claims whose answer was lost
        self._news = asyncio.Event()
        self._pace, self._gate = Pace(busy), gate or Open()
        self._reach, self._is_short = Reach(), False  # did the last claim get too few?
        self._wait_s = 0.0  # what the last look said: until the next one, or news
        self._due_at = self._idle_at = (
            0.0  # monotonic: the next row's time, the last look
        )
        self._turn = asyncio.Lock()  # one reader waits for rows, the others for it
        # Where a recovery has come to; without a time, at the beginning.
        self._forward: tuple[datetime | None, int] | None = None

    def wake(self) -> None:
        """Say that there may be something new, or something settled."""
        self._news.set()

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
        self._forward = (None, 0)
        self.wake()

    async def lease(self, limit: int) -> Sequence[OutboxLease]:
        """Write the notes down and lend 1 to *limit* rows, waiting for the first.

        Raises QueueClosed once the queue is closed, all that was lent is settled, and the
        notes are written; Transient while the database is away, notes kept.
        """
        async with self._turn:
            while True:
                if self.closed and not self._on_loan:
                    await self.flush()
                    raise QueueClosed(f"{self.name} is closed")
                await self._news_within(self._wait_s)
                room = await self._turn_of(limit)
                self._news.clear()
                leases, self._wait_s = await self._exchange(room)
                if leases:
                    return leases

    async def _turn_of(self, limit: int) -> int:
        # How many rows the next claim may take, once it is its time.
        if (pause_s := self._pace.pause_s()) > 0 and not self.closed:
            await asyncio.sleep(pause_s)
        return self._pace.claims(0 if self.closed else limit)

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
        self.wake()  # a reader that waits writes it down

    async def _exchange(self, limit: int) -> tuple[list[OutboxLease], float]:
        # Notes first, so that a claim sees which lanes they make free. Each statement is a
        # transaction: any of them may be lost, or heard of never, and written again.
        await self._write_notes()
        await self._release_unheard()
        if not limit:
            return [], POLL_S
        if (pause_s := self._gate.lends_in_s()) > 0:
            return [], pause_s
        if self._bytes_on_loan() >= LOAN_BYTES:
            return [], POLL_S  # or as soon as a loan ends
        if self._forward:
            await self._bring_some_forward(self._forward)
        if self._is_short and time.monotonic() >= self._idle_at + POLL_S:
            await self._idle()  # what it looked at may stand behind heads that wait
        leases, more = await self._claim(limit)
        self._is_short = 0 < len(leases) < limit
        if len(leases) == limit or more or self._forward:
            return leases, 0.0  # there may be more
        return leases, POLL_S if leases else await self._idle()

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
        pauses = [note.at + note.delay_s for note in notes if note.delay_s]
        self._due_at = min([self._due_at, *pauses])
        if left:
            telemetry.event(
                "leases_lost", level=logging.WARNING, queue=self.name, count=len(left)
            )

    async def _left_of(self, notes: list[Note]) -> list[Note]:
        taken = {row["id"] for row in await self._settle(notes)}
        return [note for note in notes if note.id not in taken]

    async def _settle(self, notes: Sequence[Note]) -> Sequence[Row]:
        return await self._database.fetch(sql("outbox_settle"), note_rows(notes))

    async def _release_unheard(self) -> None:
        # One that is older has come to its end by itself.
        oldest = time.monotonic() - self._lease_s
        tokens = [token for token, since in self._unheard.items() if since > oldest]
        if tokens:
            await self._database.fetch(
                sql("outbox_release"), self.destination.name, tokens
            )
        self._unheard = {
            token: since
            for token, since in self._unheard.items()
            if since > oldest and token not in tokens
        }

    async def _bring_some_forward(self, after: tuple[datetime | None, int]) -> None:
        rows = await self._database.fetch(
            sql("outbox_forward"), self.destination.name, *after
        )
        if self._forward is after:  # no other recovery began meanwhile
            self._forward = (rows[0][0], rows[0][1]) if rows else None

    async def _claim(self, limit: int) -> tuple[list[OutboxLease], bool]:
        # Lend rows; return also whether further lanes may be found by looking further.
        token = secrets.randbits(63)
        self._unheard[token] = time.monotonic()  # until the answer is heard
        name = self.destination.name
        more = False
        if probes := self._gate.probes:
            rows = await self._database.fetch(
                sql("outbox_probe"), name, token, self._lease_s
            )
        else:
            rows, more = await self._look(name, limit, token)
        leases = self._lend(token, rows)
        del self._unheard[token]
        if probes and leases:
            self._gate.probe(leases[0].item.id)
        return leases, more

    async def _look(self, name: str, limit: int, token: int) -> tuple[list[Row], bool]:
        window = self._reach.window(limit)
        try:
            rows = await self._database.fetch(
                *(sql("outbox_claim"), name, limit, token, self._lease_s, CLAIM_BYTES),
                *(self.destination.coalesce_statuses_s, window),
            )
        except BaseException:
            self._reach.failed()
            raise
        lent = [row for row in rows if row["id"] is not None]
        # Cut off by their bytes: more of them were there.
        is_cut = sum(len(row["payload"]) for row in lent) >= CLAIM_BYTES
        further = self._reach.saw(
            limit,
            looked_at=rows[0]["looked_at"],
            lanes=rows[0]["lanes"],
            rows=limit if is_cut else len(lent),
        )
        return lent, further or is_cut

    def _lend(self, token: int, rows: list[Row]) -> list[OutboxLease]:
        rows.sort(key=itemgetter("id"))  # a lane's order; RETURNING has none
        early = self._gate.probes and bool(rows) and rows[0]["early"]
        leases = [OutboxLease(self._item(row), token, self._end, early) for row in rows]
        self._on_loan.update({id(lease.item): lease for lease in leases})
        return leases

    async def _idle(self) -> float:
        # Once a second; what this process puts off meanwhile it knows by itself.
        now = time.monotonic()
        if now >= min(self._idle_at + POLL_S, self._due_at):
            has_come = now >= self._due_at  # since the claim, perhaps
            self._idle_at = now
            rows = await self._database.fetch(sql("outbox_idle"), self.destination.name)
            due_in_s = rows[0]["due_in_s"] if rows else None
            self._due_at = now + (math.inf if due_in_s is None else float(due_in_s))
            if has_come:
                return 0.0
        return max(min(self._due_at - now, POLL_S), 0.0)

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
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
