"""Outbox rows -> attempts: lanes side by side, the rows of a lane one after the other.

Where the head of a lane must wait, so must what follows it: the rest of the lane is given
back as it came, and no attempt is counted. A row is lent for a time (router.store.outbox),
and every attempt has to end within it; so attempts are begun in its first part only, and
what has not been begun by then, or by the time the queue closes or the destination is taken
for down, is given back too.

Several readers may share one `Notify`: together they keep to the circuit's window, so that
rows which hang hold up one reader's batch and no other.
"""

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import orjson

from router import telemetry
from router.config import Destination
from router.destinations.circuit import Circuit
from router.destinations.graph_policy import (
    GraphAttempt,
    GraphDecision,
    Later,
    Unknown,
    decide_graph,
)
from router.destinations.graph_policy import Outcome as Sending
from router.destinations.media_policy import MediaAttempt, decide_media
from router.destinations.media_policy import Outcome as Coming
from router.destinations.policy import (
    Dead,
    Done,
    Retry,
    blames_destination,
    decide,
    outcome,
)
from router.model import Attempt, Notification
from router.stages.base import Again, Bury, Emit, Outcome
from router.store.statuses import RANKS

BEGIN_S = 20.0  # in which the attempts of a batch must begin and end
LEAST_BEGIN_S = 1.0  # in which some may begin however long one takes
NOT_TRIED = Again(0.0, "not tried")
TOLD: Emit[Any] = Emit()
STATUS = b'{"type":"message.status"'  # how payloads.status begins


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

    def record(
        self, notification: Notification, attempt: Attempt, *, counts: bool = True
    ) -> None:
        """Note an attempt; it is written down, and counted, when the lease is settled."""

    def end(self, notification: Notification, delay_s: float | None) -> None:
        """End the row's loan before its batch ends: told (None), or tried again so late.

        A batch with one row that hangs ends late, and what follows the others need not wait.
        """

    def end_unknown(self, notification: Notification) -> None:
        """End the row's loan: it may have been taken, and is never sent again."""

    def early(self, notification: Notification) -> bool:
        """Return whether the row is lent before its time: an attempt costs it nothing."""

    def bring_forward(self) -> None:
        """Lend soon what waits for a later attempt."""


class _Slots:
    """As many attempts at once as the circuit's window is wide just now."""

    __slots__ = ("_circuit", "_used", "_waiting")

    def __init__(self, circuit: Circuit) -> None:
        self._circuit, self._used = circuit, 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        while self._used >= self._circuit.window:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # the wake-up may have been ours
                raise
        self._used += 1

    def give(self) -> None:
        self._used -= 1
        self._wake()

    def _wake(self) -> None:
        room = self._circuit.window - self._used
        while self._waiting and room > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1


