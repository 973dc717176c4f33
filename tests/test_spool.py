"""The spool: a file that keeps what was put, whatever becomes of its process or its bytes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from router.queues.base import Queue
from router.queues.spool import Spool
from tests.contract.queue_contract import QueueContract, lease
from tests.durable import Shelved


@pytest.fixture
async def spooled(tmp_path: Path) -> AsyncIterator[Shelved]:
    found = Shelved(lambda: Spool(tmp_path / "spool"))
    yield found
    await found.end_all()


class TestSpoolQueue(QueueContract):
    @pytest.fixture(autouse=True)
    def _in_a_directory(self, spooled: Shelved) -> None:
        self._spooled = spooled

    async def make(self, *, bound: int = 100, refuse: bool = False) -> Queue[str]:
        return await self._spooled.queue(bound=bound, refuse=refuse)


async def test_what_is_not_settled_comes_back_in_order_one_attempt_older(
    spooled: Shelved,
) -> None:
    queue = await spooled.queue()
    for item in "abcd":
        await queue.put(item)
    _, second = await lease(queue, 2)
    second.ack()
    await spooled.end(queue)
    again = await lease(await spooled.queue())
    assert [(one.item, one.attempt) for one in again] == [("a", 2), ("c", 2), ("d", 2)]
