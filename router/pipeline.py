"""Which stage reads which queue, and the order in which they stop.

    ingress -> [inbox] -> normalize -> [events] -> persist ==> PostgreSQL (rows + outbox)
                                                      | wake
                                    one outbox a destination -> notify -> its URL

Stopping goes from front to back. A queue is closed when its writer has ended, and then its
reader is waited for; one time limit holds over all of it. The outbox is not drained: it is
durable, and the next process starts only when this one has ended. Nor is an inbox that is
durable by itself. What is left in memory alone was not answered 200, so whoever sent it sends
it again.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from router import telemetry
from router.config import Destination, Settings, Storage
from router.destinations.circuit import BREAKER, Circuit, State
from router.destinations.governor import Governor
from router.destinations.graph import GraphClient, GraphTeller
from router.destinations.media import MediaClient
from router.destinations.media_policy import SCHEDULE_S as MEDIA_SCHEDULE_S
from router.destinations.media_teller import MediaTeller
from router.destinations.storage import FileStore
from router.errors import Transient
from router.health import Health
from router.model import Delivery, Received
from router.queues.base import Queue, Source
from router.queues.durable import DurableQueue
from router.queues.inbox import inbox
from router.queues.memory import MemoryQueue
from router.stages.base import Graveyard, Runner
from router.stages.desk import BULK, MEDIA, WHATSAPP, Desk
from router.stages.normalize import Normalize
from router.stages.notify import Notify, Teller
from router.stages.persist import Persist
from router.stages.quarantine import of_this_process
from router.store import dialect
from router.store.backlog import Backlog
from router.store.database import Database
from router.store.dead_letters import DeadLetters
from router.store.ledger import Ledger
from router.store.media import MediaQueue
from router.store.outbox import OutboxQueue
from router.store.replies import ReplyQueue
from router.store.writes import WatchedLedger
from router.supervisor import Supervisor

EVENTS_BYTES = 4 * 1024 * 1024  # of bodies; as rows on their way they take ten times it
# Each takes its share of what is unsettled: while one waits for its commit, the other makes
# the next batch (decision 0008).
WRITERS = 2
BUSY = 12  # events on their way into the database: more when it is behind, or under full load
READERS = 4  # of one destination: rows that hang hold up the batch of one of them
REPLY_SCHEDULE_S = (1, 5, 30, 120, 600)  # an answer is worth little after an hour
FILE_S = 60.0  # of one attempt: 100 MB, come and gone at 27 Mbit/s
FILES = 4  # fetched at the same time
LEAST_S = 0.5  # for the drain, when the requests in flight took all the time


@dataclass(frozen=True, slots=True)
class Files:
    """Who fetches the files of messages, and who keeps them."""

    client: MediaClient
    store: FileStore


@dataclass(frozen=True, slots=True)
class Link:
    """A worker and the queue it reads."""

    name: str
    source: Source[Any]
    runner: Runner[Any, Any]


class Pipeline:
    """Everything between the inbox and the destinations."""

    def __init__(  # noqa: PLR0913 -- one for each way out
        self,
        settings: Settings,
        database: Database,
        teller: Teller,
        health: Health,
        graph: GraphClient | None = None,
        *,
        files: Files | None = None,
    ) -> None:
        """Lay the queues and stages out; nothing runs yet.

        Replies go out by *graph*; the files of messages come in by *files*.
        """
        self._settings, self._health = settings, health
        self.supervisor = Supervisor(health)
        bury: Graveyard = DeadLetters(database).bury
        self.inbox: Queue[Delivery] = inbox(settings, health.queue_says)
        events: MemoryQueue[Received] = MemoryQueue(
            "events",
            bound=settings.queue_size,
            bound_bytes=EVENTS_BYTES,
            share=1 / WRITERS,
        )

        def busy() -> bool:
            return events.stats().unsettled > BUSY

        circuits = [self._circuit(d) for d in settings.destinations]
        self.outboxes: list[OutboxQueue] = [
            OutboxQueue(database, d, busy, circuit)
            for d, circuit in zip(settings.destinations, circuits, strict=True)
        ]
        desk = Desk(settings)
        lenders = {outbox.destination.name: outbox for outbox in self.outboxes}
        ledger = Ledger(database, desk, dialect.load(settings.dialect), lenders)
        persist = Persist(
            WatchedLedger(ledger, health), desk.lines.notice_unknown, self._wake
        )
        # What ends the process is known by its body when it comes again.
        quarantine = of_this_process(settings.runtime_directory)
        reads = quarantine.watch(Normalize(), [0], attrgetter("body"))
        hands = range(1, 1 + WRITERS)
        writes = quarantine.watch(persist, hands, attrgetter("delivery.body"))
        writer = Runner(writes, events, None, bury)  # whom one suspects, all do
        self._front = (
            Link("normalize", self.inbox, Runner(reads, self.inbox, events, bury)),
            *(Link(name, events, writer) for name in _workers("persist", WRITERS)),
        )
        stages = [
            Notify(outbox.destination, teller, outbox, circuit)
            for outbox, circuit in zip(self.outboxes, circuits, strict=True)
        ]
        if graph is not None:
            pace = governor(settings)
            stages += [
                self._replies(name, database, graph, pace) for name in (WHATSAPP, BULK)
            ]
        if files is not None and settings.storage is not None:
            stages.append(self._media(settings.storage, database, files, busy))
        self._back = tuple(
            Link(name, outbox, Runner(notify, outbox, None, bury))
            for outbox, notify in zip(self.outboxes, stages, strict=True)
            for name in _workers(
                f"notify:{outbox.destination.name}",
                min(READERS, outbox.destination.concurrency),
            )
        )
        self._backlog = Backlog(
            database, [outbox.destination.name for outbox in self.outboxes]
        )

    def _replies(
        self, name: str, database: Database, graph: GraphClient, pace: Governor
    ) -> Notify:
        whatsapp = Destination(
            name=name,
            url=self._settings.graph_url,
            timeout_s=self._settings.destination_timeout_s,
            retry_schedule_s=REPLY_SCHEDULE_S,
        )
        circuit = self._circuit(whatsapp)
        outbox = ReplyQueue(database, whatsapp, gate=circuit)
        self.outboxes.append(outbox)
        teller = GraphTeller(graph, pace, about_to_send=outbox.about_to_send)
        return Notify(whatsapp, teller, outbox, circuit)

    def _media(
        self,
        storage: Storage,
        database: Database,
        files: Files,
        busy: Callable[[], bool],
    ) -> Notify:
        media = Destination(
            name=MEDIA,
            url=self._settings.graph_url,
            timeout_s=FILE_S,
            retry_schedule_s=MEDIA_SCHEDULE_S,
            concurrency=FILES,
        )
        circuit = self._circuit(media)
        outbox = MediaQueue(database, media, busy, circuit)
        self.outboxes.append(outbox)
        teller = MediaTeller(
            files.client,
            files.store,
            url=storage.url,
            most=storage.max_bytes,
            stop=outbox.closing,
        )
        return Notify(media, teller, outbox, circuit)

    def _circuit(self, destination: Destination) -> Circuit:
        gauge = BREAKER.labels(destination.name)

        def changed(state: State) -> None:
            gauge.set(state)
            self._health.destinations[destination.name] = state.name.lower()
            telemetry.event(
                "circuit", destination=destination.name, state=state.name.lower()
            )

        gauge.set(State.CLOSED)
        self._health.destinations[destination.name] = State.CLOSED.name.lower()
        return Circuit(destination.concurrency, changed=changed)

    @property
    def queues(self) -> Sequence[Source[Any]]:
        """Every queue, front to back."""
        front = dict.fromkeys(link.source for link in self._front)
        return [*front, *self.outboxes]

    async def start(self) -> None:
        """Start a worker for each stage, the last ones first."""
        if isinstance(self.inbox, DurableQueue):
            await self.supervisor.start(self.inbox.name, self.inbox.run)
        for link in (*reversed(self._back), *reversed(self._front)):
            await self.supervisor.start(link.name, link.runner.run)
        await self.supervisor.start("backlog", self._backlog.run)

    async def drain(self) -> int:
        """Stop in order; return how many items were left unsettled in memory."""
        spent_s = self._health.stopping_for(time.monotonic())
        try:
            if self.supervisor.gave_up.is_set():
                return self._left()  # nobody would empty what a dead worker read
            limit_s = self._settings.drain_timeout_s - spent_s
            if self.inbox.durable and self._health.store_problem is not None:
                limit_s = LEAST_S  # what cannot be stored now, the next process will
            async with asyncio.timeout(max(limit_s, LEAST_S)):
                for link in self._front:
                    await _end_of(link.source)
                    await self.supervisor.finished(link.name)
                for outbox in self.outboxes:
                    await outbox.close()
                for link in self._back:
                    await self.supervisor.finished(link.name)
        except TimeoutError:
            telemetry.event("drain_timed_out", level=logging.WARNING)
        finally:
            await self.supervisor.close()
            if isinstance(self.inbox, DurableQueue):
                await self.inbox.end()
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
        # What a durable inbox lent lies there still.
        front = dict.fromkeys(link.source for link in self._front)
        left = sum(
            source.stats().unsettled
            for source in front
            if not isinstance(source, DurableQueue)
        )
        kept = self.inbox.kept if isinstance(self.inbox, DurableQueue) else 0
        telemetry.event("drained", left=left, kept=kept)
        return left

    def _wake(self, destinations: set[str]) -> None:
        for outbox in self.outboxes:
            if outbox.destination.name in destinations:
                outbox.wake()


async def _end_of(source: Source[Any]) -> None:
    """Let the readers of *source* come to its end: a durable one keeps what is left."""
    if isinstance(source, DurableQueue):
        await source.leave()
    else:
        await source.close()


def governor(settings: Settings) -> Governor:
    """Return what keeps each of our numbers to the pace that its line is allowed."""
    first, *_ = settings.lines
    return Governor(
        number_per_s=first.messages_per_s,  # of numbers that no line names by their id
        own_per_s={
            line.phone_number_id: line.messages_per_s
            for line in settings.lines
            if line.phone_number_id
        },
    )


def _workers(name: str, count: int) -> list[str]:
    return [name, *(f"{name}:{n}" for n in range(2, count + 1))]
