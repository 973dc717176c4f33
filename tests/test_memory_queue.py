import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import QueueFull
from router.queues.base import Queue
from router.queues.memory import MemoryQueue, WhenFull
from tests.contract.queue_contract import QueueContract


class TestMemoryQueue(QueueContract):
    async def make(self, *, bound: int = 100, refuse: bool = False) -> Queue[str]:
        full = WhenFull.REFUSE if refuse else WhenFull.WAIT
        return MemoryQueue("test", bound=bound, bound_bytes=1000, when_full=full)


async def test_the_bytes_are_bounded_too() -> None:
    queue: MemoryQueue[str] = MemoryQueue(
        "test", bound=100, bound_bytes=10, when_full=WhenFull.REFUSE
    )
    await queue.put("a", size=6)
    with pytest.raises(QueueFull):
        await queue.put("b", size=6)


async def test_of_many_a_share_is_lent_whoever_else_has_some_and_of_few_all() -> None:
    queue: MemoryQueue[int] = MemoryQueue("q", bound=99, bound_bytes=99, share=0.5)
    for number in range(41):
        assert queue.put_nowait(number)
    first, second = await queue.lease(25), await queue.lease(25)
    assert (len(first), len(second)) == (21, 20)
    for lease in second:
        lease.ack()
    for number in range(20):
        assert queue.put_nowait(number)
    assert len(await queue.lease(25)) == 20  # and not 10: the others have theirs
    for lease in first:
        lease.ack()
    for number in range(10):
        assert queue.put_nowait(number)
    assert len(await queue.lease(9)) == 9
    assert len(await queue.lease(9)) == 1


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_is_a_part_of_the_whole(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        MemoryQueue("q", bound=1, bound_bytes=1, share=share)


async def test_an_item_larger_than_the_bound_is_taken_alone() -> None:
    queue: MemoryQueue[str] = MemoryQueue("test", bound=100, bound_bytes=10)
    await queue.put("large", size=600)
    (lease,) = await queue.lease(1)
    assert lease.item == "large"


@given(
    lanes=st.lists(st.sampled_from("xyz"), min_size=1, max_size=30),
    verdicts=st.lists(st.sampled_from(["ack", "nack", "hold"]), max_size=60),
    limit=st.integers(1, 5),
)
def test_any_settling_keeps_each_lane_in_order(
    lanes: list[str], verdicts: list[str], limit: int
) -> None:
    """Whatever is acked or given back, the acks of a lane come in the order it was put."""
    done: list[tuple[str, int]] = []

    async def play() -> None:
        queue: MemoryQueue[tuple[str, int]] = MemoryQueue("t", bound=99, bound_bytes=99)
        for number, lane in enumerate(lanes):
            await queue.put((lane, number), lane=lane)
        verdict = iter([*verdicts, *["ack"] * 200])
        while queue.stats().unsettled:
            leases = list(await queue.lease(limit))
            given_back = set[str]()
            for lease in leases:  # what a stage owes: the rest of a lane goes back too
                lane, _ = lease.item
                if lane in given_back or next(verdict) == "nack":
                    given_back.add(lane)
                    lease.nack()
                else:
                    done.append(lease.item)
                    lease.ack()

    asyncio.run(play())
    for lane in set(lanes):
        numbers = [number for name, number in done if name == lane]
        assert numbers == sorted(numbers)
    assert len(done) == len(lanes)
