"""Deletes what is older than it has to be kept, a little at a time."""

import asyncio
import logging

from router import telemetry
from router.errors import RouterError
from router.store.database import Database
from router.store.sql_files import sql

PAUSE_S = 60.0
KEPT = ("expire_deliveries", "expire_attempts", "expire_outbox", "expire_sends")
BETWEEN_S = 0.05  # so that a backlog of old rows leaves the database to the messages


class Upkeep:
    """A worker that keeps the router's own tables from growing for ever."""

    def __init__(self, database: Database, *, retention_days: int) -> None:
        """Keep bodies, attempts and finished notifications for *retention_days*."""
        self._database, self._days = database, retention_days

    async def run(self) -> None:
        """Sweep every minute until cancelled."""
        while True:
            try:
                await self.sweep()
            except RouterError as exc:
                telemetry.event("upkeep_failed", level=logging.WARNING, reason=str(exc))
            await asyncio.sleep(PAUSE_S)

    async def sweep(self) -> int:
        """Delete all that is too old and return how many rows that were."""
        swept = await self._emptied("expire_claims")
        for name in KEPT:
            swept += await self._emptied(name, self._days)
        return swept

    async def _emptied(self, name: str, *args: int) -> int:
        total = 0
        while rows := await self._database.fetch(sql(name), *args):
            total += len(rows)
            await asyncio.sleep(BETWEEN_S)
        return total
