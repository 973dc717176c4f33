"""What any queue must do, whatever carries it. A backend subclasses this with `make`."""

import asyncio

import pytest

from router.errors import QueueClosed, QueueFull
from router.queues.base import Lease, Queue, Tally


def items(leases: "list[Lease[str]] | tuple[Lease[str], ...]") -> list[str]:
    return [lease.item for lease in leases]


async def lease(queue: Queue[str], limit: int = 10) -> list[Lease[str]]:
    return list(await queue.lease(limit))


class QueueContract:
    """The promise of router.queues.base, as tests."""

    async def make(self, *, bound: int = 100, refuse: bool = False) -> Queue[str]:
        raise NotImplementedError

    async def test_what_went_in_comes_out_in_order(self) -> None:
        queue = await self.make()
        for item in "abc":
            await queue.put(item)
        assert items(await lease(queue, 2)) == ["a", "b"]
        assert items(await lease(queue, 2)) == ["c"]

    async def test_a_reader_waits_for_the_first_item(self) -> None:
        queue = await self.make()
        reader = asyncio.create_task(lease(queue))
        await asyncio.sleep(0)
        assert not reader.done()
        await queue.put("a")
        assert items(await reader) == ["a"]

    async def test_a_nacked_item_comes_back_one_attempt_older(self) -> None:
        queue = await self.make()
        await queue.put("a")
        (first,) = await lease(queue)
        assert first.attempt == 1
        first.nack()
        (again,) = await lease(queue)
        assert (again.item, again.attempt) == ("a", 2)

    async def test_nacked_items_come_back_in_their_old_places(self) -> None:
        queue = await self.make()
        for item in "abcd":
            await queue.put(item)
        first, second, third = await lease(queue, 3)
        second.nack()
        third.nack()
        first.nack()
        assert items(await lease(queue)) == ["a", "b", "c", "d"]

    async def test_a_nacked_item_waits_for_its_time_and_others_pass(self) -> None:
        queue = await self.make()
        await queue.put("late", lane="x")
        await queue.put("soon", lane="y")
        (late,) = await lease(queue, 1)
        late.nack(0.05)
        assert items(await lease(queue)) == ["soon"]
        assert items(await lease(queue)) == ["late"]

    async def test_nothing_of_a_lane_passes_an_item_that_waits(self) -> None:
        queue = await self.make()
        for item, lane in (("1", "x"), ("2", "x"), ("other", "y")):
            await queue.put(item, lane=lane)
        (first,) = await lease(queue, 1)
        first.nack(0.05)
        assert items(await lease(queue)) == ["other"]
        assert items(await lease(queue)) == ["1", "2"]

    async def test_nothing_of_a_lane_passes_an_item_on_loan(self) -> None:
        queue = await self.make()
        for item, lane in (("1", "x"), ("2", "x"), ("other", "y")):
            await queue.put(item, lane=lane)
        (first,) = await lease(queue, 1)
        assert items(await lease(queue)) == ["other"]
        reader = asyncio.create_task(lease(queue))
        await asyncio.sleep(0)
        assert not reader.done()
        first.ack()
        assert items(await reader) == ["2"]

    async def test_a_lane_may_share_a_batch_in_order(self) -> None:
        queue = await self.make()
        for item in ("1", "2", "3"):
            await queue.put(item, lane="x")
        assert items(await lease(queue)) == ["1", "2", "3"]

    async def test_a_lease_is_settled_once(self) -> None:
        queue = await self.make()
        await queue.put("a")
        (only,) = await lease(queue)
        only.ack()
        with pytest.raises(RuntimeError):
            only.nack()

    async def test_a_full_queue_makes_its_writer_wait(self) -> None:
        queue = await self.make(bound=1)
        await queue.put("a")
        writer = asyncio.create_task(queue.put("b"))
        await asyncio.sleep(0)
        assert not writer.done()
        (first,) = await lease(queue)
        first.ack()
        await writer
        assert items(await lease(queue)) == ["b"]

    async def test_a_lent_item_still_takes_its_room(self) -> None:
        queue = await self.make(bound=1, refuse=True)
        await queue.put("a")
        (first,) = await lease(queue)
        with pytest.raises(QueueFull):
            await queue.put("b")
        first.ack()
        await queue.put("b")

    async def test_a_closed_queue_takes_nothing_and_gives_what_is_left(self) -> None:
        queue = await self.make()
        await queue.put("a")
        await queue.close()
        with pytest.raises(QueueClosed):
            await queue.put("b")
        (last,) = await lease(queue)
        last.ack()
        with pytest.raises(QueueClosed):
            await lease(queue)

    async def test_closing_wakes_a_writer_that_waits_for_room(self) -> None:
        queue = await self.make(bound=1)
        await queue.put("a")
        writer = asyncio.create_task(queue.put("b"))
        await asyncio.sleep(0)
        await queue.close()
        with pytest.raises(QueueClosed):
            await writer

    async def test_a_reader_of_a_closed_queue_waits_for_what_is_on_loan(self) -> None:
        queue = await self.make()
        await queue.put("a")
        (only,) = await lease(queue)
        await queue.close()
        reader = asyncio.create_task(lease(queue))
        await asyncio.sleep(0)
        assert not reader.done()
        only.nack()
        (again,) = await reader
        again.ack()
        with pytest.raises(QueueClosed):
            await lease(queue)

    async def test_a_reader_that_leaves_takes_no_wake_up_with_it(self) -> None:
        queue = await self.make()
        leaving = asyncio.create_task(lease(queue))
        staying = asyncio.create_task(lease(queue))
        await asyncio.sleep(0)
        await queue.put("a")
        leaving.cancel()
        await asyncio.wait([leaving])
        if not leaving.cancelled():
            leaving.result()[0].nack()
        assert items(await staying) == ["a"]

    async def test_stats_tell_depth_loans_and_age(self) -> None:
        queue = await self.make()
        await queue.put("a", size=10)
        await queue.put("b", size=5)
        (first,) = await lease(queue, 1)
        stats = queue.stats()
        assert (stats.depth, stats.unsettled, stats.size_bytes) == (1, 2, 15)
        assert stats.oldest_s >= 0
        first.bury("no reason")
        assert queue.stats().unsettled == 1

    async def test_whoever_put_an_item_hears_what_became_of_it(self) -> None:
        queue = await self.make()
        heard: list[Tally] = []
        for item in ("kept", "buried"):
            await queue.put(item, settled=heard.append)
        kept, buried = await lease(queue)
        kept.ack(Tally(stored=3))
        buried.bury("no reason")
        wanted = [] if queue.durable else [Tally(stored=3), Tally(buried=1)]
        assert heard == wanted
