"""What requests hold while they wait: bytes of memory, and for how long."""

import asyncio
from collections import deque
from collections.abc import Callable

from router.errors import Transient
from router.queues.base import Tally

SWEEP_S = 0.1  # between looks at who has waited too long


class Room:
    """Bytes that may be in memory, lent first come, first served."""

    def __init__(self, size: int) -> None:
        """Lend at most *size* bytes at once."""
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take_now(self, count: int) -> bool:
        """Take *count* bytes if they are free and nobody waits; return whether."""
        if self._waiting or count > self._free:
            return False
        self._free -= count
        return True

    async def take(self, count: int) -> None:
        """Wait until *count* bytes are free, and take them."""
        if self.take_now(count):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(count)  # our turn came while we were leaving
            raise

    def give(self, count: int) -> None:
        """Give *count* bytes back."""
        self._free += count
        while self._waiting:
            wanted, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            if wanted > self._free:
                return
            self._waiting.popleft()
            self._free -= wanted
            turn.set_result(None)


class Waiting:
    """The requests that wait for their commit, none of them for too long.

    One timer for all of them: a time-out of its own costs a request as much as its HMAC.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float]) -> None:
        """Let nobody wait for longer than *timeout_s*, give or take SWEEP_S."""
        self._timeout_s, self._clock = timeout_s, clock
        self._until: dict[asyncio.Future[Tally], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def result(self, outcome: asyncio.Future[Tally], since: float) -> Tally:
        """Wait for *outcome*; raise Transient when the request began too long ago."""
        self._until[outcome] = since + self._timeout_s
        if self._timer is None:
            self._arm()
        try:
            return await outcome
        finally:
            del self._until[outcome]

    def give_up(self) -> None:
        """Tell everybody to come again now."""
        self._refuse(float("inf"), "stopping")

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        if self._until:
            self._refuse(self._clock(), "not durable in time")
            self._arm()

    def _refuse(self, now: float, reason: str) -> None:
        for outcome, until in self._until.items():
            if until <= now and not outcome.done():
                outcome.set_exception(Transient(reason))


class Borrowed:
    """Room for one body: given back once, and while the pipeline has it, not before."""

    __slots__ = ("_count", "_held", "_room", "handed_over")

    def __init__(self, room: Room, count: int) -> None:
        """Hold *count* bytes that were taken from *room*."""
        self._room, self._count = room, count
        self._held, self.handed_over = True, False

    def settle(self) -> None:
        """Give it back: the delivery is settled."""
        if self._held:
            self._held = False
            self._room.give(self._count)

    def abandon(self) -> None:
        """Give it back if the pipeline never got the delivery."""
        if not self.handed_over:
            self.settle()
