"""Delivery against destinations that do everything wrong, on a real PostgreSQL.

The parts are those of the service: outbox, circuit, stage, runners, client. Only the writers
of the rows are the test's own.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from router.config import Destination
from router.destinations import circuit as circuit_module
from router.destinations.circuit import Circuit, State
from router.destinations.client import WebhookClient
from router.model import Attempt, Notification
from router.stages.base import Runner
from router.stages.notify import Notify, Teller
from router.store.database import Database
from router.store.dead_letters import DeadLetters
from router.store.outbox import OutboxQueue
from tests.faults.harness import dice, say
from tests.misbehaving import Misbehaving
from tests.servers import until

READERS = 4
INSERT = """
insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
select $1, $2 || n, $2 || n % $4::int, convert_to('{"n":' || n || '}', 'UTF8'), now(),
       'pending'
from generate_series(1, $3::int) n"""
PENDING = "select count(*) as n from router.outbox where state = 'pending' and destination = $1"


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    async with WebhookClient(signing_secrets=(), allow_private=()) as client:
        yield client


@pytest.fixture
async def server() -> AsyncIterator[Misbehaving]:
    async with Misbehaving() as server:
        yield server


@dataclass
class Telling:
    """One destination that is being told."""

    queue: OutboxQueue
    circuit: Circuit
    states: list[State] = field(default_factory=list)


@asynccontextmanager
async def telling(
    store: Database, destination: Destination, teller: Teller
) -> AsyncIterator[Telling]:
    """Tell *destination* as the pipeline does, until the block ends."""
    states: list[State] = []
    circuit = Circuit(destination.concurrency, changed=states.append)
    queue = OutboxQueue(store, destination, gate=circuit)
    stage = Notify(destination, teller, queue, circuit)
    runner: Runner[Notification, Any] = Runner(
        stage, queue, None, DeadLetters(store).bury
    )
    readers = [asyncio.create_task(runner.run()) for _ in range(READERS)]
    try:
        yield Telling(queue, circuit, states)
    finally:
        await queue.close()
        await asyncio.gather(*readers)


def crm(name: str, url: str, **policy: Any) -> Destination:
    return replace(Destination(name=name, url=url, timeout_s=2.0), **policy)


async def fill(
    store: Database, name: str, rows: int, lanes: int = 20, prefix: str = ""
) -> None:
    """Insert rows 1 to *rows*, keys and lanes beginning with *prefix* (the name)."""
    await store.execute(INSERT, name, prefix or f"{name}-", rows, lanes)


async def pending(store: Database, name: str) -> int:
    (row,) = await store.fetch(PENDING, name)
    return int(row["n"])


async def told(store: Database, name: str, *, within_s: float = 30.0) -> float:
    """Wait until nothing is left to tell *name*; return the seconds."""
    clock = asyncio.get_running_loop().time
    started = clock()

    async def is_told() -> bool:
        return await pending(store, name) == 0

    await until(is_told, within_s=within_s)
    return clock() - started


@pytest.mark.parametrize("behaviour", ["hang", "drip-headers", "answer/503", "close"])
async def test_a_destination_that_misbehaves_delays_itself_alone(
    store: Database, client: WebhookClient, server: Misbehaving, behaviour: str
) -> None:
    bad = crm("bad", server.url(behaviour))
    good = crm("good", server.url("answer/200"))
    await fill(store, "bad", 400)
    async with AsyncExitStack() as stack:
        sick = await stack.enter_async_context(telling(store, bad, client))
        await stack.enter_async_context(telling(store, good, client))
        await until(lambda: server.requests)
        await fill(store, "good", 400)
        assert await told(store, "good") < 8
        await until(lambda: State.OPEN in sick.states)
        (row,) = await store.fetch(
            "select max(attempts) as n from router.outbox where destination = 'bad'"
        )
        assert row["n"] <= 2
        assert await pending(store, "bad") == 400


async def test_it_is_told_all_in_order_once_it_is_back(
    store: Database,
    client: WebhookClient,
    server: Misbehaving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuit_module, "PROBE_S", 0.2)
    monkeypatch.setattr(circuit_module, "FIRST_PROBE_S", 0.1)
    flapping = Flapping(client, server.url("answer/503"), server.url("answer/200"))
    await fill(store, "crm", 200, lanes=10)
    destination = crm("crm", server.url("answer/200"), retry_schedule_s=(3600.0,) * 7)
    async with telling(store, destination, flapping) as sick:
        await until(lambda: sick.states.count(State.HALF_OPEN) >= 5)
        flapping.up = True
        assert await told(store, "crm") < 10  # and not an hour later
        assert sick.circuit.state is State.CLOSED
    assert len(flapping.good) == 200
    assert_in_order(flapping.good)
    rows = await store.fetch("select attempts from router.outbox order by id")
    assert max(row["attempts"] for row in rows) <= 3


async def test_a_retry_after_is_kept_when_it_is_back(
    store: Database, client: WebhookClient, server: Misbehaving
) -> None:
    server.headers = {"Retry-After": "3600"}
    flapping = Flapping(client, server.url("answer/429"), server.url("answer/200"))
    await fill(store, "crm", 3, lanes=3)
    async with telling(store, crm("crm", server.url("answer/200")), flapping):
        await until(lambda: len(server.requests) >= 3)
        flapping.up = True
        server.headers = {}
        await fill(store, "crm", 1, prefix="new-")

        async def one_is_told() -> bool:
            return await pending(store, "crm") == 3

        await until(one_is_told)
    rows = await store.fetch(
        "select extract(epoch from next_attempt_at - now())::float8 as s"
        " from router.outbox where state = 'pending'"
    )
    assert [3500 < row["s"] <= 3600 for row in rows] == [True] * 3


async def test_rows_that_hang_hold_up_their_lanes_and_no_others(
    store: Database, client: WebhookClient, server: Misbehaving
) -> None:
    class Picky:
        async def tell(self, to: Destination, row: Notification) -> Attempt:
            behaviour = "hang" if row.lane == "crm-0" else "answer/200"
            return await client.tell(replace(to, url=server.url(behaviour)), row)

    await fill(store, "crm", 400, lanes=20)
    destination = crm("crm", server.url("answer/200"), timeout_s=15.0)
    async with telling(store, destination, Picky()):

        async def only_that_lane_waits() -> bool:
            return await pending(store, "crm") == 20

        await until(only_that_lane_waits, within_s=10.0)
        hung = [r for r in server.requests if r.path == "/hang"]
        assert len(hung) == 1
        for connection in server._connections.values():
            connection.transport.abort()  # so that the test need not wait for it


class Flapping:
    """A teller of a destination that is up or down, which notes what was told."""

    def __init__(self, client: WebhookClient, down: str, up: str) -> None:
        self._client, self._urls = client, {False: down, True: up}
        self.up = False
        self.good: list[Notification] = []

    async def tell(self, to: Destination, row: Notification) -> Attempt:
        up = self.up
        attempt = await self._client.tell(replace(to, url=self._urls[up]), row)
        if attempt.status == 200:
            self.good.append(row)
        return attempt


def assert_in_order(rows: list[Notification]) -> None:
    lanes = defaultdict(list)
    for row in rows:
        lanes[row.lane].append(row.id)
    for lane, ids in lanes.items():
        assert all(a < b for a, b in pairwise(ids)), lane


class Chance:
    """A teller that fails by dice, which notes what it did."""

    ANSWERS = (
        *([Attempt(status=200, latency_ms=1)] * 6),
        Attempt(status=500, latency_ms=1),
        Attempt(error="timeout", latency_ms=1),
        Attempt(status=422, latency_ms=1),
        Attempt(status=429, latency_ms=1, retry_after_s=0.05),
        Attempt(status=410, latency_ms=1),
    )

    def __init__(self, chances: random.Random) -> None:
        self._chances = chances
        self.ended: list[Notification] = []  # told, in the order of their ends
        self.attempts: dict[str, int] = defaultdict(int)
        self.running: set[str] = set()  # lanes

    async def tell(self, _: Destination, row: Notification) -> Attempt:
        assert row.lane not in self.running
        self.running.add(row.lane)
        for _turn in range(self._chances.randrange(4)):
            await asyncio.sleep(0)
        self.running.discard(row.lane)
        self.attempts[row.key] += 1
        attempt = self._chances.choice(self.ANSWERS)
        if attempt.status == 200:
            self.ended.append(row)
        return attempt


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_fails_each_row_is_told_in_order_or_dead_with_a_reason(
    store: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_module, "PROBE_S", 0.05)
    monkeypatch.setattr(circuit_module, "FIRST_PROBE_S", 0.02)
    monkeypatch.setattr(circuit_module, "GAP_CAP_S", 0.01)
    say(f"seed {seed}")
    teller = Chance(dice(seed))
    await fill(store, "crm", 150, lanes=12)
    destination = crm("crm", "http://crm.invalid/", retry_schedule_s=(0.05,) * 4)
    async with telling(store, destination, teller):
        await told(store, "crm")
    rows = await store.fetch(
        "select key, state, attempts, (select count(*) from router.attempts a"
        " where a.outbox_id = o.id) as kept from router.outbox o order by id"
    )
    letters = await store.fetch("select key, reason from router.dead_letters")
    done = {row["key"] for row in rows if row["state"] == "done"}
    dead = {row["key"] for row in rows if row["state"] == "dead"}
    assert done | dead == {f"crm-{n}" for n in range(1, 151)}
    assert done == {row.key for row in teller.ended}
    assert len(teller.ended) == len(done)  # nothing was lost, so nothing was told twice
    assert dead == {letter["key"] for letter in letters}
    assert all(letter["reason"] for letter in letters)
    assert_in_order(teller.ended)
    for row in rows:
        assert row["attempts"] <= 5
        assert row["kept"] == teller.attempts[row["key"]] >= row["attempts"]
