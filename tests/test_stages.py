import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from router.errors import Poison, QueueClosed, Transient
from router.health import Health
from router.queues.base import Tally
from router.queues.memory import MemoryQueue
from router.retry import Backoff
from router.stages.base import Again, Bury, Emit, Passed, Runner
from router.supervisor import Supervisor

FAST = Backoff(first_s=0.0, cap_s=0.0)
Handle = Callable[[Sequence[str]], Sequence[Emit[str] | Again | Bury]]


class Scripted:
    """A stage that does what the test says."""

    name, limit = "scripted", 50

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self.batches: list[list[str]] = []

    async def handle(
        self, batch: Sequence[str], /
    ) -> Sequence[Emit[str] | Again | Bury]:
        self.batches.append(list(batch))
        return self._handle(batch)


def queue(name: str) -> MemoryQueue[str]:
    return MemoryQueue(name, bound=100, bound_bytes=10_000)


class Line:
    """One stage between two queues, and a graveyard to look into."""

    def __init__(self, handle: Handle, *, last: bool = True) -> None:
        self.source, self.sink = queue("source"), queue("sink")
        self.buried: list[tuple[str, str]] = []
        self.stage = Scripted(handle)
        self.runner = Runner(
            self.stage, self.source, None if last else self.sink, self._bury, FAST
        )

    async def _bury(self, _stage: str, item: Any, reason: str) -> None:
        self.buried.append((item, reason))

    async def feed(self, *items: str) -> list[Tally]:
        heard: list[Tally] = []
        for item in items:
            await self.source.put(item, settled=heard.append)
        await self.source.close()
        return heard


def done(batch: Sequence[str]) -> list[Emit[str]]:
    return [Emit()] * len(batch)


async def test_of_two_workers_none_buries_whom_the_other_one_suspects() -> None:
    line = Line(done, last=True)
    gate = asyncio.Event()
    alone: list[str] = []

    async def slow(batch: Sequence[str], /) -> list[Emit[str]]:
        await gate.wait()
        if len(batch) == 1:
            alone.extend(batch)
        if "bug" in batch:
            raise KeyError(batch)
        return done(batch)

    line.stage.handle = slow  # type: ignore[method-assign]
    line.stage.limit = 3
    heard = await line.feed(*"abcdefgh", "bug", *"ijklmnop")

    async def worker() -> None:
        while True:
            try:
                await line.runner.run()
            except KeyError:
                await asyncio.sleep(0)
            else:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(worker())
        gate.set()
    assert line.buried == [("bug", "bug: KeyError")]
    assert alone.count("bug") == 2  # alone, and alone again
    assert sorted(heard) == sorted([Tally(stored=1)] * 16 + [Tally(buried=1)])


async def test_one_bad_item_spoils_no_other() -> None:
    def handle(batch: Sequence[str]) -> list[Emit[str]]:
        if "bad" in batch:
            raise Poison("refused")
        return done(batch)

    line = Line(handle)
    heard = await line.feed("a", "b", "bad", "c", "d")
    await line.runner.run()
    assert line.buried == [("bad", "refused")]
    assert sorted(heard) == sorted([Tally(stored=1)] * 4 + [Tally(buried=1)])


async def test_a_system_error_is_ridden_out_and_buries_nothing() -> None:
    failures = iter([True, True, True])

    def handle(batch: Sequence[str]) -> list[Emit[str]]:
        if next(failures, False):
            raise Transient("the database is away")
        return done(batch)

    line = Line(handle)
    heard = await line.feed("a", "b")
    await line.runner.run()
    assert line.buried == []
    assert heard == [Tally(stored=1)] * 2
    assert line.stage.batches == [["a", "b"]] * 4


async def test_a_lease_is_settled_only_when_all_that_came_of_it_is() -> None:
    line = Line(
        lambda batch: [Emit((Passed(f"{i}1"), Passed(f"{i}2"))) for i in batch],
        last=False,
    )
    heard = await line.feed("a")
    await line.runner.run_once()
    first, second = await line.sink.lease(10)
    first.ack()
    assert heard == []
    second.bury("no")
    assert heard == [Tally(stored=1, buried=1)]


