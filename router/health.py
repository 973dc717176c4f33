"""Who is in which state: what `/ready` tells."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

CLOCK_OFF_S = 30.0  # from the database's clock: replies depend on how old a message is
DISK_FULL = "53100"  # SQLSTATE disk_full
UP, CLOSED = "up", "closed"
MODES = (
    "starting",
    "ready",
    "stopping",
    "queue away",
    "database away",
    "disk full",
    "database takes no writes",
    "degraded",
    "destination away",
    "clock off",
)


@dataclass(slots=True)
class Health:
    """The states that decide whether this router can keep a promise now."""

    stopping_since: float | None = None  # monotonic
    store_problem: str | None = "not reached yet"
    store_down_since: float | None = None  # monotonic; None while it answers
    write_problem: str | None = None  # it answers, and takes no rows
    shadow: bool = False  # nothing leaves
    clock_skew_s: float = 0.0  # the database's clock less ours
    queue_problem: str | None = None  # of an inbox that lies elsewhere
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

    def queue_says(self, problem: str | None) -> None:
        """Note why the inbox cannot be used, or that it can."""
        self.queue_problem = problem

    @property
    def mode(self) -> str:
        """The state in a word or two: the first of `MODES` that fits, gravest first."""
        return next((word for word, holds in self._modes() if holds), "ready")

    def _modes(self) -> Iterator[tuple[str, object]]:
        away = self.store_problem is not None
        yield "stopping", self.stopping
        yield "starting", away and self.store_down_since is None
        yield "queue away", self.queue_problem  # even while the database takes nothing
        yield "database away", away
        yield "disk full", DISK_FULL in (self.write_problem or "")
        yield "database takes no writes", self.write_problem
        yield "degraded", self.missing()
        yield "destination away", any(self._destinations_away())
        yield "clock off", self.clock_is_off

    @property
    def clock_is_off(self) -> bool:
        """Whether this machine and the database disagree on what time it is."""
        return abs(self.clock_skew_s) > CLOCK_OFF_S

    def missing(self) -> list[str]:
        """Return what keeps this router from being ready, in words; empty if ready."""
        found = ["stopping"] if self.stopping else []
        if self.store_problem is not None:
            found.append(f"database: {self.store_problem}")
        if self.queue_problem is not None:
            found.append(f"queue: {self.queue_problem}")
        if self.write_problem is not None:
            found.append(f"database: takes no writes: {self.write_problem}")
        return found + [
            f"{name}: {state}"
            for name, state in sorted(self.workers.items())
            if state != UP
        ]

    def beside(self) -> list[str]:
        """Return, in words, what is wrong and keeps no message from being taken."""
        found = ["shadow: nothing leaves"] if self.shadow else []
        found += [f"destination {name}: away" for name in self._destinations_away()]
        if self.clock_is_off:
            found.append(f"clock: {self.clock_skew_s:+.0f} s to the database's")
        return found

    def detail(self) -> dict[str, str | list[str] | dict[str, str]]:
        """Return what `/ready` tells besides: a destination that is down stops nothing."""
        return {
            "mode": self.mode,
            "beside": self.beside(),
            "destinations": dict(sorted(self.destinations.items())),
        }

    def _destinations_away(self) -> Iterator[str]:
        return (n for n, state in sorted(self.destinations.items()) if state != CLOSED)


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
