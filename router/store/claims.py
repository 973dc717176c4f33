"""Rows of the outbox, lent by claims: which of one destination are due, and how far to look.

Each statement is a transaction by itself. One whose answer was lost may have lent rows to
nobody: its token is kept until they are given back.
"""

import math
import secrets
import time
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple

from router.config import Destination
from router.store.database import Database, Row
from router.store.gate import Gate
from router.store.reach import Reach
from router.store.sql_files import sql

POLL_S = 1.0  # another process may have committed rows, or died
CLAIM_BYTES = 1024 * 1024  # of payloads at once: a message may be 3 MB long


class Claim(NamedTuple):
    """What one claim came to."""

    token: int
    rows: list[Row]  # in their order
    early: bool  # lent before its time, to see who answers
    is_short: bool  # fewer than were asked for, but some
    more: bool  # others may be due


class Claims:
    """Claims on the rows of one destination."""

    def __init__(
        self, database: Database, destination: Destination, gate: Gate, lease_s: float
    ) -> None:
        """Lend rows for *lease_s*; only one, to see who answers, where *gate* says so."""
        self._database, self._destination, self._gate = database, destination, gate
        self._lease_s = lease_s
        self._reach = Reach()
        self._unheard: dict[int, float] = {}  # tokens, since when
        # Monotonic: the next row's time, the last look.
        self._due_at = self._idle_at = 0.0
        # Where a recovery has come to; without a time, at the beginning.
        self._forward: tuple[datetime | None, int] | None = None

    @property
    def has_unheard(self) -> bool:
        """Whether some rows may be lent to nobody."""
        return bool(self._unheard)

    @property
    def saw_all_lately(self) -> bool:
        """Whether the last look for what is due later is no second old."""
        return time.monotonic() < self._idle_at + POLL_S

    def unheard(self, token: int, since: float) -> None:
        """Hear that rows may be lent under *token*, and nobody knows which."""
        self._unheard[token] = since

    def due_at(self, moment: float) -> None:
        """Hear that a row is due at *moment*."""
        self._due_at = min(self._due_at, moment)

    def wait_s(self) -> float:
        """Return how long nothing more is due than was lent just now, as far as is known."""
        due_s = self._due_at - time.monotonic()
        return min(due_s, POLL_S) if due_s > 0 else POLL_S

    def bring_forward(self) -> None:
        """Lend soon what waits for a later attempt."""
        self._forward = (None, 0)

    async def release_unheard(self) -> bool:
        """Give back what is lent to nobody; return whether anything may be free now."""
        # One that is older has come to its end by itself.
        oldest = time.monotonic() - self._lease_s
        tokens = [token for token, since in self._unheard.items() if since > oldest]
        if tokens:
            await self._database.fetch(
                sql("outbox_release"), self._destination.name, tokens
            )
        self._unheard = {
            token: since
            for token, since in self._unheard.items()
            if since > oldest and token not in tokens
        }
        return bool(tokens)

    async def claim(self, limit: int) -> Claim:
        """Lend at most *limit* rows."""
        if self._forward:
            await self._bring_some_forward(self._forward)
        token = secrets.randbits(63)
        self._unheard[token] = time.monotonic()  # until the answer is heard
        probes, more = self._gate.probes, False
        if probes:
            rows = await self._database.fetch(
                sql("outbox_probe"), self._destination.name, token, self._lease_s
            )
        else:
            rows, more = await self._look(limit, token)
        del self._unheard[token]
        rows.sort(key=itemgetter("id"))  # a lane's order; RETURNING has none
        if probes and rows:
            self._gate.probe(rows[0]["id"])
        return Claim(
            token,
            rows,
            early=probes and bool(rows) and rows[0]["early"],
            is_short=0 < len(rows) < limit,
            more=more or len(rows) == limit or self._forward is not None,
        )

    async def idle(self) -> float:
        """Return how long nothing will be due, as far as is known, in seconds."""
        # Once a second; what this process puts off meanwhile it knows by itself.
        now = time.monotonic()
        if now >= min(self._idle_at + POLL_S, self._due_at):
            has_come = now >= self._due_at  # since the claim, perhaps
            self._idle_at = now
            rows = await self._database.fetch(
                sql("outbox_idle"), self._destination.name
            )
            due_in_s = rows[0]["due_in_s"] if rows else None
            self._due_at = now + (math.inf if due_in_s is None else float(due_in_s))
            if has_come:
                return 0.0
        return max(min(self._due_at - now, POLL_S), 0.0)

    async def _bring_some_forward(self, after: tuple[datetime | None, int]) -> None:
        rows = await self._database.fetch(
            sql("outbox_forward"), self._destination.name, *after
        )
        if self._forward is after:  # no other recovery began meanwhile
            self._forward = (rows[0][0], rows[0][1]) if rows else None

    async def _look(self, limit: int, token: int) -> tuple[list[Row], bool]:
        window = self._reach.window(limit)
        name, waits_s = self._destination.name, self._destination.coalesce_statuses_s
        try:
            rows = await self._database.fetch(
                *(sql("outbox_claim"), name, limit, token, self._lease_s),
                *(CLAIM_BYTES, waits_s, window),
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
