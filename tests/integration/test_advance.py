"""Rows that are lent as they are written: to whom, and never what stands behind something."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from router.config import Destination
from router.destinations.circuit import FAILURES, Circuit
from router.errors import Poison, QueueClosed, Transient
from router.model import Attempt, Event
from router.store.database import Database
from router.store.ledger import Ledger
from router.store.loans import OutboxLease
from router.store.outbox import ADVANCE_S, OutboxQueue
from router.store.pace import Pace
from router.store.sql_files import sql
from tests.events import SilentDesk, message, received, status
from tests.integration.test_outbox import never_by_itself
from tests.servers import until

CRM = Destination(name="crm", url="http://crm.invalid/")
OK = Attempt(status=200)


class House(NamedTuple):
    """A ledger, and the outbox of the one it tells."""

    ledger: Ledger
    outbox: OutboxQueue

    async def write(self, *events: Event) -> set[str]:
        _, told = await self.ledger.write(received(*events))
        return told


def house(store: Database, circuit: Circuit | None = None) -> House:
    outbox = OutboxQueue(store, CRM, gate=circuit)
    outbox._pace = Pace(lambda: False, worked=lambda: 0.0)  # whatever the tests do
    desk = SilentDesk("crm", status="crm")
    return House(Ledger(store, desk, lenders={"crm": outbox}), outbox)


@pytest.fixture
async def here(store: Database, monkeypatch: pytest.MonkeyPatch) -> House:
    """A house whose outbox has looked at the table, and knows somebody called Ana."""
    never_by_itself(monkeypatch)
    made = house(store)
    await made.write(message(wamid="wamid.0"))
    await tell(made.outbox)
    return made


async def tell(outbox: OutboxQueue) -> list[str]:
    """Tell what is to be told; return the lanes."""
    outbox.wake()
    leases = await outbox.lease(10)
    for lease in leases:
        outbox.record(lease.item, OK)
        lease.ack()
    await outbox.flush()
    return [lease.item.lane for lease in leases]


@contextlib.asynccontextmanager
async def waiting(outbox: OutboxQueue) -> AsyncIterator[asyncio.Task[Any]]:
    """Let a reader wait for rows."""
    reader = asyncio.create_task(outbox.lease(10))
    waiters: Any = outbox._news._waiters
    await until(lambda: waiters)
    try:
        yield reader
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader


class Claims:
    """Counts the claims that a database is asked for."""

    def __init__(self, store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        fetch = store.fetch

        async def counted(statement: str, *arguments: Any) -> Any:
            self.count += statement == sql("outbox_claim")
            return await fetch(statement, *arguments)

        monkeypatch.setattr(store, "fetch", counted)


async def test_who_waits_is_lent_a_new_row_without_a_claim(
    store: Database, here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = Claims(store, monkeypatch)
    async with waiting(here.outbox) as reader:
        assert await here.write(message(text="uno", wamid="wamid.1")) == set()
        (lease,) = await reader
    assert claims.count == 0
    (row,) = await store.fetch(
        "select *, lease_until - created_at as s from router.outbox_open"
    )
    item = lease.item
    assert (row["id"], row["key"], row["lane"]) == (item.id, item.key, item.lane)
    assert (row["payload"], row["attempts"]) == (item.payload, item.attempts)
    assert (row["lease"], row["s"].total_seconds()) == (lease.token, 25.0)
    here.outbox.record(item, OK)
    lease.ack()
    await here.outbox.flush()
    assert not await store.fetch("select from router.outbox_open")
    assert len(await store.fetch("select from router.attempts")) == 2


async def test_nobody_waits_and_the_row_is_to_be_claimed(here: House) -> None:
    assert await here.write(message(wamid="wamid.1")) == {"crm"}
    here.outbox.wake()
    assert len(await here.outbox.lease(10)) == 1


async def test_what_stands_behind_a_row_on_loan_comes_when_that_is_told(
    here: House,
) -> None:
    async with waiting(here.outbox) as reader:
        await here.write(message(wamid="wamid.1"))
        (first,) = await reader
    async with waiting(here.outbox) as reader:
        assert await here.write(message(wamid="wamid.2")) == {"crm"}
        here.outbox.wake()
        await asyncio.sleep(0.1)
        assert not reader.done()
        here.outbox.record(first.item, OK)
        first.ack()  # and nobody says that there is more: what is written down does
        (second,) = await asyncio.wait_for(reader, 5)
    assert second.item.id > first.item.id
    assert second.item.lane == first.item.lane


async def test_what_stands_behind_a_row_that_waits_for_another_attempt_waits(
    store: Database, here: House
) -> None:
    async with waiting(here.outbox) as reader:
        await here.write(message(wamid="wamid.1"))
        (first,) = await reader
        here.outbox.record(first.item, Attempt(status=503))
        first.nack(3600)
        await here.outbox.flush()
    async with waiting(here.outbox):
        assert await here.write(message(wamid="wamid.2")) == {"crm"}
    rows = await store.fetch("select lease from router.outbox_open")
    assert [row["lease"] for row in rows] == [None, None]


async def test_the_rows_of_one_person_in_one_batch_come_together_and_in_order(
    here: House,
) -> None:
    texts = ["uno", "dos", "tres"]
    async with waiting(here.outbox) as reader:
        told = await here.write(
            *(message(text=text, wamid=f"wamid.{text}") for text in texts)
        )
        leases = await reader
    assert told == set()
    assert len({lease.item.lane for lease in leases}) == 1
    places = [lease.item.id for lease in leases]
    assert places == sorted(places)
    assert len(places) == 3


async def test_two_destinations_are_each_lent_their_own(
    store: Database, here: House
) -> None:
    # Also where both call it by one key.
    other = OutboxQueue(store, replace(CRM, name="other"))
    other._pace = Pace(lambda: False, worked=lambda: 0.0)
    desk = SilentDesk("crm", "other")
    lenders = {"crm": here.outbox, "other": other}
    both = House(Ledger(store, desk, lenders=lenders), here.outbox)
    await both.write(message(wamid="wamid.1"))
    await tell(here.outbox)
    await tell(other)
    async with waiting(here.outbox) as mine, waiting(other) as others:
        assert await both.write(message(wamid="wamid.2")) == set()
        (first,), (second,) = await mine, await others
    assert (first.item.destination, second.item.destination) == ("crm", "other")
    assert first.item.key == second.item.key
    rows = await store.fetch("select id, lease from router.outbox_open order by id")
    assert {(row["id"], row["lease"]) for row in rows} == {
        (lease.item.id, lease.token) for lease in (first, second)
    }


async def test_more_than_the_reader_would_take_is_to_be_claimed(here: House) -> None:
    reader = asyncio.create_task(here.outbox.lease(2))
    waiters: Any = here.outbox._news._waiters
    await until(lambda: waiters)
    events = [message(wamid=f"wamid.{n}") for n in range(1, 4)]
    assert await here.write(*events) == {"crm"}
    assert len(await reader) == 2


def together(store: Database, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let *count* batches hear of their commits in one turn of the loop."""
    fetch, all_here = store.fetch, asyncio.Barrier(count)

    async def held(statement: str, *arguments: Any) -> Any:
        rows = await fetch(statement, *arguments)
        if statement == sql("record"):
            await all_here.wait()
        return rows

    monkeypatch.setattr(store, "fetch", held)


