"""A queue whose items lie on a shelf: a file, a server. What was put survives the process.

One loop writes. Whatever came while the last write ran goes into the next one: new items and
notes of what was settled, together (group commit; there is no timer). The same write brings
back what may be lent now, the oldest first, and that stands in memory until it is settled:
see `front`. However many wait, the others take none.

A shelf that fails is opened anew, after pauses, and everything that waits to be written is
refused with `Transient`: it may lie there all the same, and come twice then.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from router import telemetry
from router.errors import QueueClosed, QueueFull, Transient
from router.queues.base import STORED, QueueStats, Settled, Tally
from router.queues.front import Front
from router.queues.memory import MemoryLease, WhenFull
from router.queues.shelf import Kept, Notes, Packing, Room, Sheet, Shelf
from router.retry import Backoff

PATIENCE_S = 2.0  # how long a shelf may be away before what comes is refused at once
NOTE_S = 0.05  # how long notes alone wait for an item to be written with them
LAST_S = 3.0  # for the last notes, at a stop
NO_ROOM = Room(0, 0)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Parcel(NamedTuple):
    """An item on its way to the shelf, and who waits for it to be there."""

    sheet: Sheet
    kept: asyncio.Future[None]


class DurableLease(Generic[T_co]):
    """The loan of one item: counts its attempts over processes."""

    __slots__ = ("_loan", "_queue", "item", "kept")

    def __init__(
        self, queue: "DurableQueue[T_co]", loan: MemoryLease[Kept], item: T_co
    ) -> None:
        """Lend *item*, which lies on the shelf as *loan* says."""
        self._queue, self._loan, self.item = queue, loan, item
        self.kept = loan.item

    @property
    def attempt(self) -> int:
        """1 on the first loan, one more after each nack, and each process that died."""
        return self.kept.tries + self._loan.attempt

    def ack(self, tally: Tally = STORED) -> None:
        """End the loan: the item is done."""
        self._loan.ack(tally)

    def bury(self, reason: str) -> None:
        """End the loan: whoever buries has written *reason* down already."""
        self._loan.bury(reason)

    def nack(self, delay_s: float = 0.0) -> None:
        """End the loan: the item goes back to its place."""
        self._queue._tried(self.kept, self.attempt)  # noqa: SLF001 -- one module
        self._loan.nack(delay_s)


class DurableQueue(Generic[T]):
    """The promise of `base` over a shelf. `run` is its worker, and does nothing else."""

    durable = True

    def __init__(  # noqa: PLR0913 -- where, what, how much, and who hears of it
        self,
        name: str,
        shelf: Shelf,
        packing: Packing[T],
        *,
        bound: int,
        bound_bytes: int,
        when_full: WhenFull = WhenFull.WAIT,
        changed: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """Hold at most *bound* unsettled items of together *bound_bytes*.

        *changed* hears why the shelf cannot be used, and None when it can.
        """
        self.name, self._shelf, self._packing = name, shelf, packing
        self._bound, self._bound_bytes, self._when_full = bound, bound_bytes, when_full
        self._changed = changed
        self._front = Front(name, self._settled)
        self._loop = asyncio.get_running_loop()
        self._parcels: list[_Parcel] = []
        self._done: list[Kept] = []
        self._tries: list[tuple[Kept, int]] = []
        self._noted_at = 0.0
        self._count = self._bytes = 0  # unsettled, on the shelf or on their way there
        self._due, self._room = asyncio.Event(), asyncio.Event()
        self._closed = self._left = self._open = False
        self._away_since: float | None = None
        self._failures = 0
        self._refused: str | None = None
        changed("not opened yet")

    # -- the writer's side

    async def put(
        self, item: T, *, lane: str = "", size: int = 0, settled: Settled | None = None
    ) -> None:
        """Add *item*, and return when it is durable.

        Waits for room or raises, as `WhenFull` says. Raises `Transient` where the shelf is
        away; the item may lie there all the same.
        """
        del settled  # what is durable needs nobody to come again
        await self._admitted(size)
        sheet = Sheet(lane, size, self._packing.pack(item))
        parcel = _Parcel(sheet, self._loop.create_future())
        self._parcels.append(parcel)
        self._count += 1
        self._bytes += size
        self._due.set()
        await parcel.kept

    def put_nowait(
        self, item: T, *, lane: str = "", size: int = 0, settled: Settled | None = None
    ) -> bool:
        """Return False: what has to be written has to be waited for."""
        del item, lane, size, settled
        return False

    async def _admitted(self, size: int) -> None:
        while True:
            if self._closed:
                raise QueueClosed(f"{self.name} takes no more items")
            if self._away_for() > PATIENCE_S:
                raise Transient(f"{self.name} is away")
            if self._shelf.refuses:
                raise Transient(self._shelf.refuses)
            if self._has_room(size):
                return
            if self._when_full is WhenFull.REFUSE:
                raise QueueFull(f"{self.name} is full")
            self._room.clear()
            await self._room.wait()

    def _has_room(self, size: int) -> bool:
        if not self._count:
            return True
        return self._count < self._bound and self._bytes + size <= self._bound_bytes

    def _away_for(self) -> float:
        since = self._away_since
        return 0.0 if since is None else self._loop.time() - since

    # -- the reader's side

    async def lease(self, limit: int) -> Sequence[DurableLease[T]]:
        """Lend 1 to *limit* items, waiting for the first."""
        unpack = self._packing.unpack
        while True:
            loans = await self._front.lease(limit)
            if not self._left:
                return [DurableLease(self, x, unpack(x.item.packed)) for x in loans]
            for loan in loans:  # the next process will lend it
                loan.done = None
                loan.ack()

    async def close(self) -> None:
        """Take nothing more; readers get what is left, then `QueueClosed`."""
        self._closed = True
        self._room.set()
        self._due.set()

    async def leave(self) -> None:
        """Take nothing more and lend nothing more: the next process goes on from here."""
        self._left = True
        await self.close()
        await self._front.close()

    def stats(self) -> QueueStats:
        """Return how the queue stands.

        What lies on the shelf and was not brought back waits, and so does what other
        processes hold there; the unsettled are those that this one holds.
        """
        return QueueStats(
            depth=max(self._count - self._front.on_loan, 0),
            unsettled=self._front.unsettled + len(self._parcels),
            size_bytes=self._bytes,
            bound=self._bound,
            oldest_s=self._front.oldest_s(),
        )

    @property
    def kept(self) -> int:
        """How many unsettled items the next process will find."""
        return self._count

    def _settled(self, kept: Kept) -> None:
        self._note()
        self._done.append(kept)
        self._count -= 1
        self._bytes -= kept.size
        self._room.set()

    def _tried(self, kept: Kept, times: int) -> None:
        self._note()
        self._tries.append((kept, times))

    def _note(self) -> None:
        if not (self._done or self._tries):
            self._noted_at = self._loop.time()
            self._due.set()

    # -- the worker

    async def run(self) -> None:
        """Write and read up until cancelled; a shelf that fails is opened anew."""
        while True:
            try:
                await self._begin()
                while True:
                    await self._wait()
                    await self._turn()
            except Transient as exc:
                await self._fail(exc)
            await asyncio.sleep(Backoff().delay_s(self._failures, random.random))

    async def end(self) -> None:
        """Write the last notes, hand over what is left, and let go of the shelf.

        To be called once `run` has ended. What cannot be written comes twice.
        """
        try:
            async with asyncio.timeout(LAST_S):
                if self._open:
                    await self._turn()
                    await self._shelf.leave()
        except (Transient, TimeoutError) as exc:
            telemetry.stage_waits(self.name, exc)
        finally:
            self._refuse(self._parcels, QueueClosed(f"{self.name} is closed"))
            await self._shelf.close()

    async def _begin(self) -> None:
        held = {*self._front.held, *(kept.key for kept in self._done)}
        for kept in await self._shelf.open(held):
            self._front.take_up(kept)
        self._open = True
        if self._failures:  # notes first: they make room, and a large item may not fit
            await self._write_down(())
        self._recount()
        if self._away_since is not None:
            self._away_since = None
            telemetry.event("queue_back", queue=self.name)
        self._refused = self._shelf.refuses
        self._changed(self._refused)

    async def _fail(self, exc: Transient) -> None:
        self._open = False
        self._failures += 1
        if self._away_since is None:
            self._away_since = self._loop.time()
            telemetry.event(
                "queue_away", level=logging.WARNING, queue=self.name, reason=str(exc)
            )
        self._changed(str(exc))
        if self._away_for() > PATIENCE_S:
            self._refuse(self._parcels, exc)
        await self._shelf.close()

    async def _wait(self) -> None:
        """Wait until there is something to write, or to read up."""
        while not self._is_due():
            self._due.clear()
            pause_s = self._shelf.tick_s
            if self._done or self._tries:
                pause_s = self._noted_at + NOTE_S - self._loop.time()
            try:
                async with asyncio.timeout(pause_s):
                    await self._due.wait()
            except TimeoutError:
                return

    def _is_due(self) -> bool:
        if self._parcels:
            return True
        if not self._shelf.more:
            return self._ending()
        return self._front.is_low and not self._left

    def _ending(self) -> bool:
        # Closed, and the front does not know yet that nothing comes after it.
        return self._closed and not self._front.is_closed

    async def _turn(self) -> None:
        parcels = [parcel for parcel in self._parcels if not parcel.kept.done()]
        self._parcels = []
        try:
            await self._write_down([parcel.sheet for parcel in parcels])
        except BaseException as exc:
            reason = exc if isinstance(exc, Transient) else Transient("not written")
            self._refuse(parcels, reason)
            raise
        self._failures = 0
        for parcel in parcels:
            if not parcel.kept.done():
                parcel.kept.set_result(None)
        self._recount()
        if self._ending() and not self._parcels and not self._shelf.more:
            await self._front.close()

    async def _write_down(self, sheets: Sequence[Sheet]) -> None:
        notes = Notes(self._done, self._tries)
        self._done, self._tries = [], []
        try:
            room = NO_ROOM if self._left else self._front.room
            found = await self._shelf.write(sheets, notes, room)
        except BaseException:
            # Written again with the next ones: to forget twice is to forget.
            self._done = [*notes.done, *self._done]
            self._tries = [*notes.tried, *self._tries]
            raise
        for kept in found:
            self._front.take_up(kept)
        if self._shelf.refuses != self._refused:
            self._refused = self._shelf.refuses
            self._changed(self._refused)

    def _refuse(self, parcels: Iterable[_Parcel], exc: Exception) -> None:
        for parcel in parcels:
            if not parcel.kept.done():
                parcel.kept.set_exception(exc)
        self._parcels = [parcel for parcel in self._parcels if not parcel.kept.done()]
        self._recount()

    def _recount(self) -> None:
        waiting = [parcel.sheet.size for parcel in self._parcels]
        done = [kept.size for kept in self._done]
        self._count = max(self._shelf.items + len(waiting) - len(done), 0)
        self._bytes = max(self._shelf.size_bytes + sum(waiting) - sum(done), 0)
        self._room.set()
