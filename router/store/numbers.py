"""Numbers for the archive of bodies."""

from router.store.batch import Batch
from router.store.database import Database
from router.store.sql_files import sql

NUMBERS = 1000  # of deliveries at once, as the sequence in 0002_router_tables.sql says


class Numbers:
    """Numbers of deliveries, a thousand at a time: in memory one knows its own number."""

    def __init__(self, database: Database) -> None:
        """Draw from *database*."""
        self._database = database
        self._free = range(0)

    async def number(self, batch: Batch) -> None:
        """Give each body of *batch* that is not archived yet its number."""
        for key in batch.bodies:
            if not self._free:
                (row,) = await self._database.fetch(sql("numbers"))
                self._free = range(row["first"], row["first"] + NUMBERS)
            batch.numbers[key], self._free = self._free[0], self._free[1:]
