"""Memory is bounded, whatever comes in."""

import asyncio
import hashlib
import hmac
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from bench.load import closed_loop, post, post_head
from router.cli.traffic import Traffic
from tests.faults.harness import (
    HOST,
    SECRET,
    START,
    Service,
    Sink,
    connected,
    quiet,
    say,
    service,
)

LIMIT_MB = 250
IDLE_MB = 90
BODIES = 500
BODY_BYTES = 3_000_000
SETTINGS = {"PSI_ACK_TIMEOUT_S": "8"}


def held(router: Service) -> tuple[float, float]:
    now, peak = router.memory_mb("VmRSS"), router.memory_mb("VmHWM")
    say(f"resident {now:.0f} MB, at most {peak:.0f} MB")
    return now, peak


async def test_an_idle_router_holds_less_than_90_mb(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    async with service(tmp_path, database, sink) as router:
        assert max(held(router)) < IDLE_MB


class Large:
    """Bodies of 3 MB that differ in their last bytes alone, so that all share one memory.

    Each comes on a connection of its own, which its sender keeps.
    """

    def __init__(self, url: str, updates: int) -> None:
        """Fill each body with so many messages."""
        text = "x" * (BODY_BYTES // updates - 250)
        traffic = Traffic(seed=updates, start=START, batch=updates, text=text)
        body = orjson.loads(next(traffic.bodies()).data)
        self._url = url
        self.connections: list[socket.socket] = []
        self._start = orjson.dumps(body)[:-1] + b',"number":"'
        self._mac = hmac.new(SECRET, self._start, hashlib.sha256)

    async def post(self, number: int) -> int:
        """Post the body of this number; return the status."""
        end = f'{number:06d}"}}'.encode()
        mac = self._mac.copy()
        mac.update(end)
        length = len(self._start) + len(end)
        head = post_head(self._url, length, f"sha256={mac.hexdigest()}")
        connection = socket.socket()
        self.connections.append(connection)
        connection.setblocking(False)
        return await self._exchange(connection, (head, self._start, end))

    async def _exchange(
        self, connection: socket.socket, parts: tuple[bytes, ...]
    ) -> int:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(
            connection, (HOST, int(self._url.split(":")[2].split("/")[0]))
        )
        for part in parts:
            await loop.sock_sendall(connection, memoryview(part))
        return int((await loop.sock_recv(connection, 4096))[9:12])

    def close(self) -> None:
        """Close every connection, which stayed open until now."""
        for connection in self.connections:
            connection.close()


@pytest.mark.parametrize("updates", [1, 1000])
async def test_500_bodies_of_3_mb_at_once_are_answered_within_250_mb(
    database: str, tmp_path: Path, sink: Sink, updates: int
) -> None:
    async with service(tmp_path, database, sink, **SETTINGS) as router:
        large = Large(router.url, updates)
        with closing(large):
            statuses = await asyncio.gather(*map(large.post, range(BODIES)))
            say(f"{Counter(statuses)}")
            assert max(held(router)) < LIMIT_MB
        assert set(statuses) <= {200, 503}
        assert 200 in statuses
        status, answer = await router.post(
            next(Traffic(seed=9, start=START).bodies()).data
        )
        assert (status, answer["processed"]) == (200, 1)


async def full_speed(database: str, directory: Path, sink: Sink, messages: int) -> None:
    acked = 0

    def requests(url: str) -> Iterator[bytes]:
        traffic = Traffic(seed=messages, start=START, contacts=5000)
        return (post(url, body.data, SECRET) for body in traffic.bodies(messages))

    async with service(directory, database, sink, **SETTINGS) as router:
        run = await closed_loop(router.url, requests(router.url), 50)
        acked = len(run.acked)
        say(
            f"{acked} acked in {run.took_s:.0f} s, {run.rate:.0f}/s, {run.refused} refused"
        )
        assert max(held(router)) < LIMIT_MB
        await quiet(database, within_s=300)
        assert max(held(router)) < LIMIT_MB
    async with connected(database) as connection:
        stored = await connection.fetchval(
            "select count(distinct whatsapp_message_id) from mensajes"
        )
    assert stored == acked == messages


async def test_50000_messages_at_full_speed_end_within_250_mb(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await full_speed(database, tmp_path, sink, 50_000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_500000_messages_at_full_speed_end_within_250_mb(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await full_speed(database, tmp_path, sink, 500_000)
