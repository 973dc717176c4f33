"""The stream: a queue on a real Redis, shared by processes that come and go."""

import asyncio
import importlib
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from router.errors import ConfigError, QueueFull, Transient
from router.queues import streams
from router.queues.base import Queue
from router.queues.durable import DurableQueue
from router.queues.streams import ALIVE, GROUP, STREAM, Streams, client
from tests.contract.queue_contract import QueueContract, lease
from tests.durable import Shelved, drained, filled
from tests.faultproxy import HOST, FaultProxy
from tests.servers import Redis, redis_program, until

WITHIN_S = streams.CALL_S + 2.0


@pytest.fixture
async def streamed(redis_url: str) -> AsyncIterator[Shelved]:
    found = Shelved(lambda: Streams(redis_url))
    yield found
    await found.end_all()


@pytest.fixture
async def own_redis(redis_server: Redis, tmp_path: Path) -> AsyncIterator[Redis]:
    """A server of the test's own, to be killed or spoiled."""
    program = redis_program()
    assert program
    server = Redis(program, tmp_path)
    await server.start()
    yield server
    server.kill()  # one that writes its first append-only file does not stop


@pytest.fixture
async def own(own_redis: Redis) -> AsyncIterator[Shelved]:
    found = Shelved(lambda: Streams(own_redis.url))
    yield found
    await found.end_all()


@pytest.fixture
async def proxied(redis_url: str) -> AsyncIterator[tuple[Shelved, FaultProxy]]:
    port = urlsplit(redis_url).port
    assert port
    async with FaultProxy(HOST, port) as proxy:
        found = Shelved(lambda: Streams(f"redis://{HOST}:{proxy.port}/0"))
        yield found, proxy
        proxy.black_hole = proxy.mute = False
        await found.end_all()


class TestRedisQueue(QueueContract):
    @pytest.fixture(autouse=True)
    def _on_a_server(self, streamed: Shelved) -> None:
        self._streamed = streamed

    async def make(self, *, bound: int = 100, refuse: bool = False) -> Queue[str]:
        return await self._streamed.queue(bound=bound, refuse=refuse)


async def empty(url: str) -> bool:
    """Return whether nothing lies in the stream, is pending, or is counted."""
    server = client(url)
    try:
        waiting = await server.xlen(STREAM)
        pending = (await server.xpending(STREAM, GROUP))["pending"]
        size = int(await server.get(streams.BYTES) or 0)
    finally:
        await server.aclose()
    return bool(waiting == pending == size == 0)


async def test_what_is_settled_is_gone_from_the_server(
    streamed: Shelved, redis_url: str
) -> None:
    queue = await streamed.queue()
    for item in "abc":
        await queue.put(item, size=1)
    await drained(queue, 3)
    await until(lambda: empty(redis_url))


async def test_the_bytes_are_bounded_too(streamed: Shelved) -> None:
    queue = await streamed.queue(bound_bytes=10, refuse=True)
    await queue.put("a", size=6)
    with pytest.raises(QueueFull):
        await queue.put("b", size=6)


async def test_what_an_ending_process_holds_is_lent_by_the_next_at_once(
    streamed: Shelved,
) -> None:
    first = await streamed.queue()
    for item in "abc":
        await first.put(item)
    (_, second) = await lease(first, 2)
    second.ack()
    await streamed.end(first)
    again = await lease(await streamed.queue())
    assert [one.item for one in again] == ["a", "c"]
    assert again[0].attempt == 2


