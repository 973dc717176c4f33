"""Queues over shelves, each with its worker."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from router.errors import Transient
from router.queues.durable import DurableQueue
from router.queues.memory import WhenFull
from router.queues.shelf import Packing, Shelf

TEXT = Packing[str](str.encode, bytes.decode)


class Shelved:
    """Makes queues, and ends them."""

    def __init__(self, shelf: Callable[[], Shelf]) -> None:
        """Each queue gets a *shelf* of its own."""
        self._shelf = shelf
        self._workers: dict[DurableQueue[str], asyncio.Task[None]] = {}
        self.said: list[str | None] = []  # why a shelf cannot be used; None: it can

    async def queue(
        self, *, bound: int = 100, bound_bytes: int = 1000, refuse: bool = False
    ) -> DurableQueue[str]:
        """Return a queue that runs."""
        queue = DurableQueue(
            "test",
            self._shelf(),
            TEXT,
            bound=bound,
            bound_bytes=bound_bytes,
            when_full=WhenFull.REFUSE if refuse else WhenFull.WAIT,
            changed=self.said.append,
        )
        self._workers[queue] = asyncio.create_task(queue.run())
        return queue

    async def end(self, queue: DurableQueue[str]) -> None:
        """Stop in good order."""
        await self._stop(queue)
        await queue.end()

    async def die(self, queue: DurableQueue[str]) -> None:
        """Stop in the middle, as a kill does: the kernel closes what was open."""
        await self._stop(queue)
        await queue._shelf.close()

    async def _stop(self, queue: DurableQueue[str]) -> None:
        worker = self._workers.pop(queue)
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker

    async def end_all(self) -> None:
        """End what still runs."""
        for queue in list(self._workers):
            await self.end(queue)


async def drained(queue: DurableQueue[str], count: int) -> list[str]:
    """Return the next *count* items or more, each of them acked."""
    found: list[str] = []
    while len(found) < count:
        for one in await queue.lease(10):
            found.append(one.item)
            one.ack()
    return found


async def filled(queue: DurableQueue[str], size: int) -> list[str]:
    """Put items of *size* characters until one is refused; return those that were taken."""
    taken: list[str] = []
    while True:
        text = str(len(taken)).rjust(size)
        try:
            await queue.put(text)
        except Transient:
            return taken
        taken.append(text)
