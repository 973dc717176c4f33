"""How many of the oldest due rows a claim looks at.

Enough for what it wants, and no more: of a long backlog nearly all rows stand behind others.
Where those it looked at lead to too few lanes, others may wait behind them: one that gets too
few rows looks further at once; one that gets enough of few lanes looks at all there is now
and then, so that a long lane keeps nobody waiting for ever.

Arithmetic only.
"""

import time
from collections.abc import Callable

LEAST = 4  # rows, for each that is wanted
MOST = 4**5
LEAST_WANTED = 64  # for that: a few more cost nothing
WIDE_APART = 10  # times what it took, from one look at all there is to the next


class Reach:
    """The reach of one destination's claims."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with the least."""
        self._clock = clock
        self._each, self._sees_few, self._is_wide = LEAST, False, False
        self._began = self._wide_at = 0.0
        self._window = 0

    def window(self, limit: int) -> int:
        """Begin a look for *limit* rows; return how many it may look at."""
        self._began = self._clock()
        self._is_wide = self._sees_few and self._began >= self._wide_at
        each = MOST if self._is_wide else self._each
        self._window = each * max(limit, LEAST_WANTED)
        return self._window

    def failed(self) -> None:
        """Hear that the look came to no end, perhaps since it went too far."""
        self._each, self._sees_few = LEAST, False
        self._ended()

    def saw(self, limit: int, *, looked_at: int, lanes: int, rows: int) -> bool:
        """Hear what came of the look; return whether to look further at once."""
        self._ended()
        self._sees_few = looked_at == self._window and lanes < limit
        if self._sees_few and rows < limit:
            further = not self._is_wide and self._each < MOST
            self._each = min(4 * self._each, MOST)
            return further
        self._each = max(self._each // 4, LEAST)
        return False

    def _ended(self) -> None:
        if self._is_wide:
            now = self._clock()
            self._wide_at = now + WIDE_APART * (now - self._began)