DIES = """
import asyncio, os, sys
from router.queues.durable import DurableQueue, Packing
from router.queues.streams import Streams

async def main():
    text = Packing(str.encode, bytes.decode)
    queue = DurableQueue("test", Streams(sys.argv[1]), text, bound=99, bound_bytes=999)
    worker = asyncio.create_task(queue.run())
    for item in "abc":
        await queue.put(item)
    await queue.lease(2)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_what_a_killed_process_of_this_machine_held_comes_first(
    streamed: Shelved, redis_url: str
) -> None:
    died = subprocess.run([sys.executable, "-c", DIES, redis_url], check=False)
    assert died.returncode == -9
    queue = await streamed.queue()
    await queue.put("d")
    found = await lease(queue)
    assert [(one.item, one.attempt) for one in found[:4]] == [
        ("a", 2),
        ("b", 2),
        ("c", 2),
        ("d", 1),
    ]


async def test_what_a_silent_process_elsewhere_held_is_taken_over_after_a_time(
    streamed: Shelved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DEAD_S", 3.0)
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    first = await streamed.queue()
    monkeypatch.undo()
    monkeypatch.setattr(streams, "DEAD_S", 3.0)
    await first.put("a")
    await lease(first)
    second = await streamed.queue()
    reader = asyncio.create_task(lease(second))
    await asyncio.wait([reader], timeout=4.0)
    assert not reader.done(), "it holds it for long, and lives"
    await streamed.die(first)
    began = time.monotonic()
    (found,) = await reader
    assert found.item == "a"
    assert 1.0 < time.monotonic() - began < 6.0
    found.ack()


async def test_processes_share_a_stream_and_each_item_is_lent_once(
    streamed: Shelved,
) -> None:
    queues = [await streamed.queue(bound=1000, bound_bytes=10_000) for _ in range(3)]
    found: list[str] = []

    async def reads(queue: DurableQueue[str]) -> None:
        while True:
            for one in await lease(queue):
                found.append(one.item)
                one.ack()

    readers = [asyncio.create_task(reads(queue)) for queue in queues]
    for number in range(300):
        await queues[number % 3].put(str(number))
    await until(lambda: len(found) >= 300)
    for reader in readers:
        reader.cancel()
    assert sorted(found, key=int) == [str(number) for number in range(300)]


async def test_an_answer_that_is_lost_is_refused_and_kept_all_the_same(
    proxied: tuple[Shelved, FaultProxy],
) -> None:
    made, proxy = proxied
    queue = await made.queue()
    await queue.put("before")
    proxy.mute = True
    with pytest.raises(Transient):
        await queue.put("a")
    proxy.mute = False
    proxy.reset_all()
    await until(lambda: made.said[-1] is None, within_s=WITHIN_S)
    await queue.put("a")  # whoever was refused comes again
    assert await drained(queue, 3) == ["before", "a", "a"]


async def test_a_black_hole_is_refused_in_time_heals_and_costs_no_cpu(
    proxied: tuple[Shelved, FaultProxy],
) -> None:
    made, proxy = proxied
    queue = await made.queue()
    await queue.put("before")
    proxy.black_hole = True
    began, spent = time.monotonic(), time.process_time()
    for _ in range(5):
        with pytest.raises(Transient):
            async with asyncio.timeout(WITHIN_S):
                await queue.put("a")
        await asyncio.sleep(0.5)  # the outage
    assert made.said[-1]
    assert (time.process_time() - spent) / (time.monotonic() - began) < 0.2
    proxy.black_hole = False
    await until(lambda: made.said[-1] is None, within_s=2 * WITHIN_S)
    await queue.put("after")
    found = await drained(queue, 2)
    assert (found[0], found[-1]) == ("before", "after")


async def test_a_server_that_is_killed_loses_nothing_it_answered(
    own: Shelved, own_redis: Redis
) -> None:
    queue = await own.queue(bound=10_000, bound_bytes=1 << 20)
    taken: list[str] = []
    go_on = True

    async def puts(name: str) -> None:
        number = 0
        while go_on:
            number += 1
            try:
                await queue.put(f"{name}{number}")
            except Transient:
                await asyncio.sleep(0.05)  # as whoever was answered 503
            else:
                taken.append(f"{name}{number}")

    writers = [asyncio.create_task(puts(name)) for name in "abcd"]
    for _ in range(3):
        many = len(taken) + 200
        await until(lambda wanted=many: len(taken) >= wanted)  # type: ignore[misc]
        own_redis.kill()
        await own_redis.start()
    go_on = False
    await asyncio.gather(*writers)
    await queue.put("the last")
    found: list[str] = []
    while "the last" not in found:
        found += await drained(queue, 1)
    assert set(taken) <= set(found)
    for name in "abcd":
        numbers = [int(item[1:]) for item in found if item[0] == name]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("appendfsync", "everysec", "always"),
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
)
async def test_a_server_that_may_forget_is_not_used_until_it_keeps(
    own: Shelved, own_redis: Redis, name: str, bad: str, good: str
) -> None:
    await own_redis.execute(f"CONFIG SET {name} {bad}")
    queue = await own.queue()
    await until(lambda: "not durable" in str(own.said[-1]))
    assert name in str(own.said[-1])
    await until(lambda: queue._away_for() > 2.0)
    with pytest.raises(Transient):
        await queue.put("a")
    await own_redis.execute(f"CONFIG SET {name} {good}")
    await until(lambda: own.said[-1] is None)
    await queue.put("a")
    assert await drained(queue, 1) == ["a"]


async def test_a_server_that_hides_its_settings_is_used_with_a_warning(
    own: Shelved, own_redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await own_redis.execute("ACL SETUSER default -config")
    queue = await own.queue()
    await queue.put("a")
    assert "redis_warning" in [record.getMessage() for record in caplog.records]


async def test_a_server_that_is_full_refuses_and_is_emptied(
    own: Shelved, own_redis: Redis
) -> None:
    queue = await own.queue(bound=10_000, bound_bytes=1 << 30)
    await own_redis.execute("CONFIG SET maxmemory 4mb")
    taken = await filled(queue, 50_000)
    assert taken
    await own_redis.execute("CONFIG SET maxmemory 1mb")  # less than it holds
    assert await drained(queue, len(taken)) == taken
    await until(lambda: empty(own_redis.url))
    await own_redis.execute("CONFIG SET maxmemory 4mb")

    async def fits() -> bool:
        try:
            await queue.put("fits")
        except Transient:
            return False
        return True

    await until(fits)


async def test_a_stream_that_was_flushed_is_made_anew(
    streamed: Shelved, redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    queue = await streamed.queue()
    await queue.put("a")
    (held,) = await lease(queue)
    await redis_server.execute("FLUSHALL")
    held.ack()

    async def taken() -> bool:
        try:
            await queue.put("b")
        except Transient:
            return False
        return True

    await until(taken)
    assert "b" in await drained(queue, 1)
    (line,) = (r for r in caplog.records if r.getMessage() == "redis_group_lost")
    assert line.levelno == logging.ERROR


async def test_what_somebody_else_added_does_not_stop_the_queue(
    streamed: Shelved, redis_server: Redis
) -> None:
    queue = await streamed.queue()
    await queue.put("a")
    await redis_server.execute(f"XADD {STREAM} * hello world")
    await queue.put("b")
    assert await drained(queue, 3) == ["a", "", "b"]


async def test_a_consumer_of_yesterday_is_forgotten(
    streamed: Shelved, redis_server: Redis
) -> None:
    await redis_server.execute(f"XGROUP CREATE {STREAM} {GROUP} 0 MKSTREAM")
    await redis_server.execute(
        f"XGROUP CREATECONSUMER {STREAM} {GROUP} elsewhere/1/old"
    )
    await redis_server.execute(f"ZADD {ALIVE} 1 elsewhere/1/old")
    await (await streamed.queue()).put("a")
    assert await redis_server.execute(f"ZSCORE {ALIVE} elsewhere/1/old") == "$-1"


def test_without_the_package_the_settings_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    monkeypatch.delitem(sys.modules, streams.__name__)
    with pytest.raises(ConfigError, match=r"psi-router\[redis\]"):
        importlib.import_module(streams.__name__)
