"""The arithmetic of waiting: decided here, performed elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass

Jitter = Callable[[], float]  # uniform in [0, 1)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter, for what heals by itself.

    The cap is low: a database that is back must be noticed within a second or two.
    """

    first_s: float = 0.05
    cap_s: float = 1.0

    def delay_s(self, attempt: int, jitter: Jitter) -> float:
        """Return the pause after failed *attempt* (1, 2, …)."""
        ceiling = min(self.cap_s, self.first_s * 2.0 ** min(attempt - 1, 30))
        return ceiling * (0.5 + 0.5 * jitter())


class RestartBudget:
    """At most *restarts* within any *window_s*; past it the fault is not transient."""

    def __init__(self, *, restarts: int = 5, window_s: float = 60.0) -> None:
        """Start with nothing spent."""
        self._restarts, self._window_s = restarts, window_s
        self._spent: list[float] = []

    def spend(self, now: float) -> bool:
        """Record a crash at *now* (seconds); return whether a restart is allowed."""
        self._spent = [t for t in self._spent if now - t < self._window_s]
        self._spent.append(now)
        return len(self._spent) <= self._restarts

    @property
    def spent(self) -> int:
        """How many crashes the window holds."""
        return len(self._spent)
