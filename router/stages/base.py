"""What a stage is, and the one loop that runs any of them.

A stage turns a batch into one outcome per item. It never loops, settles, retries or
sleeps: `run` does, the same way for all.

How the acknowledgement travels: what `handle` emits goes to the next queue. Where that
queue is durable, the lease upstream is settled as soon as the items are on it; where it
forgets on a crash, the lease is settled when the last of them is, with the sum of what
became of them. So a request is answered 200 when its rows are committed, and no stage has
to know why.

What goes wrong:
  Transient         the system's fault: the same batch again after a pause; nobody is buried
  Poison            some item's fault: halve the batch until the culprit stands alone; bury it
  anything else     a bug, or an item that trips one: give all back, let the worker die and be
                    started again, then try the same items one at a time; one that fails alone
                    again is buried with the bug's name
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from router import telemetry
from router.errors import Poison, QueueClosed, Transient
from router.queues.base import STORED, Lease, Queue, Source, Tally
from router.retry import Backoff

PATIENT = Backoff()
SUSPECT_ATTEMPTS = 3  # with the rest, alone, alone again: then it is the item

I = TypeVar("I")  # noqa: E741 -- in
I_contra = TypeVar("I_contra", contravariant=True)
O = TypeVar("O")  # noqa: E741 -- out
O_co = TypeVar("O_co", covariant=True)


class Passed(NamedTuple, Generic[O_co]):
    """One item on its way to the next queue."""

    item: O_co
    lane: str = ""
    size: int = 0


@dataclass(slots=True)  # frozen costs 1 us a message
class Emit(Generic[O_co]):
    """It worked; pass these on. Without any, *tally* is what became of the item."""

    items: Sequence[Passed[O_co]] = ()
    tally: Tally = STORED


@dataclass(frozen=True, slots=True)
class Again:
    """It may work later: give it back."""

    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Bury:
    """It never will."""

    reason: str


Outcome = Emit[O_co] | Again | Bury
Graveyard = Callable[[str, Any, str], Awaitable[None]]  # stage, item, reason


class Stage(Protocol[I_contra, O_co]):
    """A batch in, one outcome per item out, in the same order."""

    @property
    def name(self) -> str:
        """The name in logs and metrics."""

    @property
    def limit(self) -> int:
        """How many items make a full batch."""

    async def handle(self, batch: Sequence[I_contra], /) -> Sequence[Outcome[O_co]]:
        """Return what becomes of each item."""


class _Join:
    """Settles one lease upstream when all that came of it is settled."""

    __slots__ = ("_buried", "_lease", "_left", "_stored")

    def __init__(self, lease: Lease[Any], left: int) -> None:
        self._lease, self._left = lease, left
        self._stored = self._buried = 0

    def __call__(self, tally: Tally) -> None:
        self._stored += tally.stored
        self._buried += tally.buried
        self._left -= 1
        if not self._left:
            self._lease.ack(Tally(self._stored, self._buried))


@dataclass(slots=True)
class Runner(Generic[I, O]):
    """The loop around one stage: fetch, handle, settle, until *source* is closed.

    Several workers may run the same one.
    """

    stage: Stage[I, O]
    source: Source[I]
    sink: Queue[O] | None
    bury: Graveyard
    backoff: Backoff = PATIENT
    _suspects: int = 0  # items to try alone, since a worker died over them

    async def run(self) -> None:
        """Feed the stage until its source is closed and empty."""
        while True:
            try:
                await self.run_once()
            except QueueClosed:
                return

    async def run_once(self) -> None:
        """Take one batch through the stage; raise QueueClosed at the end."""
        alone = self._suspects > 0
        try:
            leases = await self.source.lease(1 if alone else self.stage.limit)
        except Transient as exc:  # a queue that lives on a server
            telemetry.stage_waits(self.stage.name, exc)
            await asyncio.sleep(self.backoff.cap_s)
            return
        if self._suspects and not alone:  # since another worker died, while we waited
            await self._each(leases)
        else:
            await self._process(leases, alone=alone)

    async def _each(self, leases: Sequence[Lease[I]]) -> None:
        tried = 0
        try:
            for lease in leases:
                tried += 1
                await self._process([lease], alone=True)
        finally:
            for lease in leases[tried:]:
                lease.nack()

    async def _process(self, leases: Sequence[Lease[I]], *, alone: bool) -> None:
        settled = 0
        try:
            started = time.perf_counter()
            outcomes = await self._outcomes(leases)
            telemetry.stage_took(self.stage.name, time.perf_counter() - started)
            for lease, outcome in zip(leases, outcomes, strict=True):
                if not self._settle_now(lease, outcome):
                    await self._settle(lease, outcome)
                settled += 1
            if alone:  # a batch that another worker had in hand clears nobody
                self._suspects = max(0, self._suspects - len(leases))
        except Exception:
            if not alone:  # else it is counted already
                self._suspects += len(leases) - settled
            raise
        finally:
            # Some are left only when the worker dies or is cancelled.
            for lease in leases[settled:]:
                lease.nack()

    async def _outcomes(self, leases: Sequence[Lease[I]]) -> Sequence[Outcome[O]]:
        attempt = 0
        while True:
            try:
                return await self.stage.handle([lease.item for lease in leases])
            except Transient as exc:
                attempt += 1
                telemetry.stage_waits(self.stage.name, exc)
                await asyncio.sleep(self.backoff.delay_s(attempt, random.random))
            except Poison as exc:
                return await self._without_the_culprit(leases, exc)
            except Exception as exc:
                (*others, lease) = leases
                if others or not self._suspects or lease.attempt < SUSPECT_ATTEMPTS:
                    raise
                telemetry.stage_buries_a_bug(self.stage.name, exc)
                return [Bury(f"bug: {type(exc).__name__}")]

    async def _without_the_culprit(
        self, leases: Sequence[Lease[I]], exc: Poison
    ) -> Sequence[Outcome[O]]:
        if len(leases) == 1:
            return [Bury(str(exc))]
        middle = len(leases) // 2
        first = await self._outcomes(leases[:middle])
        return [*first, *await self._outcomes(leases[middle:])]

    def _settle_now(self, lease: Lease[I], outcome: Outcome[O]) -> bool:
        # What nearly every item comes to, without a coroutine for each.
        if not isinstance(outcome, Emit) or len(outcome.items) > 1:
            return False
        if not outcome.items:
            lease.ack(outcome.tally)
            return True
        ((item, lane, size),) = outcome.items
        sink = self.sink
        if sink is None or sink.durable:
            return False
        return sink.put_nowait(item, lane=lane, size=size, settled=lease.ack)

    async def _settle(self, lease: Lease[I], outcome: Outcome[O]) -> None:
        match outcome:
            case Emit(items):
                await self._emit(lease, items)
            case Again(delay_s):
                lease.nack(delay_s)
            case Bury(reason):
                await self._durably(lease, reason)
                telemetry.buried(self.stage.name, reason)
                lease.bury(reason)

    async def _emit(self, lease: Lease[I], items: Sequence[Passed[O]]) -> None:
        if self.sink is None:
            raise TypeError(f"{self.stage.name} emits, and nothing comes after it")
        if self.sink.durable:
            for passed in items:
                await self.sink.put(passed.item, lane=passed.lane, size=passed.size)
            lease.ack()
            return
        join = lease.ack if len(items) == 1 else _Join(lease, len(items))
        for item, lane, size in items:
            if not self.sink.put_nowait(item, lane=lane, size=size, settled=join):
                await self.sink.put(item, lane=lane, size=size, settled=join)

    async def _durably(self, lease: Lease[I], reason: str) -> None:
        attempt = 0
        while True:
            try:
                return await self.bury(self.stage.name, lease.item, reason)
            except Transient as exc:
                attempt += 1
                telemetry.stage_waits(self.stage.name, exc)
                await asyncio.sleep(self.backoff.delay_s(attempt, random.random))