PEOPLE = [f"549110000000{n}" for n in (1, 2, 3, 4)]


@pytest.fixture
async def crowd(here: House) -> House:
    """The same house, that knows four people."""
    await here.write(*map(message, PEOPLE))
    await tell(here.outbox)
    return here


async def readers(outbox: OutboxQueue, *limits: int) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(outbox.lease(limit)) for limit in limits]
    waiters: Any = outbox._news._waiters
    await until(lambda: waiters)
    return tasks


async def test_rows_of_one_lane_are_not_shared_out_to_two_readers(
    store: Database, crowd: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of two batches was offered room for all that the next reader takes.
    ana, bea, caro, dora = PEOPLE
    first, second = await readers(crowd.outbox, 5, 5)
    together(store, monkeypatch, 2)
    await asyncio.gather(
        crowd.write(message(ana), *(message(bea, text=t) for t in "ab")),
        crowd.write(message(caro), *(message(dora, text=t) for t in "ab")),
    )
    leases = await first
    assert len(leases) == 5
    await asyncio.sleep(0.1)
    assert not second.done()
    for lease in leases:
        crowd.outbox.record(lease.item, OK)
        lease.ack()
    (behind,) = await asyncio.wait_for(second, 5)
    (head,) = (it for it in leases if it.item.lane == behind.item.lane)
    assert behind.item.id > head.item.id


async def test_what_one_reader_leaves_the_next_one_takes_at_once(
    store: Database, crowd: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, bea, caro, dora = PEOPLE
    tasks = await readers(crowd.outbox, 2, 2)
    together(store, monkeypatch, 2)
    told = await asyncio.gather(
        crowd.write(message(ana), message(bea)),
        crowd.write(message(caro), message(dora)),
    )
    assert not any(told)
    both = await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert [len(leases) for leases in both] == [2, 2]


async def test_what_no_reader_came_for_is_given_back_at_the_end(
    store: Database, crowd: House
) -> None:
    (reader,) = await readers(crowd.outbox, 4)
    assert await crowd.write(message(PEOPLE[0])) == set()
    reader.cancel()
    await crowd.outbox.flush()
    (row,) = await store.fetch("select state, lease from router.outbox_open")
    assert (row["state"], row["lease"]) == ("pending", None)
    assert crowd.outbox.stats().unsettled == 0


async def test_a_pause_that_is_over_is_not_forgotten_over_what_came_meanwhile(
    crowd: House,
) -> None:
    ana, bea, *_ = PEOPLE
    await crowd.write(message(ana))
    crowd.outbox.wake()
    (first,) = await crowd.outbox.lease(1)
    first.nack(0.3)
    await crowd.outbox.flush()
    await crowd.write(message(bea))
    crowd.outbox.wake()
    (other,) = await crowd.outbox.lease(1)
    assert other.item.lane != first.item.lane
    other.ack()
    (again,) = await asyncio.wait_for(crowd.outbox.lease(10), 5)
    assert again.item.id == first.item.id


async def test_a_reader_that_failed_is_followed_by_one_that_does_not_wait(
    store: Database, here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.write(message(wamid="wamid.1"))

    async def away(*_: Any) -> Any:
        raise Transient("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "fetch", away)
        here.outbox.wake()
        with pytest.raises(Transient):
            await here.outbox.lease(10)
    assert len(await asyncio.wait_for(here.outbox.lease(10), 5)) == 1


async def test_rows_that_nothing_tells_apart_are_claimed(
    store: Database, here: House
) -> None:
    desk = SilentDesk("crm", "crm")
    twice = House(Ledger(store, desk, lenders={"crm": here.outbox}), here.outbox)
    await twice.write(message(wamid="wamid.1"))
    await tell(here.outbox)
    async with waiting(here.outbox):
        assert await twice.write(message(wamid="wamid.2")) == {"crm"}
    rows = await store.fetch("select lease from router.outbox_open")
    assert [row["lease"] for row in rows] == [None, None]


async def test_a_status_is_never_lent_as_it_is_written(
    store: Database, here: House
) -> None:
    # Another process may be writing to its lane.
    async with waiting(here.outbox):
        assert await here.write(status("wamid.OUT", "read")) == {"crm"}
    (row,) = await store.fetch("select lease from router.outbox_open")
    assert row["lease"] is None


async def test_somebody_new_is_told_of_by_a_claim(store: Database, here: House) -> None:
    # Two may write to a conversation that none of them has seen.
    async with waiting(here.outbox):
        new = message("5491100000002", wamid="wamid.1")
        assert await here.write(new) == {"crm"}
    (row,) = await store.fetch("select lease from router.outbox_open")
    assert row["lease"] is None


async def test_a_destination_that_is_down_is_lent_nothing(store: Database) -> None:
    circuit = Circuit(8)
    there = house(store, circuit)
    await there.write(message(wamid="wamid.0"))
    await tell(there.outbox)
    for _ in range(FAILURES):
        circuit.heard(Attempt(error="ConnectionRefusedError", latency_ms=1))
    async with waiting(there.outbox):
        assert await there.write(message(wamid="wamid.1")) == {"crm"}
    (row,) = await store.fetch("select lease from router.outbox_open")
    assert row["lease"] is None


async def test_a_queue_that_closes_is_lent_nothing_and_gives_back_what_it_was(
    store: Database, here: House
) -> None:
    async with waiting(here.outbox) as reader:
        await here.write(message(wamid="wamid.1"))
        await here.outbox.close()
        for lease in await reader:
            lease.nack()
    with pytest.raises(QueueClosed):
        await here.outbox.lease(10)
    assert await here.write(message(wamid="wamid.2")) == {"crm"}
    rows = await store.fetch("select state, lease from router.outbox_open")
    assert [(row["state"], row["lease"]) for row in rows] == [("pending", None)] * 2


async def test_what_no_reader_took_in_time_is_given_back_and_claimed(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loan is as long as the attempts of its batch may take, and not much longer.
    late = time.monotonic() - ADVANCE_S
    offer = here.outbox.offer

    def long_ago() -> Any:
        made = offer()
        if made is not None:
            made.since = late
        return made

    monkeypatch.setattr(here.outbox, "offer", long_ago)
    async with waiting(here.outbox) as reader:
        assert await here.write(message(wamid="wamid.1")) == set()
        (lease,) = await asyncio.wait_for(reader, 5)
    assert lease.since > late
    assert lease.attempt == 1


@pytest.mark.parametrize(
    "exc", [Transient("the connection broke"), asyncio.CancelledError()]
)
async def test_rows_of_a_commit_that_nobody_heard_of_are_given_back(
    store: Database,
    here: House,
    monkeypatch: pytest.MonkeyPatch,
    exc: BaseException,
) -> None:
    fetch = store.fetch

    async def lost(statement: str, *arguments: Any) -> Any:
        rows = await fetch(statement, *arguments)
        if statement == sql("record"):
            raise exc
        return rows

    async with waiting(here.outbox) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(store, "fetch", lost)
            with pytest.raises(type(exc)):
                await here.write(message(wamid="wamid.1"))
        (lease,) = await asyncio.wait_for(reader, 5)
        # The sender comes again; what is stored is known.
        assert await here.write(message(wamid="wamid.1")) == set()
    (row,) = await store.fetch("select id, lease from router.outbox_open")
    assert (row["id"], row["lease"]) == (lease.item.id, lease.token)


async def test_a_batch_that_is_taken_back_lends_nothing(
    store: Database, here: House
) -> None:
    await store.execute(
        "alter table mensajes add constraint no_uno check (mensaje <> 'uno')"
    )
    async with waiting(here.outbox) as reader:
        with pytest.raises(Poison):
            await here.write(message(text="uno", wamid="wamid.1"))
        assert not reader.done()
        assert here.outbox.stats().unsettled == 0
        assert await here.write(message(text="dos", wamid="wamid.2")) == set()
        assert len(await reader) == 1


async def test_two_processes_never_hold_rows_of_one_lane(
    store: Database, database: str
) -> None:
    other = Database(database)
    await other.open()
    houses = [house(store), house(other)]
    held: dict[str, int] = {}  # lane -> the row that is being told
    told: dict[str, list[int]] = {}

    async def read(outbox: OutboxQueue) -> None:
        with contextlib.suppress(QueueClosed):
            while True:
                leases = await outbox.lease(10)
                lanes: dict[str, list[OutboxLease]] = {}
                for lease in leases:
                    lanes.setdefault(lease.item.lane, []).append(lease)
                for lane, rows in lanes.items():
                    assert lane not in held
                    held[lane] = rows[0].item.id
                await asyncio.sleep(0.002)
                for lane, rows in lanes.items():
                    told.setdefault(lane, []).extend(row.item.id for row in rows)
                    del held[lane]
                    for row in rows:
                        outbox.record(row.item, OK)
                        row.ack()

    async def write(number: int) -> None:
        for n in range(40):
            who = f"{5491100000001 + n % 5}"
            new = message(who, wamid=f"wamid.{number}.{n}")
            await houses[number].write(new)
            houses[number].outbox.wake()

    try:
        readers = [
            asyncio.create_task(read(each.outbox)) for each in houses for _ in range(2)
        ]
        await asyncio.gather(write(0), write(1))
        await until(lambda: sum(map(len, told.values())) == 80)
        for each in houses:
            await each.outbox.close()
        await asyncio.gather(*readers)
    finally:
        await other.close()
    assert len(told) == 5
    assert all(rows == sorted(rows) for rows in told.values())
