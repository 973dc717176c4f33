"""Tells systemd how the service is: READY=1, STATUS with mode and rate, WATCHDOG=1.

The beat is a timer of the event loop, so a loop that is blocked misses it; and it is left
out while a stage has something to do and does not move. Then systemd starts the service
anew. A stage that waits for a database that is away moves: see `standing_still`.
"""

import asyncio
import logging
import time
from collections.abc import Iterator

from aiohttp import web

from router import telemetry
from router.app import PIPELINE, SERVICE
from router.health import Load, standing_still
from router.pipeline import Pipeline
from router.systemd import Notifier

BEAT_S = 2.0
STILL_S = 30.0  # the longest batch: attempts for 20 s, then the rows are settled


def loads(pipeline: Pipeline) -> Iterator[Load]:
    """Return what each worker has before it, of those that do not sleep for hours.

    All that is in memory ends in `persist`, so that one answers for the front.
    """
    held = {"persist": pipeline.inbox.stats().unsettled, "pulse": 1}
    for outbox in pipeline.outboxes:
        held[f"notify:{outbox.destination.name}"] = outbox.stats().unsettled
    for worker, turned in pipeline.supervisor.turned().items():
        # Several readers share an outbox: notify:crm, notify:crm:2, …
        queue = worker if worker in held else worker.rpartition(":")[0]
        yield Load(worker, held.get(queue, 0), turned)


def messages_stored() -> float:
    """Return how many messages this process has stored, as its metrics count them."""
    return sum(
        sample.value
        for metric in telemetry.EVENTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
        and sample.labels["kind"].startswith("message.")
    )


class Beat:
    """Says how a router is, each `BEAT_S`, or twice as often as systemd asks for."""

    def __init__(self, notifier: Notifier, watchdog_s: float | None) -> None:
        """Say nothing yet; *watchdog_s* is how long systemd waits, if it does."""
        self._notifier = notifier
        self._every_s = min(BEAT_S, (watchdog_s or 2 * BEAT_S) / 2)
        self._app: web.Application | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stored, self._at = 0.0, 0.0
        self._still: list[str] = []

    def start(self, app: web.Application) -> None:
        """Say that *app* answers, and from now on how it is."""
        self.stop()
        self._app, self._still = app, []
        self._stored, self._at = messages_stored(), time.monotonic()
        if self._notifier:
            self._notifier.say("READY=1")
            self._beat()

    def reloading(self) -> None:
        """Say that a reload begins; `start` ends it."""
        self._notifier.reloading()

    def stopping(self) -> None:
        """Say that the stop begins; the beat goes on, for a drain may take its time."""
        self._notifier.say("STOPPING=1")

    def stop(self) -> None:
        """Say no more."""
        if self._timer:
            self._timer.cancel()

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._every_s, self._beat)
        if self._app is not None:
            self._notifier.say(*self._lines(self._app))

    def _lines(self, app: web.Application) -> list[str]:
        still = self._stands_still(app[PIPELINE])
        health = app[SERVICE].health
        words = [health.mode, f"{self._rate():.1f} messages/s", *health.missing()]
        words += health.beside()
        words += [f"{worker} stands still" for worker in still]
        status = f"STATUS={'; '.join(words)}".replace("\n", " ")
        return [status] if still else [status, "WATCHDOG=1"]

    def _stands_still(self, pipeline: Pipeline) -> list[str]:
        # At two beats: one may come between an item's arrival and its worker's turn.
        found = standing_still(loads(pipeline), time.monotonic(), STILL_S)
        still = [worker for worker in found if worker in self._still]
        if still:
            telemetry.event("stands_still", level=logging.CRITICAL, workers=still)
        self._still = found
        return still

    def _rate(self) -> float:
        now, stored = time.monotonic(), messages_stored()
        since_s, self._at = now - self._at, now
        count, self._stored = stored - self._stored, stored
        return count / since_s if since_s > 0 else 0.0
