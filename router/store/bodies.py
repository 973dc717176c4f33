"""The archive of bodies: which batch writes which, and under which number."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.store.batch import Batch
from router.store.database import Database
from router.store.sql_files import sql

NUMBERS = 1000  # of deliveries at once, as the sequence in 0002_router_tables.sql says


class Bodies:
    """Which bodies are being archived, each by one batch, and under which numbers.

    Numbers come a thousand at a time: in memory one knows its own number.
    """

    def __init__(self, database: Database) -> None:
        """Draw from *database*."""
        self._database = database
        self._free = range(0)
        self._under_way: dict[int, asyncio.Event] = {}  # by id() of the delivery

    @asynccontextmanager
    async def of(self, batch: Batch) -> AsyncIterator[None]:
        """Let *batch* alone archive its bodies, in the block; one that another has is waited for.

        A large body is in several batches, and its first one archives it.
        """
        while other := next(filter(None, map(self._under_way.get, batch.bodies)), None):
            await other.wait()
            batch.forget_archived()
        over = asyncio.Event()
        taken = dict.fromkeys(batch.bodies, over)
        self._under_way |= taken
        try:
            await self._number(batch)
            yield
        finally:
            for key in taken:
                del self._under_way[key]
            over.set()

    async def _number(self, batch: Batch) -> None:
        for key in batch.bodies:
            if not self._free:
                (row,) = await self._database.fetch(sql("numbers"))
                self._free = range(row["first"], row["first"] + NUMBERS)
            batch.numbers[key], self._free = self._free[0], self._free[1:]