class Notify:
    """Tells one destination."""

    name = "notify"

    def __init__(
        self,
        destination: Destination,
        teller: Teller,
        lender: Lender,
        circuit: Circuit | None = None,
    ) -> None:
        """Tell *destination* by *teller* of what *lender* lends, as *circuit* lets."""
        self._destination, self._teller, self._lender = destination, teller, lender
        self._circuit = circuit or Circuit(destination.concurrency)
        self._slots = _Slots(self._circuit)
        self._coalesces = destination.coalesce_statuses_s > 0
        self._outcomes = {
            kind: telemetry.ATTEMPTS.labels(destination.name, kind.__name__.lower())
            for kind in (Done, Retry, Dead, Later, Unknown)
        }
        self.begin_s = max(LEAST_BEGIN_S, BEGIN_S - destination.timeout_s)

    @property
    def limit(self) -> int:
        """How many rows are worth a claim now."""
        return self._circuit.rows

    async def handle(self, batch: Sequence[Notification], /) -> Sequence[Outcome[Any]]:
        """Try each row that may be tried now; at most the window's worth at a time."""
        outcomes: list[Outcome[Any]] = [NOT_TRIED] * len(batch)
        until = asyncio.get_running_loop().time() + self.begin_s
        lanes = list(_lanes(batch))
        if len(lanes) == 1:
            await self._tell_lane(batch, lanes[0], outcomes, until)
            return outcomes
        left = iter(lanes)

        async def one_after_the_other() -> None:
            for lane in left:
                await self._tell_lane(batch, lane, outcomes, until)

        # A task for each slot that there may be, not for each lane: 5 us a row.
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(lanes), self._destination.concurrency)):
                group.create_task(one_after_the_other())
        return outcomes

    async def _tell_lane(
        self,
        batch: Sequence[Notification],
        lane: Sequence[int],
        outcomes: list[Outcome[Any]],
        until: float,
    ) -> None:
        if self._coalesces:
            lane = _without_the_overtaken(batch, lane, outcomes)
        for place in lane:
            await self._slots.take()
            try:
                if not await self._may_begin(batch[place], until):
                    return
                outcomes[place] = outcome = await self._tell(batch[place])
            finally:
                self._slots.give()
            if isinstance(outcome, Again):
                return

    async def _may_begin(self, notification: Notification, until: float) -> bool:
        if not self._allowed(notification, until):
            return False
        if gap_s := self._circuit.gap_s():
            if asyncio.get_running_loop().time() + gap_s > until:
                return False
            await asyncio.sleep(gap_s)
            return self._allowed(notification, until)
        return True

    def _allowed(self, notification: Notification, until: float) -> bool:
        return (
            asyncio.get_running_loop().time() <= until
            and not self._lender.closed
            and self._circuit.may_try(notification.id)
        )

    async def _tell(self, notification: Notification) -> Outcome[Any]:
        early = self._lender.early(notification)
        attempt = await self._teller.tell(self._destination, notification)
        decision = self._decide(notification, attempt, early=early)
        self._outcomes[type(decision)].inc()
        later = isinstance(decision, Later)
        if _was_made(attempt):
            self._lender.record(notification, attempt, counts=not later)
        if later:  # that it wants fewer says nothing of its health
            self._circuit.probe_untried(notification.id)
        elif self._circuit.heard(attempt):
            self._lender.bring_forward()
        return self._ended(notification, decision)

    def _decide(
        self, notification: Notification, attempt: Attempt, *, early: bool
    ) -> GraphDecision:
        made, schedule = notification.attempts + 1, self._destination.retry_schedule_s
        if isinstance(attempt, GraphAttempt):
            return decide_graph(attempt, made, schedule, random.random)
        if early and blames_destination(attempt):
            return Retry(0.0, outcome(attempt))
        if isinstance(attempt, MediaAttempt):
            return decide_media(attempt, made, schedule, random.random)
        return decide(attempt, made, schedule, random.random)

    def _ended(
        self, notification: Notification, decision: GraphDecision
    ) -> Outcome[Any]:
        match decision:
            case Done():
                self._lender.end(notification, None)
                return TOLD
            case Retry(delay_s, reason) | Later(delay_s, reason):
                self._lender.end(notification, delay_s)
                return Again(delay_s, reason)
            case Unknown():
                self._lender.end_unknown(notification)
                return TOLD
            case Dead(reason):
                return Bury(reason)  # a loan that ends when the letter is written


def _was_made(attempt: Attempt) -> bool:
    match attempt:
        case (
            GraphAttempt(outcome=Sending.NOT_TRIED)
            | MediaAttempt(outcome=Coming.STOPPED)
        ):
            return False
        case _:
            return True


def _without_the_overtaken(
    batch: Sequence[Notification], lane: Sequence[int], outcomes: list[Outcome[Any]]
) -> Sequence[int]:
    # A status says how far its message got, so the furthest one says it all, whichever came
    # last. Those that need not be told are done without an attempt.
    furthest: dict[tuple[Any, ...], tuple[int, int]] = {}
    for place in lane:
        if said := _progress(batch[place].payload):
            about, rank = said
            furthest[about] = max(furthest.get(about, (0, -1)), (rank, place))
            outcomes[place] = TOLD
    needed = {place for _, place in furthest.values()}
    for place in needed:
        outcomes[place] = NOT_TRIED
    return [place for place in lane if outcomes[place] is not TOLD]


def _progress(payload: bytes) -> tuple[tuple[Any, ...], int] | None:
    # Of which message, and how far; None of anything that is no message's known status.
    if not payload.startswith(STATUS):
        return None
    data = orjson.loads(payload)["data"]
    rank = RANKS.get(data["status"] or "", 0) if data["type"] == "message" else 0
    return ((data["message_id"], data["participant"]), rank) if rank else None


def _lanes(batch: Sequence[Notification]) -> Iterable[list[int]]:
    # Places in the batch by lane; an empty lane orders nothing.
    lanes: dict[str | int, list[int]] = {}
    for place, notification in enumerate(batch):
        lanes.setdefault(notification.lane or place, []).append(place)
    return lanes.values()
