"""When a destination may be told, and how much at once: what its answers say of itself.

A circuit is closed while the destination answers. After FAILURES failures in a row of the
destination (not of one body: see `policy.blames_destination`) it opens: no attempt is
made, so none is burnt, until a probe, one row alone, gets an answer. Probes come 1 s to 30 s
apart.

How many attempts run at once is found out between 1 and the destination's own limit: one
more for each round of good answers, half after a bad one. A 429 also puts a gap between
the beginnings of two attempts, which good answers close again.

No I/O and no tasks: whoever asks waits. One circuit belongs to one process; two processes
each find out for themselves.
"""

import enum
import random
import time
from collections.abc import Callable

from prometheus_client import Gauge

from router.destinations.policy import TOO_MANY, blames_destination, clamped
from router.model import Attempt
from router.retry import Jitter

BREAKER = Gauge("psi_breaker_state", "0 closed, 1 half open, 2 open", ["destination"])

FAILURES = 5  # in a row, before a destination is taken for down
BACK_AFTER = 2  # failures in a row, after which an answer is a recovery
FIRST_PROBE_S = 1.0
PROBE_S = 30.0  # contract 3: an open circuit probes at least as often
GAP_FIRST_S, GAP_CAP_S, GAP_LEAST_S = 0.05, 5.0, 0.01
GAP_SHRINKS = 0.9  # by each good answer
LATENCY_WEIGHT = 0.1  # of the newest attempt
CLAIM_S = 0.5  # of work that a claim should bring each slot
LEAST_ROWS, MOST_ROWS = 4, 32  # for each slot


class State(enum.IntEnum):
    """The value is the one of psi_breaker_state."""

    CLOSED = 0
    HALF_OPEN = 1  # a probe is on its way
    OPEN = 2


class Circuit:
    """What is known of one destination's health."""

    def __init__(
        self,
        limit: int,
        *,
        changed: Callable[[State], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Jitter = random.random,
    ) -> None:
        """Begin closed and allow *limit* attempts at once; say *changed* of each state."""
        self.state = State.CLOSED
        self._limit, self._changed = limit, changed
        self._clock, self._jitter = clock, jitter
        self._window = float(limit)
        self._failures = 0  # in a row
        self._cut_at = clock()  # when the window was made smaller last
        self._probe_at = self._pause_s = 0.0
        self._probe: int | None = None  # the row that probes
        self._gap_s = self._next_at = 0.0
        self._latency_s = CLAIM_S / LEAST_ROWS

    @property
    def window(self) -> int:
        """How many attempts may run at once: 1 to the limit."""
        return int(self._window)

    @property
    def rows(self) -> int:
        """How many rows are worth a claim: what keeps every slot busy for a moment."""
        each = min(max(CLAIM_S / self._latency_s, LEAST_ROWS), MOST_ROWS)
        return int(self.window * each)

    def lends_in_s(self) -> float:
        """Return in how many seconds rows may be lent: 0 when now."""
        match self.state:
            case State.CLOSED:
                return 0.0
            case State.OPEN:
                return max(self._probe_at - self._clock(), 0.0)
            case State.HALF_OPEN:
                return PROBE_S  # the probe's end says more

    @property
    def probes(self) -> bool:
        """Whether the next row that is lent, alone, is a probe."""
        return self.state is not State.CLOSED

    def probe(self, row: int) -> None:
        """Let *row*, just lent, be the one that is tried."""
        self._probe = row
        self._become(State.HALF_OPEN)

    def probe_untried(self, row: int) -> None:
        """Forget that *row* was to be tried: it was given back as it came."""
        if self.state is State.HALF_OPEN and self._probe == row:
            self._probe = None
            self._become(State.OPEN)

    def may_try(self, row: int) -> bool:
        """Return whether an attempt on *row* may begin."""
        return self.state is State.CLOSED or row == self._probe

    def gap_s(self) -> float:
        """Return how long the next attempt must wait for its turn, and take the turn."""
        if not self._gap_s:
            return 0.0
        now = self._clock()
        turn = max(now, self._next_at)
        self._next_at = turn + self._gap_s
        return turn - now

    def heard(self, attempt: Attempt) -> bool:
        """Learn from *attempt*; return whether the destination is back after a failure."""
        self._latency_s += LATENCY_WEIGHT * (
            max(attempt.latency_ms, 1) / 1000 - self._latency_s
        )
        if blames_destination(attempt):
            self._failed(attempt)
            return False
        return self._answered()

    def _answered(self) -> bool:
        back = self._failures >= BACK_AFTER or self.state is not State.CLOSED
        self._failures = 0
        if self._window < self._limit:
            self._window = min(self._window + 1 / self._window, self._limit)
        if self._gap_s:
            shorter = self._gap_s * GAP_SHRINKS
            self._gap_s = shorter if shorter > GAP_LEAST_S else 0.0
        if self.state is not State.CLOSED:
            self._pause_s, self._probe = 0.0, None
            self._become(State.CLOSED)
        return back

    def _failed(self, attempt: Attempt) -> None:
        self._failures += 1
        now = self._clock()
        began = now - attempt.latency_ms / 1000
        if began >= self._cut_at:  # others that were under way then are no news
            self._cut_at = now
            self._window = max(self._window / 2, 1.0)
            if attempt.status == TOO_MANY:
                self._gap_s = min(max(2 * self._gap_s, GAP_FIRST_S), GAP_CAP_S)
        tried = self.state is State.HALF_OPEN
        if tried or (self.state is State.CLOSED and self._failures >= FAILURES):
            self._open(now, clamped(attempt.retry_after_s))

    def _open(self, now: float, asked_s: float) -> None:
        self._window, self._probe = 1.0, None
        self._pause_s = min(max(2 * self._pause_s, FIRST_PROBE_S), PROBE_S)
        pause_s = self._pause_s * (0.5 + 0.5 * self._jitter())
        self._probe_at = now + max(pause_s, min(asked_s, PROBE_S))
        self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self.state = state
        self._changed(state)
