"""Asks the database every half second whether it can be used, and notes the answer."""

import asyncio
import time

from router.errors import RouterError
from router.health import Health
from router.store.database import Database
from router.store.migrate import behind

PULSE_S = 0.5
QUICK_S = 1.0  # an answer that took longer says little of the clock
CLOCK = "select extract(epoch from clock_timestamp())::float8 as now"


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
        await self._compare_clocks()
        self._health.store_answers()

    async def _compare_clocks(self) -> None:
        asked, before = time.monotonic(), time.time()
        (row,) = await self._database.fetch(CLOCK)
        took_s = time.monotonic() - asked
        if took_s < QUICK_S:
            self._health.clock_skew_s = row["now"] - before - took_s / 2
