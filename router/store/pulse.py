"""Asks the database every half second whether it can be used, and notes the answer."""

import asyncio
import time

from router.errors import RouterError
from router.health import Health
from router.store.database import Database
from router.store.migrate import behind

PULSE_S = 0.5


class Pulse:
    """A worker that keeps `Health` true about the database."""

    def __init__(self, database: Database, dsn: str, health: Health) -> None:
        """Watch *database*; *dsn* is asked for its migrations once it answers."""
        self._database, self._dsn, self._health = database, dsn, health
        self._up_to_date = False

    async def run(self) -> None:
        """Look and note until cancelled."""
        while True:
            try:
                await self._look()
            except RouterError as exc:
                self._health.store_fails(str(exc), time.monotonic())
            await asyncio.sleep(PULSE_S)

    async def _look(self) -> None:
        if not self._up_to_date and (missing := await behind(self._dsn)):
            self._health.store_fails(
                f"behind by {len(missing)} migrations: run `psi-router migrate`",
                time.monotonic(),
            )
            return
        self._up_to_date = True
        await self._database.fetch("select 1")
        self._health.store_answers()
