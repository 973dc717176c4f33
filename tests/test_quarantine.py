"""Who is suspected of having ended a process, and what that costs the others."""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from router.stages.base import Bury, Emit, Outcome, Stage
from router.stages.quarantine import (
    MOST_SUSPECTS,
    NAME,
    REASON,
    TRIALS,
    Quarantine,
    of_this_process,
)


class Death(BaseException):
    """The end of the process, as far as a test can have it."""


class Scripted:
    """A stage of which *dies_of* is the end."""

    name, limit = "scripted", 50

    def __init__(self, dies_of: Callable[[Sequence[bytes]], bool]) -> None:
        self._dies_of = dies_of
        self.batches: list[list[bytes]] = []

    async def handle(self, batch: Sequence[bytes], /) -> Sequence[Outcome[bytes]]:
        self.batches.append(list(batch))
        if self._dies_of(batch):
            raise Death
        return [Emit()] * len(batch)


def life(
    directory: Path, dies_of: Callable[[Sequence[bytes]], bool], *batches: list[bytes]
) -> tuple[list[list[bytes]], list[Outcome[bytes]] | None]:
    """Run one process over *batches*: what its stage saw, and the outcomes, or its death."""
    stage = Scripted(dies_of)
    quarantine = Quarantine(directory)
    watched = quarantine.watch(stage, [1], lambda body: body)
    memory = quarantine._memory
    assert memory is not None
    outcomes: list[Outcome[bytes]] = []
    held = b""

    def dies(batch: Sequence[bytes]) -> bool:
        nonlocal held
        held = memory[:]  # what a process leaves that runs no `finally` any more
        return dies_of(batch)

    stage._dies_of = dies
    try:
        for batch in batches:
            outcomes += asyncio.run(_handle(watched, batch))
    except Death:
        memory[:] = held
        return stage.batches, None
    return stage.batches, outcomes


async def _handle(
    watched: Stage[bytes, bytes], batch: list[bytes]
) -> Sequence[Outcome[bytes]]:
    return await watched.handle(batch)


def deadly(batch: Sequence[bytes]) -> bool:
    return b"deadly" in batch


def never(_: Sequence[bytes]) -> bool:
    return False


def test_what_ends_the_process_alone_and_alone_again_is_buried_unread(
    tmp_path: Path,
) -> None:
    batch = [b"a", b"deadly", b"b"]
    assert life(tmp_path, deadly, batch) == ([batch], None)
    for _ in range(TRIALS):
        seen, outcomes = life(tmp_path, deadly, batch)
        assert (seen[-1], outcomes) == ([b"deadly"], None)
    seen, outcomes = life(tmp_path, deadly, batch)
    assert [b"deadly"] not in seen
    assert outcomes == [Emit(), Bury(REASON), Emit()]
    seen, outcomes = life(tmp_path, deadly, [b"deadly"])  # and for good
    assert (seen, outcomes) == ([], [Bury(REASON)])


def test_who_was_near_is_tried_alone_and_never_buried(tmp_path: Path) -> None:
    near = [b"deadly", *(b"%d" % n for n in range(20))]
    life(tmp_path, deadly, near)
    for _ in range(5):
        others = near[1:]
        seen, outcomes = life(tmp_path, deadly, others)
        assert seen == [[body] for body in others]
        assert outcomes == [Emit()] * 20
        assert life(tmp_path, deadly, [b"deadly"])[0] in ([[b"deadly"]], [])


def test_strangers_stay_together_beside_a_suspect_and_the_order_holds(
    tmp_path: Path,
) -> None:
    life(tmp_path, deadly, [b"deadly"])
    batch = [b"a", b"b", b"deadly", b"deadly", b"c"]
    seen, outcomes = life(tmp_path, never, batch)
    assert seen == [[b"a", b"b"], [b"deadly", b"deadly"], [b"c"]]
    assert outcomes == [Emit()] * 5


def test_nobody_is_suspected_after_a_process_that_ended_its_batches(
    tmp_path: Path,
) -> None:
    life(tmp_path, never, [b"a"], [b"b", b"c"])
    assert Quarantine(tmp_path).suspects == {}

    class Bug:
        name, limit = "bug", 1

        async def handle(self, _: Sequence[bytes], /) -> Sequence[Outcome[bytes]]:
            raise KeyError

    watched = Quarantine(tmp_path).watch(Bug(), [0], lambda body: body)
    with pytest.raises(KeyError):  # a bug that Python can tell is not a death
        asyncio.run(_handle(watched, [b"a"]))
    assert Quarantine(tmp_path).suspects == {}


def test_one_death_too_many_is_forgotten_the_oldest_first(tmp_path: Path) -> None:
    for start in range(0, MOST_SUSPECTS + 200, 100):
        batch = [b"deadly", *(b"%d" % n for n in range(start, start + 100))]
        life(tmp_path, lambda _: True, batch)
    suspects = Quarantine(tmp_path).suspects
    assert len(suspects) == MOST_SUSPECTS
    assert suspects[sha256(b"deadly").digest()] == TRIALS  # and not the guilty
    assert sha256(b"1").digest() not in suspects
    assert sha256(b"1100").digest() in suspects


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 100_000])
def test_a_file_of_something_else_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert Quarantine(tmp_path).suspects == {}
    assert (tmp_path / NAME).stat().st_size > 1000


def test_without_a_directory_or_the_right_to_it_nothing_is_watched(
    tmp_path: Path,
) -> None:
    stage = Scripted(never)
    for directory in ("", str(tmp_path / "absent")):
        quarantine = of_this_process(directory)
        assert quarantine.watch(stage, [0], lambda body: body) is stage
    known = of_this_process(str(tmp_path))
    assert of_this_process(str(tmp_path)) is known  # also for the router of a reload
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0


def test_a_trial_has_the_stage_to_itself_however_many_workers(
    tmp_path: Path,
) -> None:
    life(tmp_path, deadly, [b"deadly"])  # suspected from now on
    in_hand: list[bytes] = []
    seen: list[tuple[bytes, ...]] = []

    class Slow:
        name, limit = "slow", 50

        async def handle(self, batch: Sequence[bytes], /) -> Sequence[Outcome[bytes]]:
            in_hand.extend(batch)
            seen.append(tuple(sorted(in_hand)))
            for _ in range(3):
                await asyncio.sleep(0)
            for body in batch:
                in_hand.remove(body)
            return [Emit()] * len(batch)

    quarantine = Quarantine(tmp_path)
    watched = quarantine.watch(Slow(), [1, 2], lambda body: body)
    batches = [[b"a"], [b"deadly"], [b"b"], [b"c"]]

    async def at_once() -> None:
        async with asyncio.TaskGroup() as group:
            for batch in batches:
                group.create_task(_handle(watched, batch))

    asyncio.run(at_once())
    assert (b"deadly",) in seen
    assert [both for both in seen if b"deadly" in both] == [(b"deadly",)]
    assert (b"b", b"c") in seen  # strangers at the same time
    assert Quarantine(tmp_path).suspects.keys() == {sha256(b"deadly").digest()}
