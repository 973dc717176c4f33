"""What requests hold while they wait: bytes of memory, and for how long."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

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


class Waiting(Generic[T]):
    """The requests that wait for their commit, none of them for too long.

    One timer for all of them: a time-out of its own costs a request as much as its HMAC.
    """

    def __init__(
        self,
        timeout_s: float,
        clock: Callable[[], float],
        refuse: Callable[[T, str], None],
    ) -> None:
        """*refuse* who has waited for longer than *timeout_s*, give or take SWEEP_S."""
        self._timeout_s, self._clock, self._refuse = timeout_s, clock, refuse
        self._since: dict[T, float] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, request: T, since: float) -> None:
        """Let *request* wait; its time began at *since*."""
        self._since[request] = since
        if self._timer is None:
            self._arm()

    def remove(self, request: T) -> bool:
        """Return whether *request* still waited; it does no more."""
        return self._since.pop(request, None) is not None

    def give_up(self) -> None:
        """Tell everybody to come again now."""
        self._refuse_since(float("inf"), "stopping")

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        if self._since:
            late = self._clock() - self._timeout_s
            self._refuse_since(late, "not durable in time")
            self._arm()

    def _refuse_since(self, moment: float, reason: str) -> None:
        for request, since in tuple(self._since.items()):
            if since <= moment and self.remove(request):
                self._refuse(request, reason)
