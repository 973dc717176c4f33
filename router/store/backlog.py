"""Counts what waits in the outbox, as seldom as counting is dear."""

import asyncio
import time
from collections.abc import Sequence

from prometheus_client import Gauge

from router import telemetry
from router.errors import RouterError
from router.store.database import Database
from router.store.sql_files import sql

PAUSE_S = 5.0
SHARE = 0.01  # of the database's time, at most: a million rows take it about 0.1 s

PENDING = Gauge("psi_outbox_pending", "Rows that must still be told", ["destination"])
OLDEST = Gauge(
    "psi_outbox_oldest_seconds",
    "Age of the oldest row that must still be told",
    ["destination"],
)
DEAD_TUPLES = Gauge(
    "psi_outbox_dead_tuples", "Old versions of outbox rows that vacuum has not removed"
)


class Backlog:
    """A worker that keeps the metrics of the outbox true."""

    def __init__(self, database: Database, destinations: Sequence[str]) -> None:
        """Count in *database*; *destinations* are 0 where nothing waits."""
        self._database, self._known = database, set(destinations)

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            started = time.monotonic()
            try:
                await self.count()
            except RouterError as exc:
                telemetry.stage_waits("backlog", exc)
            took_s = time.monotonic() - started
            await asyncio.sleep(max(PAUSE_S, took_s / SHARE))

    async def count(self) -> None:
        """Count once; raises Transient while the database is away."""
        rows = await self._database.fetch(sql("outbox_backlog"))
        found = {row["destination"]: (row["pending"], row["oldest_s"]) for row in rows}
        self._known |= found.keys()  # a destination that was taken out of the settings
        for name in self._known:
            pending, oldest_s = found.get(name, (0, 0.0))
            PENDING.labels(name).set(pending)
            OLDEST.labels(name).set(oldest_s)
        for row in await self._database.fetch(sql("outbox_dead_tuples")):
            DEAD_TUPLES.set(row["dead"])
