"""Who is in which state: what `/ready` tells."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """The states that decide whether this router can keep a promise now."""

    stopping_since: float | None = None  # monotonic
    store_problem: str | None = "not reached yet"
    store_down_since: float | None = None  # monotonic; None while it answers
    workers: dict[str, str] = field(default_factory=dict)  # name -> up, restarting, …
    destinations: dict[str, str] = field(
        default_factory=dict
    )  # name -> closed, open, …

    @property
    def stopping(self) -> bool:
        """Whether the process was asked to stop."""
        return self.stopping_since is not None

    def stopping_for(self, now: float) -> float:
        """Return the seconds since the stop was asked for; 0 before."""
        return 0.0 if self.stopping_since is None else now - self.stopping_since

    def store_answers(self) -> None:
        """Note that the database answered and is up to date."""
        self.store_problem, self.store_down_since = None, None

    def store_fails(self, problem: str, now: float) -> None:
        """Note why the database cannot be used, and since when (monotonic seconds)."""
        self.store_problem = problem
        if self.store_down_since is None:
            self.store_down_since = now

    def store_down_for(self, now: float) -> float:
        """Return the seconds that the database has been away; 0 while it answers."""
        return 0.0 if self.store_down_since is None else now - self.store_down_since

    @property
    def mode(self) -> str:
        """The state in a word or two: starting, ready, database away, degraded, stopping."""
        if self.stopping:
            return "stopping"
        if self.store_problem is not None:
            return "starting" if self.store_down_since is None else "database away"
        return "degraded" if self.missing() else "ready"

    def missing(self) -> list[str]:
        """Return what keeps this router from being ready, in words; empty if ready."""
        found = ["stopping"] if self.stopping else []
        if self.store_problem is not None:
            found.append(f"database: {self.store_problem}")
        return found + [
            f"{name}: {state}"
            for name, state in sorted(self.workers.items())
            if state != "up"
        ]

    def detail(self) -> dict[str, dict[str, str]]:
        """Return what `/ready` tells besides: a destination that is down stops nothing."""
        return {"destinations": dict(sorted(self.destinations.items()))}


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker has before it, and when the event loop last came back to it."""

    worker: str
    unsettled: int  # items that wait, or that it holds
    turned: float  # monotonic


def standing_still(loads: Iterable[Load], now: float, limit_s: float) -> list[str]:
    """Return the workers that have something to do and have not moved for *limit_s*.

    A worker that waits for a database that is away moves: it tries again.
    """
    return [
        load.worker for load in loads if load.unsettled and now - load.turned > limit_s
    ]
