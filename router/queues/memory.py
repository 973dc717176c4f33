"""The in-process queue: the hop between stages, and every test's fake.

Entries stand in the order they were put; each keeps its place through every loan. `lease`
walks from the front and passes over what may not be lent now: an entry that waits for its
time, and every later entry of a lane that has an earlier one waiting or on loan. With one
reader nothing is ever passed over, so the walk is a row of `popleft`.
"""

import asyncio
import bisect
import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from router.errors import QueueClosed, QueueFull
from router.queues.base import BURIED, STORED, QueueStats, Settled, Tally

T = TypeVar("T")


class WhenFull(enum.Enum):
    """What `put` does when there is no room. There is no third option."""

    WAIT = "wait"  # backpressure: the stage before slows down
    REFUSE = "refuse"  # QueueFull: the edge answers 503


@dataclass(slots=True)
class _Entry(Generic[T]):
    place: int
    item: T
    lane: str
    size: int
    settled: Settled | None
    attempt: int = 1
    not_before: float = 0.0  # on the loop's clock


@dataclass(slots=True)
class MemoryLease(Generic[T]):
    """A `Lease`; settling it twice is a bug and raises RuntimeError."""

    _queue: "MemoryQueue[T]"
    _entry: _Entry[T]
    _open: bool = field(default=True)

    @property
    def item(self) -> T:
        """What was lent."""
        return self._entry.item

    @property
    def attempt(self) -> int:
        """1 on the first loan, one more after each nack."""
        return self._entry.attempt

    @property
    def settled(self) -> bool:
        """Whether the loan has ended."""
        return not self._open

    def ack(self, tally: Tally = STORED) -> None:
        """End the loan: the item is done."""
        self._end()
        self._queue._forget(self._entry, tally)  # noqa: SLF001 -- one module

    def bury(self, reason: str) -> None:
        """End the loan: whoever buries has written *reason* down already."""
        del reason
        self._end()
        self._queue._forget(self._entry, BURIED)  # noqa: SLF001 -- one module

    def nack(self, delay_s: float = 0.0) -> None:
        """End the loan: the item goes back to its place."""
        self._end()
        self._queue._take_back(self._entry, delay_s)  # noqa: SLF001 -- one module

    def _end(self) -> None:
        if not self._open:
            raise RuntimeError("this lease is settled already")
        self._open = False


