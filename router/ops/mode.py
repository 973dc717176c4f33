"""Says each change of mode once, in the log and as a metric; and that the clock jumped."""

import asyncio
import logging
import time

from prometheus_client import Counter, Gauge

from router import telemetry
from router.health import MODES, Health

EVERY_S = 0.5
JUMP_S = 2.0  # of the wall clock against the monotonic one, between two looks

MODE = Gauge("psi_mode", "1 for the mode that the router is in", ["mode"])
CLOCK_SKEW = Gauge("psi_clock_skew_seconds", "The database's clock less this machine's")
CLOCK_JUMPS = Counter("psi_clock_jumps_total", "Times that the wall clock was moved")


class ModeWatch:
    """A worker that looks at *health* and says what changed."""

    def __init__(self, health: Health) -> None:
        """Begin without a mode: the first look says the first one."""
        self._health = health
        self._mode = ""
        self._offset_s = _offset_s()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Say what is new since the last look."""
        self._look_at_the_clock()
        mode = self._health.mode
        # After a reload the old router stops: whoever is new says how it is.
        if mode != self._mode and not self._health.stopping:
            self._say(mode)

    def _say(self, mode: str) -> None:
        fine = mode in {"ready", "starting"}
        telemetry.event(
            "mode",
            level=logging.INFO if fine else logging.WARNING,
            mode=mode,
            before=self._mode or None,
            missing=self._health.missing(),
            beside=self._health.beside(),
        )
        self._mode = mode

    def _look_at_the_clock(self) -> None:
        before, self._offset_s = self._offset_s, _offset_s()
        by_s = self._offset_s - before
        if abs(by_s) > JUMP_S:
            CLOCK_JUMPS.inc()
            telemetry.event("clock_jumped", level=logging.WARNING, by_s=round(by_s, 1))


def show(health: Health) -> None:
    """Set the metrics of the mode, for a scrape."""
    for name in MODES:
        MODE.labels(name).set(name == health.mode)
    CLOCK_SKEW.set(health.clock_skew_s)


def _offset_s() -> float:
    return time.time() - time.monotonic()