async def test_an_item_that_kills_a_worker_is_buried_and_the_rest_goes_on() -> None:
    def handle(batch: Sequence[str]) -> list[Emit[str]]:
        if "killer" in batch:
            raise KeyError("a bug")
        return done(batch)

    line = Line(handle)
    heard = await line.feed("a", "killer", "b")
    supervisor = Supervisor(Health())
    await supervisor.start("scripted", line.runner.run)
    await supervisor.finished("scripted")
    assert line.buried == [("killer", "bug: KeyError")]
    assert sorted(heard) == sorted([Tally(stored=1)] * 2 + [Tally(buried=1)])
    assert not supervisor.gave_up.is_set()


async def test_a_stage_that_drops_an_item_is_a_bug_and_not_a_loss() -> None:
    line = Line(lambda batch: done(batch)[1:])
    heard = await line.feed("a", "b")
    with pytest.raises(ValueError, match="zip"):
        await line.runner.run()
    assert heard == [Tally(stored=1)]
    assert line.source.stats().unsettled == 1


async def test_order_is_kept_over_an_item_that_must_wait() -> None:
    tries = iter(["again"])
    order: list[str] = []

    def handle(batch: Sequence[str]) -> list[Emit[str] | Again]:
        outcomes: list[Emit[str] | Again] = []
        for item in batch:
            if item == "a" and next(tries, ""):
                outcomes.append(Again(0.0, "not now"))
            elif outcomes and isinstance(outcomes[0], Again):
                outcomes.append(Again(0.0, "after the first"))
            else:
                order.append(item)
                outcomes.append(Emit())
        return outcomes

    line = Line(handle)
    await line.feed("a", "b", "c")
    await line.runner.run()
    assert order == ["a", "b", "c"]


async def test_what_cannot_be_buried_yet_waits_until_it_can() -> None:
    line = Line(lambda batch: [Bury("no good")] * len(batch))
    away = iter([True, True])
    bury = line.runner.bury

    async def flaky(stage: str, item: Any, reason: str) -> None:
        if next(away, False):
            raise Transient("away")
        await bury(stage, item, reason)

    line.runner.bury = flaky
    heard = await line.feed("a")
    await line.runner.run()
    assert (line.buried, heard) == ([("a", "no good")], [Tally(buried=1)])


async def test_a_worker_that_keeps_crashing_is_given_up() -> None:
    async def crash() -> None:
        raise KeyError("a bug")

    health = Health()
    supervisor = Supervisor(health)
    await supervisor.start("crasher", crash)
    await supervisor.gave_up.wait()
    assert "crasher: given up" in health.missing()


async def test_a_dead_worker_does_not_stop_the_others() -> None:
    async def crash() -> None:
        raise KeyError("a bug")

    supervisor, released = Supervisor(Health()), asyncio.Event()
    await supervisor.start("other", released.wait)  # type: ignore[arg-type]
    await supervisor.start("crasher", crash)
    await supervisor.finished("crasher")
    released.set()
    await supervisor.finished("other")


async def test_a_worker_s_name_is_its_own() -> None:
    supervisor, released = Supervisor(Health()), asyncio.Event()
    await supervisor.start("one", released.wait)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="runs already"):
        await supervisor.start("one", released.wait)  # type: ignore[arg-type]
    await supervisor.close()


async def test_a_cancelled_worker_gives_back_what_it_had() -> None:
    source, entered = queue("source"), asyncio.Event()

    class Stuck:
        name, limit = "stuck", 10

        async def handle(self, batch: Sequence[str], /) -> list[Emit[str]]:
            entered.set()
            await asyncio.Event().wait()
            return done(batch)

    async def bury(stage: str, item: Any, reason: str) -> None:
        raise AssertionError(stage, item, reason)

    supervisor = Supervisor(Health())
    await source.put("a")
    runner: Runner[str, str] = Runner(Stuck(), source, None, bury)
    await supervisor.start("stuck", runner.run)
    await entered.wait()
    await supervisor.close()
    assert source.stats().depth == 1
    await source.close()
    (lease,) = await source.lease(1)
    lease.ack()
    with pytest.raises(QueueClosed):
        await source.lease(1)