class MemoryQueue(Generic[T]):
    """A queue that forgets with the process, bounded in items and in bytes.

    An item larger than the byte bound is taken when it would be alone.
    """

    durable = False

    def __init__(
        self,
        name: str,
        *,
        bound: int,
        bound_bytes: int,
        when_full: WhenFull = WhenFull.WAIT,
    ) -> None:
        """Hold at most *bound* unsettled items of together *bound_bytes*."""
        if bound < 1 or bound_bytes < 1:
            raise ValueError(f"bounds must be at least 1, got {bound}, {bound_bytes}")
        self.name = name
        self._bound, self._bound_bytes, self._when_full = bound, bound_bytes, when_full
        self._entries: deque[_Entry[T]] = deque()
        self._on_loan: dict[str, int] = {}  # how many of each lane
        self._unsettled: dict[int, float] = {}  # place -> when it was put
        self._bytes = 0
        self._next_place = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._readers: deque[asyncio.Future[None]] = deque()
        self._writers: deque[asyncio.Future[None]] = deque()

    async def put(
        self, item: T, *, lane: str = "", size: int = 0, settled: Settled | None = None
    ) -> None:
        """Add *item*, waiting or raising as `WhenFull` says."""
        while not (self._closed or self._has_room(size)):
            if self._when_full is WhenFull.REFUSE:
                raise QueueFull(f"{self.name} is full")
            await self._wait_in(self._writers)
        if self._closed:
            raise QueueClosed(f"{self.name} takes no more items")
        entry = _Entry(self._next_place, item, lane, size, settled)
        self._next_place += 1
        self._entries.append(entry)
        self._unsettled[entry.place] = self._loop.time()
        self._bytes += size
        self._wake(self._readers)

    async def lease(self, limit: int) -> Sequence[MemoryLease[T]]:
        """Lend 1 to *limit* items, waiting for the first."""
        while True:
            if taken := self._take(limit):
                if self._entries:
                    self._wake(self._readers)  # there may be work for another
                return taken
            if self._closed and not self._unsettled:
                self._wake_all()
                raise QueueClosed(f"{self.name} is closed and empty")
            await self._wait_for_work()

    async def close(self) -> None:
        """Take nothing more; readers get what is left, then `QueueClosed`."""
        self._closed = True
        self._wake_all()

    def stats(self) -> QueueStats:
        """Return how the queue stands."""
        first = next(iter(self._unsettled.values()), None)
        return QueueStats(
            depth=len(self._entries),
            unsettled=len(self._unsettled),
            size_bytes=self._bytes,
            bound=self._bound,
            oldest_s=0.0 if first is None else self._loop.time() - first,
        )

    def _has_room(self, size: int) -> bool:
        if not self._unsettled:
            return True
        return (
            len(self._unsettled) < self._bound
            and self._bytes + size <= self._bound_bytes
        )

    def _take(self, limit: int) -> list[MemoryLease[T]]:
        now = self._loop.time()
        blocked = set(self._on_loan)
        passed: list[_Entry[T]] = []
        taken: list[MemoryLease[T]] = []
        while self._entries and len(taken) < limit:
            entry = self._entries.popleft()
            if entry.lane in blocked or entry.not_before > now:
                passed.append(entry)
                if entry.lane:
                    blocked.add(entry.lane)
                continue
            taken.append(MemoryLease(self, entry))
        self._entries.extendleft(reversed(passed))
        for lease in taken:
            if lane := lease._entry.lane:  # noqa: SLF001 -- one module
                self._on_loan[lane] = self._on_loan.get(lane, 0) + 1
        return taken

    def _return_lane(self, entry: _Entry[T]) -> None:
        if entry.lane:
            self._on_loan[entry.lane] -= 1
            if not self._on_loan[entry.lane]:
                del self._on_loan[entry.lane]

    def _forget(self, entry: _Entry[T], tally: Tally) -> None:
        self._return_lane(entry)
        del self._unsettled[entry.place]
        self._bytes -= entry.size
        if self._writers:
            self._wake(self._writers)
        if self._entries:
            self._wake(self._readers)  # its lane may have been waited for
        elif self._closed and not self._unsettled:
            self._wake_all()
        if entry.settled is not None:
            entry.settled(tally)

    def _take_back(self, entry: _Entry[T], delay_s: float) -> None:
        self._return_lane(entry)
        entry.attempt += 1
        entry.not_before = self._loop.time() + delay_s if delay_s else 0.0
        if self._entries and self._entries[0].place < entry.place:
            place = bisect.bisect(self._entries, entry.place, key=lambda e: e.place)
            self._entries.insert(place, entry)
        else:
            self._entries.appendleft(entry)
        self._wake(self._readers)

    async def _wait_for_work(self) -> None:
        pauses = [e.not_before for e in self._entries if e.not_before]
        alarm = (
            self._loop.call_at(min(pauses), self._wake, self._readers)
            if pauses
            else None
        )
        try:
            await self._wait_in(self._readers)
        finally:
            if alarm is not None:
                alarm.cancel()

    async def _wait_in(self, waiters: deque[asyncio.Future[None]]) -> None:
        turn = self._loop.create_future()
        waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake(waiters)  # the wake-up was ours: hand it on, or it is lost
            raise
        finally:
            if turn in waiters:
                waiters.remove(turn)

    def _wake(self, waiters: deque[asyncio.Future[None]]) -> None:
        while waiters:
            turn = waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _wake_all(self) -> None:
        for waiters in (self._readers, self._writers):
            while waiters:
                self._wake(waiters)
