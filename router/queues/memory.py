"""The in-process queue: the hop between stages, and every test's fake.

Entries stand in the order they were put; each keeps its place through every loan. `lease`
walks from the front and passes over what may not be lent now: an entry that waits for its
time, and every later entry of a lane that has an earlier one waiting or on loan. With one
reader nothing is ever passed over, so the walk is a row of `popleft`.
"""

import asyncio
import bisect
import enum
import math
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from router.errors import QueueClosed, QueueFull
from router.queues.base import BURIED, STORED, QueueStats, Settled, Tally

T = TypeVar("T")

FEW = 8  # are lent together, whatever the share: a batch has its own cost


class WhenFull(enum.Enum):
    """What `put` does when there is no room. There is no third option."""

    WAIT = "wait"  # backpressure: the stage before slows down
    REFUSE = "refuse"  # QueueFull: the edge answers 503


class MemoryLease(Generic[T]):
    """A place in the queue, and the loan of what stands there.

    One object for both: it is made once an item, and again when the item comes back.
    Settling a loan twice is a bug and raises RuntimeError.
    """

    __slots__ = (
        "_open",
        "_queue",
        "attempt",
        "done",
        "item",
        "lane",
        "not_before",
        "place",
        "put_at",
        "size",
    )

    def __init__(  # noqa: PLR0913, PLR0917 -- what `put` is told, and where it stands
        self,
        queue: "MemoryQueue[T]",
        place: int,
        item: T,
        lane: str,
        size: int,
        done: Settled | None,
    ) -> None:
        """Stand at *place* of *queue*; *done* hears what becomes of *item*."""
        self._queue, self._open = queue, True
        self.place, self.item, self.lane, self.size = place, item, lane, size
        self.done = done
        self.attempt = 1
        self.not_before = 0.0  # on the loop's clock
        self.put_at = 0.0

    @property
    def settled(self) -> bool:
        """Whether the loan has ended."""
        return not self._open

    def ack(self, tally: Tally = STORED) -> None:
        """End the loan: the item is done."""
        self._end()
        self._queue._forget(self, tally)  # noqa: SLF001 -- one module

    def bury(self, reason: str) -> None:
        """End the loan: whoever buries has written *reason* down already."""
        del reason
        self.ack(BURIED)

    def nack(self, delay_s: float = 0.0) -> None:
        """End the loan: the item goes back to its place."""
        self._end()
        self._queue._take_back(self, delay_s)  # noqa: SLF001 -- one module

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
        share: float = 1.0,
    ) -> None:
        """Hold at most *bound* unsettled items of together *bound_bytes*.

        Lend at most *share* of what is unsettled at once, for several readers whose senders
        wait for them: were all of them in one batch, the others would have nothing to do.
        """
        if bound < 1 or bound_bytes < 1:
            raise ValueError(f"bounds must be at least 1, got {bound}, {bound_bytes}")
        if not 0 < share <= 1:
            raise ValueError(f"the share must be more than 0, at most 1, got {share}")
        self.name, self._share = name, share
        self._bound, self._bound_bytes, self._when_full = bound, bound_bytes, when_full
        self._entries: deque[MemoryLease[T]] = deque()
        self._on_loan: dict[str, int] = {}  # how many of each lane
        self._unsettled: dict[int, MemoryLease[T]] = {}  # by place, oldest first
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
        while not self.put_nowait(item, lane=lane, size=size, settled=settled):
            await self._wait_in(self._writers)

    def put_nowait(
        self, item: T, *, lane: str = "", size: int = 0, settled: Settled | None = None
    ) -> bool:
        """Add *item* if there is room; else return False, or raise as `WhenFull` says."""
        if self._closed:
            raise QueueClosed(f"{self.name} takes no more items")
        if not self._has_room(size):
            if self._when_full is WhenFull.REFUSE:
                raise QueueFull(f"{self.name} is full")
            return False
        self._add(MemoryLease(self, self._next_place, item, lane, size, settled))
        self._next_place += 1
        if self._readers:
            self._wake(self._readers)
        return True

    def _add(self, lease: MemoryLease[T]) -> None:
        lease.put_at = self._loop.time()
        self._unsettled[lease.place] = lease
        self._bytes += lease.size
        self._entries.append(lease)

    async def lease(self, limit: int) -> Sequence[MemoryLease[T]]:
        """Lend 1 to *limit* items, waiting for the first."""
        while True:
            part = max(FEW, math.ceil(len(self._unsettled) * self._share))
            if taken := self._take(min(limit, part)):
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
            oldest_s=0.0 if first is None else self._loop.time() - first.put_at,
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
        passed: list[MemoryLease[T]] = []
        taken: list[MemoryLease[T]] = []
        while self._entries and len(taken) < limit:
            lease = self._entries.popleft()
            if lease.lane in blocked or lease.not_before > now:
                passed.append(lease)
                if lease.lane:
                    blocked.add(lease.lane)
                continue
            taken.append(lease)
        self._entries.extendleft(reversed(passed))
        for lease in taken:
            if lane := lease.lane:
                self._on_loan[lane] = self._on_loan.get(lane, 0) + 1
        return taken

    def _return_lane(self, lane: str) -> None:
        left = self._on_loan.pop(lane) - 1
        if left:
            self._on_loan[lane] = left

    def _forget(self, lease: MemoryLease[T], tally: Tally) -> None:
        if lease.lane:
            self._return_lane(lease.lane)
        del self._unsettled[lease.place]
        self._bytes -= lease.size
        if self._writers:
            self._wake(self._writers)
        if self._entries:
            self._wake(self._readers)  # its lane may have been waited for
        elif self._closed and not self._unsettled:
            self._wake_all()
        if lease.done is not None:
            lease.done(tally)

    def _take_back(self, lease: MemoryLease[T], delay_s: float) -> None:
        if lease.lane:
            self._return_lane(lease.lane)
        again = MemoryLease(
            self, lease.place, lease.item, lease.lane, lease.size, lease.done
        )
        again.attempt, again.put_at = lease.attempt + 1, lease.put_at
        again.not_before = self._loop.time() + delay_s if delay_s else 0.0
        self._unsettled[again.place] = again
        if self._entries and self._entries[0].place < again.place:
            place = bisect.bisect(self._entries, again.place, key=lambda e: e.place)
            self._entries.insert(place, again)
        else:
            self._entries.appendleft(again)
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
