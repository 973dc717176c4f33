"""The outbox of files to fetch: a file's address enters its message's row as its own row ends."""

import asyncio
from collections.abc import Callable, Sequence

from router.config import Destination
from router.model import Fetching
from router.store.database import Database, Row
from router.store.gate import Gate
from router.store.loans import Note, note_rows
from router.store.outbox import OutboxQueue
from router.store.sql_files import sql


class MediaQueue(OutboxQueue):
    """The files that must still be fetched. `closing` is set once it is closed."""

    def __init__(
        self,
        database: Database,
        destination: Destination,
        busy: Callable[[], bool] = lambda: False,
        gate: Gate | None = None,
    ) -> None:
        """Lend as any outbox does."""
        super().__init__(database, destination, busy, gate)
        self.closing = asyncio.Event()

    async def close(self) -> None:
        """Lend nothing more, and let what is under way be given up."""
        self.closing.set()
        await super().close()

    async def _settle(self, notes: Sequence[Note]) -> Sequence[Row]:
        kept = [
            (it.wamid, it.url, it.mime_type, it.filename)
            for note in notes
            if note.state == "done" and isinstance(it := note.attempt, Fetching)
        ]
        if not kept:
            return await super()._settle(notes)
        # Together: a row that is done without its address would never be looked at again.
        async with self._database.transaction() as tx:
            taken = await tx.fetch(sql("outbox_settle"), note_rows(notes))
            await tx.fetch(sql("media"), *map(list, zip(*kept, strict=True)))
        return taken
