"""The oldest items of a shelf, in memory: what may be lent now, and what is on loan."""

import sys
import time
from collections.abc import Callable, Hashable, Sequence

from router.queues.base import Tally
from router.queues.memory import MemoryLease, MemoryQueue
from router.queues.shelf import Kept, Room

WINDOW = 1024  # items: some full batches of every stage after this one
WINDOW_BYTES = 12 * 1024 * 1024


class Front:
    """Places, lanes and waiting are a `MemoryQueue`'s; what is here is counted."""

    def __init__(self, name: str, settled: Callable[[Kept], None]) -> None:
        """Hold nothing yet; *settled* hears of every item whose loan ended for good."""
        self.held: dict[Hashable, Kept] = {}  # oldest first
        self.is_closed = False
        self._queue: MemoryQueue[Kept] = MemoryQueue(
            name, bound=sys.maxsize, bound_bytes=sys.maxsize
        )
        self._bytes = 0
        self._settled = settled

    def take_up(self, kept: Kept) -> None:
        """Let *kept* be lent, unless it is here already."""
        if kept.key in self.held:
            return
        self.held[kept.key] = kept
        self._bytes += kept.size

        def done(tally: Tally) -> None:
            del tally, self.held[kept.key]
            self._bytes -= kept.size
            self._settled(kept)

        self._queue.put_nowait(kept, lane=kept.lane, size=kept.size, settled=done)

    async def lease(self, limit: int) -> Sequence[MemoryLease[Kept]]:
        """Lend 1 to *limit* items, waiting for the first."""
        return await self._queue.lease(limit)

    async def close(self) -> None:
        """Hear that nothing more is taken up."""
        self.is_closed = True
        await self._queue.close()

    @property
    def room(self) -> Room:
        """How much more may be held."""
        return Room(WINDOW - len(self.held), WINDOW_BYTES - self._bytes)

    @property
    def is_low(self) -> bool:
        """Whether it is time to read on: half of the room is free."""
        free = self.room
        return free.items >= WINDOW // 2 and free.size_bytes >= WINDOW_BYTES // 2

    @property
    def on_loan(self) -> int:
        """How many of the items are lent at this moment."""
        stats = self._queue.stats()
        return stats.unsettled - stats.depth

    @property
    def unsettled(self) -> int:
        """How many items are here, lent or not."""
        return self._queue.stats().unsettled

    def oldest_s(self) -> float:
        """Return how long ago the oldest item was put; 0 without any."""
        first = next(iter(self.held.values()), None)
        return 0.0 if first is None else max(time.time() - first.put_at, 0.0)
