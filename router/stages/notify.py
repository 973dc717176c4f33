"""Outbox rows -> attempts: lanes side by side, the rows of a lane one after the other.

Where the head of a lane must wait, so must what follows it: the rest of the lane is given
back as it came, and no attempt is counted. A row is lent for a time (router.store.outbox),
and every attempt has to end within it; so attempts are begun in its first part only, and
what has not been begun by then, or by the time the queue closes, is given back too.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from router import telemetry
from router.config import Destination
from router.destinations.policy import Dead, Done, Retry, decide
from router.model import Attempt, Notification
from router.stages.base import Again, Bury, Emit, Outcome

BEGIN_S = 20.0  # in which the attempts of a batch must begin and end
LEAST_BEGIN_S = 1.0  # in which some may begin however long one takes
ROWS_A_SLOT = 8  # in a batch, so that a claim's round trips are shared
NOT_TRIED = Again(0.0, "not tried")


class Teller(Protocol):
    """Makes one attempt."""

    async def tell(
        self, destination: Destination, notification: Notification
    ) -> Attempt:
        """Return what came of it; failures are returned, never raised."""


class Lender(Protocol):
    """What the stage asks of the queue that lent it the rows."""

    @property
    def closed(self) -> bool:
        """Whether no new attempt should begin."""

    def record(self, notification: Notification, attempt: Attempt) -> None:
        """Note an attempt; it is written down, and counted, when the lease is settled."""


class Notify:
    """Tells one destination."""

    name = "notify"

    def __init__(
        self, destination: Destination, teller: Teller, lender: Lender
    ) -> None:
        """Tell *destination* by *teller* of what *lender* lends."""
        self._destination, self._teller, self._lender = destination, teller, lender
        self.limit = destination.concurrency * ROWS_A_SLOT
        self.begin_s = max(LEAST_BEGIN_S, BEGIN_S - destination.timeout_s)

    async def handle(self, batch: Sequence[Notification], /) -> Sequence[Outcome[Any]]:
        """Try each row that may be tried now; at most `concurrency` at a time."""
        outcomes: list[Outcome[Any]] = [NOT_TRIED] * len(batch)
        slots = asyncio.Semaphore(self._destination.concurrency)
        until = asyncio.get_running_loop().time() + self.begin_s
        async with asyncio.TaskGroup() as lanes:
            for lane in _lanes(batch):
                lanes.create_task(self._tell_lane(batch, lane, outcomes, slots, until))
        return outcomes

    async def _tell_lane(
        self,
        batch: Sequence[Notification],
        lane: Sequence[int],
        outcomes: list[Outcome[Any]],
        slots: asyncio.Semaphore,
        until: float,
    ) -> None:
        for place in lane:
            async with slots:
                if not self._may_begin(until):
                    return
                outcomes[place] = outcome = await self._tell(batch[place])
            if isinstance(outcome, Again):
                return

    def _may_begin(self, until: float) -> bool:
        in_time = asyncio.get_running_loop().time() <= until
        return in_time and not self._lender.closed

    async def _tell(self, notification: Notification) -> Outcome[Any]:
        attempt = await self._teller.tell(self._destination, notification)
        self._lender.record(notification, attempt)
        decision = decide(
            attempt,
            notification.attempts + 1,
            self._destination.retry_schedule_s,
            random.random,
        )
        telemetry.ATTEMPTS.labels(
            self._destination.name, type(decision).__name__.lower()
        ).inc()
        match decision:
            case Done():
                return Emit()
            case Retry(delay_s, reason):
                return Again(delay_s, reason)
            case Dead(reason):
                return Bury(reason)


def _lanes(batch: Sequence[Notification]) -> Iterable[list[int]]:
    # Places in the batch by lane; an empty lane orders nothing.
    lanes: dict[str | int, list[int]] = {}
    for place, notification in enumerate(batch):
        lanes.setdefault(notification.lane or place, []).append(place)
    return lanes.values()
