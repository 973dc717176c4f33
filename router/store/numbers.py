"""Numbers for the archive of bodies."""

import time

from router.store.batch import Batch
from router.store.database import Database
from router.store.sql_files import sql

NUMBERS = 1000  # of deliveries at once, as the sequence in 0002_router_tables.sql says
LASTS_S = 60.0  # so far may a number be from the time that those about it have


class Numbers:
    """Numbers of deliveries, a thousand at a time: in memory one knows its own number.

    What is left of a thousand is dropped after LASTS_S: a process that has little to do would
    give bodies of today numbers of last week, and they are looked for by their time.
    """

    def __init__(self, database: Database) -> None:
        """Draw from *database*."""
        self._database = database
        self._free = range(0)
        self._drawn = 0.0

    async def number(self, batch: Batch) -> None:
        """Give each body of *batch* that is not archived yet its number."""
        if self._drawn < time.monotonic() - LASTS_S:
            self._free = range(0)
        for key in batch.bodies:
            if not self._free:
                (row,) = await self._database.fetch(sql("numbers"))
                self._free = range(row["first"], row["first"] + NUMBERS)
                self._drawn = time.monotonic()
            batch.numbers[key], self._free = self._free[0], self._free[1:]
