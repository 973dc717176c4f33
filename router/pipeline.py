"""Which stage reads which queue, and the order in which they stop.

    ingress -> [inbox] -> normalize -> [events] -> persist ==> PostgreSQL (rows + outbox)
                                                      | wake
                                    one outbox a destination -> notify -> its URL

Stopping goes from front to back. A queue is closed when its writer has ended, and then its
reader is waited for; one time limit holds over all of it. The outbox is not drained: it is
durable, and the next process starts only when this one has ended. What is left in memory was
not answered 200, so whoever sent it sends it again.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router import telemetry
from router.config import Settings
from router.errors import Transient
from router.health import Health
from router.model import Delivery, Received
from router.queues.base import Queue
from router.queues.memory import MemoryQueue, WhenFull
from router.stages.base import Graveyard, Runner
from router.stages.normalize import Normalize
from router.stages.notify import Notify, Teller
from router.stages.persist import Lines, Persist, Told
from router.store.database import Database
from router.store.dead_letters import DeadLetters
from router.store.ledger import Ledger
from router.store.outbox import OutboxQueue
from router.supervisor import Supervisor

INBOX_BYTES = 12 * 1024 * 1024  # a little more than ingress lets in
EVENTS_BYTES = 4 * 1024 * 1024  # of bodies; as rows on their way they take ten times it
BUSY = 8  # events on their way into the database; five hundred a second make about two
LEAST_S = 0.5  # for the drain, when the requests in flight took all the time


@dataclass(frozen=True, slots=True)
class Link:
    """A worker and the queue it reads."""

    name: str
    source: Queue[Any]
    runner: Runner[Any, Any]


class Pipeline:
    """Everything between the inbox and the destinations."""

    def __init__(
        self, settings: Settings, database: Database, teller: Teller, health: Health
    ) -> None:
        """Lay the queues and stages out; nothing runs yet."""
        self._settings, self._health = settings, health
        self.supervisor = Supervisor(health)
        bury: Graveyard = DeadLetters(database).bury
        self.inbox: MemoryQueue[Delivery] = MemoryQueue(
            "inbox",
            bound=settings.queue_size,
            bound_bytes=INBOX_BYTES,
            when_full=WhenFull.REFUSE,
        )
        events: MemoryQueue[Received] = MemoryQueue(
            "events", bound=settings.queue_size, bound_bytes=EVENTS_BYTES
        )

        def busy() -> bool:
            return events.stats().unsettled > BUSY

        self.outboxes = [OutboxQueue(database, d, busy) for d in settings.destinations]
        told = Told(settings.destinations, Lines(settings.lines))
        ledger = Ledger(
            database,
            line=told.lines.name_of,
            tell=told.of_message,
            tell_status=told.of_status,
        )
        persist = Persist(ledger, told.lines, self._wake)
        self._front = (
            Link(
                "normalize", self.inbox, Runner(Normalize(), self.inbox, events, bury)
            ),
            Link("persist", events, Runner(persist, events, None, bury)),
        )
        self._back = tuple(
            Link(
                f"notify:{outbox.destination.name}",
                outbox,
                Runner(Notify(outbox.destination, teller, outbox), outbox, None, bury),
            )
            for outbox in self.outboxes
        )

    @property
    def queues(self) -> Sequence[Queue[Any]]:
        """Every queue, front to back."""
        return [link.source for link in (*self._front, *self._back)]

    async def start(self) -> None:
        """Start a worker for each stage, the last ones first."""
        for link in (*reversed(self._back), *reversed(self._front)):
            await self.supervisor.start(link.name, link.runner.run)

    async def drain(self) -> int:
        """Stop in order; return how many items were left unsettled in memory."""
        spent_s = self._health.stopping_for(time.monotonic())
        try:
            if self.supervisor.gave_up.is_set():
                return self._left()  # nobody would empty what a dead worker read
            async with asyncio.timeout(
                max(self._settings.drain_timeout_s - spent_s, LEAST_S)
            ):
                for link in self._front:
                    await link.source.close()
                    await self.supervisor.finished(link.name)
                for link in self._back:
                    await link.source.close()
                for link in self._back:
                    await self.supervisor.finished(link.name)
        except TimeoutError:
            telemetry.event("drain_timed_out", level=logging.WARNING)
        finally:
            await self.supervisor.close()
            await self._write_down_what_was_told()
        return self._left()

    async def _write_down_what_was_told(self) -> None:
        # What cannot be written is lent again when its lease is over, and told twice.
        try:
            async with asyncio.timeout(LEAST_S):
                for outbox in self.outboxes:
                    await outbox.flush()
        except (Transient, TimeoutError) as exc:
            telemetry.stage_waits("notify", exc)

    def _left(self) -> int:
        left = sum(link.source.stats().unsettled for link in self._front)
        telemetry.event("drained", left=left)
        return left

    def _wake(self, destinations: set[str]) -> None:
        for outbox in self.outboxes:
            if outbox.destination.name in destinations:
                outbox.wake()
