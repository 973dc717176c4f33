"""The router with one classic error put in: the test of the fault tests.

    python -m tests.faults.mutants NAME serve

All of them, `none` too, lend outbox rows for a shorter time, so that what a killed process
held is told again within a test's patience. The windows in which a kill does harm are held
open for WINDOW_S: that is what makes a few kills enough.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from router.cli import main
from router.model import Received
from router.queues.base import STORED
from router.queues.durable import DurableQueue
from router.queues.memory import MemoryQueue
from router.store import database, outbox, rows
from router.store.ledger import Ledger, Outcome
from router.store.loans import OutboxLease
from router.store.outbox import OutboxQueue
from router.store.rows import OutboxRow

WINDOW_S = 0.02
LEASE_S = 3.0

INSERT = """
insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
select destination, key, lane, payload, now(), 'pending'
from unnest($1::router.outbox_row[])"""
DONE = "update router.outbox set state = 'done' where id = any($1::bigint[])"


def none() -> None:
    """No error: what shows that a red run is the error's doing."""


def ack_on_enqueue() -> None:
    """200 as soon as the body is in a queue that forgets."""
    write = Ledger.write

    async def late(self: Ledger, received: Sequence[Received]) -> Outcome:
        await asyncio.sleep(WINDOW_S)
        return await write(self, received)

    MemoryQueue.durable = True
    Ledger.write = late  # type: ignore[method-assign]


def done_before_send() -> None:
    """The row is marked done when it is lent, before the POST."""
    lease = OutboxQueue.lease

    async def marked(self: OutboxQueue, limit: int) -> Sequence[OutboxLease]:
        leases = await lease(self, limit)
        await self._database.execute(DONE, [lent.item.id for lent in leases])
        await asyncio.sleep(WINDOW_S)
        return leases

    OutboxQueue.lease = marked  # type: ignore[method-assign]


def two_commits() -> None:
    """The message in one transaction, what must be told of it in the next."""
    write: Any = Ledger.write
    real: Any = rows.arguments
    later: list[OutboxRow] = []

    def without_outbox(*args: Any, **more: Any) -> tuple[Any, ...]:
        *before, told = args
        later[:] = told
        without: tuple[Any, ...] = real(*before, [], **more)
        return without

    async def in_two(self: Ledger, received: Sequence[Received]) -> Outcome:
        written: Outcome = await write(self, received)
        await asyncio.sleep(WINDOW_S)
        if later:
            await self._database.execute(INSERT, later)
        return written

    rows.arguments = without_outbox
    OutboxQueue.offer = lambda _: None  # type: ignore[assignment, method-assign]
    Ledger.write = in_two  # type: ignore[method-assign]


def no_fsync() -> None:
    """A commit is answered before it is on the disk."""
    database.SET_SESSION += ";\nset synchronous_commit = 'off'"


def ack_before_the_shelf() -> None:
    """200 as soon as a body is on its way to the shelf of a queue that is durable."""
    turn = DurableQueue._turn

    async def late(self: DurableQueue[Any]) -> None:
        await asyncio.sleep(WINDOW_S)
        await turn(self)

    async def put(self: DurableQueue[Any], item: Any, **more: Any) -> None:
        writing.add(asyncio.get_running_loop().create_task(real(self, item, **more)))
        await asyncio.sleep(0)

    writing: set[Any] = set()
    real: Any = DurableQueue.put
    DurableQueue._turn = late  # type: ignore[method-assign]
    DurableQueue.put = put  # type: ignore[method-assign]


def done_when_lent() -> None:
    """A durable queue forgets an item when it is lent, before its rows are committed."""
    lease: Any = DurableQueue.lease

    async def forgotten(self: DurableQueue[Any], limit: int) -> Any:
        leases = await lease(self, limit)
        for lent in leases:
            lent._loan.done(STORED)
            lent._loan.done = None
        await asyncio.sleep(3 * WINDOW_S)
        return leases

    DurableQueue.lease = forgotten  # type: ignore[method-assign]


MUTANTS = {
    mutant.__name__: mutant
    for mutant in (
        none,
        ack_on_enqueue,
        done_before_send,
        two_commits,
        no_fsync,
        ack_before_the_shelf,
        done_when_lent,
    )
}

if __name__ == "__main__":
    outbox.LEASE_S, outbox.MARGIN_S = LEASE_S, 1.0
    MUTANTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
