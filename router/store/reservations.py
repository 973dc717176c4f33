"""What a batch has to itself while it is on its way, where another one could spoil it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager


class Reservations:
    """Keys that are taken, all of a batch at once, so that nobody waits who holds any."""

    def __init__(self) -> None:
        """Begin with all free."""
        self._taken: dict[int | str, asyncio.Event] = {}

    @asynccontextmanager
    async def of(
        self, keys: Callable[[], Collection[int | str]]
    ) -> AsyncIterator[None]:
        """Hold *keys* in the block, waiting for whoever has one; they may be fewer then."""
        while other := next(filter(None, map(self._taken.get, wanted := keys())), None):
            await other.wait()
        over = asyncio.Event()
        self._taken |= dict.fromkeys(wanted, over)
        try:
            yield
        finally:
            for key in wanted:
                self._taken.pop(key, None)
            over.set()
