"""What every queue promises, whatever carries it.

A queue lends. Whoever leases an item ends the loan exactly once: `ack` (done), `nack`
(later) or `bury` (never). Settling is a note taken at once; a durable queue writes the
note down soon after, so a crash in between brings the item back: once or more, never none.

Items of one lane come out in the order they went in, and nothing of a lane is lent while
an earlier item of it is on loan or waits to be tried again. Other lanes do not wait.

Where a queue forgets on a crash (`durable` is False), `put` takes a `settled` callback:
whoever put the item hears what became of it, and so the acknowledgement travels upstream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Tally(NamedTuple):
    """What became of an item: how many parts are stored, how many buried."""

    stored: int = 0
    buried: int = 0


STORED = Tally(stored=1)
BURIED = Tally(buried=1)

Settled = Callable[[Tally], None]


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How a queue stands. `unsettled` counts what a crash now would interrupt."""

    depth: int  # waiting, not on loan
    unsettled: int  # waiting or on loan
    size_bytes: int  # of the unsettled
    bound: int  # in items
    oldest_s: float  # age of the longest unsettled item; 0 when there is none


class Lease(Protocol[T_co]):
    """One item on loan."""

    @property
    def item(self) -> T_co:
        """What was lent."""

    @property
    def attempt(self) -> int:
        """1 on the first loan, one more after each nack."""

    def ack(self, tally: Tally = STORED) -> None:
        """End the loan: the item is done."""

    def nack(self, delay_s: float = 0.0) -> None:
        """End the loan: lend it again, not before *delay_s*, in its old place."""

    def bury(self, reason: str) -> None:
        """End the loan: a person must look; *reason* is for them."""


class Source(Protocol[T_co]):
    """Where items are lent: the reader's side of a queue."""

    @property
    def name(self) -> str:
        """The name in logs and metrics."""

    async def lease(self, limit: int) -> Sequence[Lease[T_co]]:
        """Lend 1 to *limit* items, waiting for the first.

        Raises `QueueClosed` once the queue is closed and every item is settled.
        """

    async def close(self) -> None:
        """Take nothing more; what was taken can still be leased."""

    def stats(self) -> QueueStats:
        """Return how the queue stands."""


class Queue(Source[T], Protocol[T]):
    """A bounded, closable, counted queue."""

    @property
    def durable(self) -> bool:
        """Whether what `put` took survives the end of the process."""

    async def put(
        self, item: T, *, lane: str = "", size: int = 0, settled: Settled | None = None
    ) -> None:
        """Add *item*; wait for room or raise `QueueFull`, as the queue was made to.

        *size* is in bytes and counts towards the byte bound. An empty *lane* orders
        nothing. Raises `QueueClosed` after `close`.
        """

    def put_nowait(
        self, item: T, *, lane: str = "", size: int = 0, settled: Settled | None = None
    ) -> bool:
        """Add *item* as `put` does where that needs no waiting; return whether it did.

        A queue that keeps its items elsewhere never can.
        """
