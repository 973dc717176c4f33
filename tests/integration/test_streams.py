"""The stream: a queue on a real Redis, shared by processes that come and go."""

from collections.abc import AsyncIterator

import pytest

from router.queues.base import Queue
from router.queues.streams import Streams
from tests.contract.queue_contract import QueueContract
from tests.durable import Shelved


@pytest.fixture
async def streamed(redis_url: str) -> AsyncIterator[Shelved]:
    found = Shelved(lambda: Streams(redis_url))
    yield found
    await found.end_all()


class TestRedisQueue(QueueContract):
    @pytest.fixture(autouse=True)
    def _on_a_server(self, streamed: Shelved) -> None:
        self._streamed = streamed

    async def make(self, *, bound: int = 100, refuse: bool = False) -> Queue[str]:
        return await self._streamed.queue(bound=bound, refuse=refuse)
