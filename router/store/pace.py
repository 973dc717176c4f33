"""How many rows a destination is lent, and how often: senders who wait for a commit come first.

A claim costs the database a millisecond, and a notification the loop half of what a message
does. While there is time for both, all that is due is told at once. Where senders wait and
the loop is nearly full, telling gives way, down to a tenth of the loop: what is to be told is
durable. That senders wait is not enough: beside so many notifications some always do.

Arithmetic only; whoever claims waits.
"""

import time
from collections.abc import Callable

LEAST_S = 0.02  # between two claims
YIELD_ROWS = 128  # at most, in a claim that gives way
LEAST_PER_S, MOST_PER_S = 512.0, 8192.0  # rows; at the most nothing is held back
FULL, EASY = 0.7, 0.5  # of the loop's time

Clock = Callable[[], float]


class Pace:
    """The pace of one destination's claims."""

    def __init__(
        self,
        busy: Callable[[], bool],
        clock: Clock = time.monotonic,
        worked: Clock = time.thread_time,
    ) -> None:
        """Begin with all that is due.

        *busy* says whether senders wait for their commits, *worked* how many seconds of CPU
        the loop has used.
        """
        self._busy, self._clock, self._worked = busy, clock, worked
        self._per_s, self._use = MOST_PER_S, 0.0
        self._claimed_at, self._had_worked = clock() - LEAST_S, worked()

    def pause_s(self) -> float:
        """Return for how long the next claim still has to wait."""
        apart_s = LEAST_S if self._is_free else max(LEAST_S, YIELD_ROWS / self._per_s)
        return max(self._claimed_at + apart_s - self._clock(), 0.0)

    def claims(self, limit: int) -> int:
        """Note a claim, and return how many rows it may take of *limit*."""
        now, worked = self._clock(), self._worked()
        self._use = (worked - self._had_worked) / max(now - self._claimed_at, LEAST_S)
        wanted = self._per_s * (0.5 if self._use > FULL and self._busy() else 2.0)
        self._per_s = min(max(wanted, LEAST_PER_S), MOST_PER_S)
        self._claimed_at, self._had_worked = now, worked
        return limit if self._is_free else min(limit, YIELD_ROWS)

    @property
    def is_easy(self) -> bool:
        """Whether rows may be lent a few at a time, which costs the loop more a row."""
        return self._is_free and self._use < EASY

    @property
    def _is_free(self) -> bool:
        return self._per_s >= MOST_PER_S
