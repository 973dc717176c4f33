"""How late the event loop comes to what is due: the first sign of a blocked process."""

import asyncio
import time

from prometheus_client import Gauge

EVERY_S = 0.1  # a look costs about 50 us
WINDOW_S = 60.0  # Prometheus scrapes at least as often

LOOP_LAG = Gauge(
    "psi_loop_lag_seconds", "How late the event loop was at worst, a minute or two back"
)


class LoopLag:
    """Sleeps, and sees how late it wakes.

    The worst is kept for WINDOW_S at least, in two halves, so that no scrape misses it.
    """

    def __init__(self) -> None:
        """Begin with no lag."""
        self._worst = self._before = 0.0
        self._turn_at = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due = time.monotonic() + EVERY_S
            await asyncio.sleep(EVERY_S)
            now = time.monotonic()
            self.note(now - due, now)

    def note(self, lag_s: float, now: float) -> None:
        """Take one look's *lag_s*, seen at *now* (monotonic seconds)."""
        if now >= self._turn_at:
            self._before, self._worst = self._worst, 0.0
            self._turn_at = now + WINDOW_S
        self._worst = max(self._worst, lag_s)

    @property
    def worst_s(self) -> float:
        """The longest lag of the last WINDOW_S to twice that."""
        return max(self._worst, self._before)
