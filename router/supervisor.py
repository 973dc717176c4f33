"""Keeps named workers alive within a restart budget. The only module that knows aiojobs.

aiojobs starts, names, counts and cancels. It does not restart, a job that fails is gone
after one callback, and its defaults are made for short jobs: the 101st waits for a slot
(hence `limit=None`), and a closing job has 0.1 s (hence FLUSH_S). Its `wait_and_close` and
pending queue are not used: workers end because the queue they read is closed.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

from aiojobs import Job, Scheduler

from router import telemetry
from router.errors import WorkerGaveUp
from router.health import Health
from router.retry import Backoff, RestartBudget

FLUSH_S = 5.0  # what a cancelled worker gets for its `finally` blocks

Work = Callable[[], Awaitable[None]]


class Supervisor:
    """Runs workers by name and knows when to stop trying."""

    def __init__(self, health: Health) -> None:
        """Start with no worker; states are noted in *health*."""
        self._scheduler = Scheduler(limit=None, close_timeout=FLUSH_S)
        self._jobs: dict[str, Job[None]] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._turned: dict[str, float] = {}
        self._health = health
        self.gave_up = asyncio.Event()

    async def start(self, name: str, work: Work) -> None:
        """Run *work* under *name* until it returns; names are unique."""
        if name in self._jobs:
            raise ValueError(f"a worker named {name!r} runs already")
        self._ended[name] = asyncio.Event()
        self._jobs[name] = await self._scheduler.spawn(
            self._keep_alive(name, work), name=name
        )

    async def finished(self, name: str) -> None:
        """Wait until the worker *name* has returned or was given up."""
        await self._ended[name].wait()

    def turned(self) -> Mapping[str, float]:
        """Return when the event loop last came back to each worker (monotonic seconds)."""
        return self._turned

    async def close(self) -> None:
        """Cancel whatever still runs, giving each worker FLUSH_S."""
        await self._scheduler.close()

    async def _keep_alive(self, name: str, work: Work) -> None:
        budget, backoff = RestartBudget(), Backoff()
        self._health.workers[name] = "up"
        self._turn(name)
        try:
            while True:
                try:
                    await _Noted(work(), lambda: self._turn(name))
                except Exception as exc:  # noqa: BLE001 -- the last frame that can act
                    telemetry.worker_crashed(name, exc)
                    if not budget.spend(time.monotonic()):
                        self._give_up(name)
                        return
                    self._health.workers[name] = "restarting"
                    await asyncio.sleep(backoff.delay_s(budget.spent, random.random))
                    self._health.workers[name] = "up"
                else:
                    self._health.workers.pop(name)
                    return
        finally:
            self._turned.pop(name, None)
            self._ended[name].set()

    def _turn(self, name: str) -> None:
        self._turned[name] = time.monotonic()

    def _give_up(self, name: str) -> None:
        self._health.workers[name] = "given up"
        telemetry.worker_given_up(name, WorkerGaveUp())
        self.gave_up.set()


class _Noted:
    """Awaits something, and notes each time that the event loop comes back to it.

    A worker that waits for what never comes is not come back to. No stage has to say that
    it is alive, so none can forget to. (0.3 us each time.)
    """

    def __init__(self, work: Awaitable[None], note: Callable[[], None]) -> None:
        self._work, self._note = work, note

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        thrown: BaseException | None = None
        came: Any = None
        while True:
            try:
                waits_for = steps.throw(thrown) if thrown else steps.send(came)
            except StopIteration:
                return
            came = thrown = None
            try:
                came = yield waits_for
            except BaseException as exc:  # noqa: BLE001 -- the work's, whatever it is
                thrown = exc
            self._note()
