"""A destination that is down, and that it is back: the outbox behind a circuit."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from router.config import Destination
from router.destinations import payloads
from router.destinations.circuit import FAILURES, PROBE_S, Circuit, State
from router.destinations.graph_errors import Action
from router.destinations.graph_policy import GraphAttempt, Outcome
from router.model import Attempt, Event, Notification, Status
from router.queues.base import Lease
from router.stages.base import Emit
from router.stages.notify import Notify
from router.store.backlog import OLDEST, PENDING, Backlog
from router.store.database import Database
from router.store.dead_letters import DeadLetters
from router.store.loans import OutboxLease
from router.store.outbox import OutboxQueue
from router.store.pace import MOST_PER_S, YIELD_ROWS, Pace
from tests.events import now

CRM = Destination(name="crm", url="http://crm.invalid/")
INSERT = """
insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
values ($1, $2, $3, $4, now(), 'pending') returning id"""
OK = Attempt(status=200, latency_ms=3)
DOWN = Attempt(error="timeout", latency_ms=3)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(8, clock=clock)


@pytest.fixture
def queue(store: Database, circuit: Circuit) -> OutboxQueue:
    return OutboxQueue(store, CRM, gate=circuit)


async def test_while_senders_fill_the_loop_few_rows_are_lent_at_a_time(
    store: Database,
) -> None:
    waiting = True
    queue = OutboxQueue(store, CRM, busy=lambda: waiting)
    queue._pace = Pace(lambda: waiting, worked=lambda: 2 * time.monotonic())
    await insert(store, *(f"lane{n}x1" for n in range(YIELD_ROWS + 10)))
    began = time.monotonic()
    some = await queue.lease(500)
    assert len(some) == YIELD_ROWS
    assert len(await queue.lease(500)) == 10
    # The pace is halved, and so they are twice as far apart as at its most.
    assert time.monotonic() - began > 2 * YIELD_ROWS / MOST_PER_S
    for lease in some:
        lease.nack()
    waiting = False
    assert len(await queue.lease(500)) == YIELD_ROWS


async def insert(
    store: Database, *names: str, destination: str = "crm", payload: bytes = b"{}"
) -> list[int]:
    """Insert rows; a name is the key, and up to its digits the lane."""
    found = [
        await store.fetch(INSERT, destination, name, name.rstrip("0123456789"), payload)
        for name in names
    ]
    return [row["id"] for (row,) in found]


def down(circuit: Circuit) -> None:
    for _ in range(FAILURES):
        circuit.heard(DOWN)


async def lend(queue: OutboxQueue, limit: int = 10) -> list[OutboxLease]:
    queue.wake()
    return await queue._exchange(limit)


async def claim(queue: OutboxQueue, limit: int = 10) -> list[str]:
    return keys(await lend(queue, limit))


def keys(leases: Sequence[Lease[Notification]]) -> list[str]:
    return [lease.item.key for lease in leases]


async def later(store: Database, where: str = "true") -> None:
    set_ = "update router.outbox set next_attempt_at = now() + interval '1 hour'"
    await store.execute(f"{set_} where {where}")


async def test_while_the_circuit_is_open_nothing_is_lent_and_no_attempt_burnt(
    store: Database, queue: OutboxQueue, circuit: Circuit
) -> None:
    await insert(store, "a1", "b1")
    down(circuit)
    assert await claim(queue) == []
    assert 0 < queue._look_at - time.monotonic() <= PROBE_S
    (row,) = await store.fetch(
        "select sum(attempts) as n, bool_or(lease is not null) as lent"
        " from router.outbox"
    )
    assert (row["n"], row["lent"]) == (0, False)


async def test_a_probe_is_one_row_and_until_it_ends_there_is_no_other(
    store: Database, queue: OutboxQueue, circuit: Circuit, clock: Clock
) -> None:
    await insert(store, "a1", "b1", "c1")
    down(circuit)
    clock.now += circuit.lends_in_s()
    (probe,) = await lend(queue)
    assert probe.item.key == "a1"
    assert circuit.state is State.HALF_OPEN
    assert await claim(queue) == []
    queue.record(probe.item, OK)
    circuit.heard(OK)
    probe.ack()
    assert await claim(queue) == ["b1", "c1"]


async def test_a_probe_before_the_rows_time_costs_the_row_nothing(
    store: Database, queue: OutboxQueue, circuit: Circuit, clock: Clock
) -> None:
    await insert(store, "a1")
    await later(store)
    before = await store.fetch("select attempts, next_attempt_at from router.outbox")
    down(circuit)
    clock.now += circuit.lends_in_s()
    (probe,) = await lend(queue)
    assert queue.early(probe.item)
    stage = Notify(
        replace(CRM, retry_schedule_s=()), Answers(DOWN), queue, circuit
    )  # a schedule that allows no second attempt
    (outcome,) = await stage.handle([probe.item])
    assert not isinstance(outcome, Emit)
    probe.nack(0.0)
    await queue.flush()
    after = await store.fetch("select attempts, next_attempt_at from router.outbox")
    assert after == before
    assert len(await store.fetch("select from router.attempts")) == 1
    assert circuit.state is State.OPEN


async def test_a_probe_of_a_row_that_is_due_is_its_attempt(
    store: Database, queue: OutboxQueue, circuit: Circuit, clock: Clock
) -> None:
    await insert(store, "a1")
    down(circuit)
    clock.now += circuit.lends_in_s()
    (probe,) = await lend(queue)
    assert not queue.early(probe.item)
    queue.record(probe.item, DOWN)
    probe.nack(60.0)
    await queue.flush()
    (row,) = await store.fetch("select attempts from router.outbox")
    assert row["attempts"] == 1


async def test_no_probe_goes_out_before_a_retry_after(
    store: Database, queue: OutboxQueue, circuit: Circuit, clock: Clock
) -> None:
    await insert(store, "a1")
    (lease,) = await lend(queue)
    queue.record(lease.item, Attempt(status=503, retry_after_s=600))
    lease.nack(600)
    await queue.flush()
    down(circuit)
    clock.now += PROBE_S
    assert await claim(queue) == []
    assert circuit.state is State.OPEN
    await insert(store, "b1")
    assert await claim(queue) == ["b1"]


async def test_a_long_tail_behind_a_head_that_waits_does_not_hide_it_from_a_probe(
    store: Database, queue: OutboxQueue, circuit: Circuit, clock: Clock
) -> None:
    (head, *_) = await insert(store, *(f"a{n}" for n in range(300)))
    await later(store, f"id = {head}")
    down(circuit)
    clock.now += PROBE_S
    assert await claim(queue) == ["a0"]


async def test_a_probe_that_is_given_back_leaves_the_next_one_due(
    store: Database, queue: OutboxQueue, circuit: Circuit, clock: Clock
) -> None:
    await insert(store, "a1")
    down(circuit)
    clock.now += PROBE_S
    (probe,) = await lend(queue)
    probe.nack()
    assert await claim(queue) == ["a1"]


async def test_a_probe_that_whatsapp_puts_off_is_followed_by_another(
    store: Database, queue: OutboxQueue, circuit: Circuit, clock: Clock
) -> None:
    # Too fast, says Graph: neither that it is up nor that it is down.
    class Busy:
        async def tell(self, *_: object) -> Attempt:
            return GraphAttempt(
                outcome=Outcome.REJECTED,
                action=Action.RETRY_LATER,
                status=429,
                code=130429,
            )

    await insert(store, "a1", "b1")
    down(circuit)
    clock.now += circuit.lends_in_s()
    (probe,) = await lend(queue)
    assert circuit.lends_in_s() == PROBE_S
    await Notify(CRM, Busy(), queue, circuit).handle([probe.item])
    assert circuit.probes
    assert circuit.lends_in_s() == 0
    assert len(await claim(queue)) == 1


async def test_a_recovery_brings_forward_the_oldest_first_and_keeps_retry_afters(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a1", "b1", "c1", "d1")
    first, second, third, fourth = await lend(queue)
    for lease, attempt, delay_s in (
        (first, DOWN, 7200.0),
        (second, Attempt(status=429, retry_after_s=600), 3600.0),
        (third, DOWN, 300.0),
    ):
        queue.record(lease.item, attempt)
        lease.nack(delay_s)
    queue.record(fourth.item, OK)
    fourth.ack()
    assert await claim(queue) == []
    queue.bring_forward()
    assert await claim(queue) == ["a1", "c1"]
    (row,) = await store.fetch(
        "select extract(epoch from next_attempt_at - now())::float8 as s,"
        " not_before = next_attempt_at as floor from router.outbox where key = 'b1'"
    )
    assert 500 < row["s"] <= 600
    assert row["floor"]


async def test_a_large_backlog_is_brought_forward_in_portions(
    store: Database, queue: OutboxQueue
) -> None:
    await store.execute(
        """insert into router.outbox
             (destination, key, lane, payload, next_attempt_at, state)
           select 'crm', n::text, n::text, '{}', now() + make_interval(secs => 60 + n),
                  'pending' from generate_series(1, 2500) n"""
    )
    queue.bring_forward()
    waiting = []
    for _ in range(4):
        assert len(await claim(queue, 5)) == 5
        (row,) = await store.fetch(
            "select count(*) as n from router.outbox where next_attempt_at > now()"
        )
        waiting.append(row["n"])
    assert waiting == [1500, 500, 0, 0]
    assert queue._claims._forward is None


async def test_lanes_stay_in_order_when_they_are_brought_forward(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a1", "a2", "a3")
    head, *rest = await lend(queue)
    queue.record(head.item, DOWN)
    head.nack(3600)
    for lease in rest:
        lease.nack()
    assert await claim(queue) == []  # and the rest is parked behind the head
    queue.bring_forward()
    assert await claim(queue) == ["a1", "a2", "a3"]


class Answers:
    """A teller that gives these answers, then 200, and remembers the keys."""

    def __init__(self, *answers: Attempt) -> None:
        self.answers, self.told = list(answers), list[str]()

    async def tell(self, _: Destination, notification: Notification) -> Attempt:
        self.told.append(notification.key)
        return self.answers.pop(0) if self.answers else OK


def status_of(message: str, word: str, participant: str | None = None) -> bytes:
    status = Status(
        message_id=message, type="message", status=word, participant=participant
    )
    return payloads.status(
        Event(kind=f"status.{word}", key="k", item={}, status=status), now()
    )


async def test_statuses_wait_a_window_only_where_the_destination_asks(
    store: Database,
) -> None:
    patient = replace(CRM, coalesce_statuses_s=30.0)
    await insert(store, "a1", payload=status_of("wamid.1", "sent"))
    await insert(store, "b1", payload=b'{"type":"message.received"}')
    assert await claim(OutboxQueue(store, patient)) == ["b1"]
    assert await claim(OutboxQueue(store, CRM)) == ["a1"]


async def test_of_the_statuses_in_a_window_the_furthest_is_told(
    store: Database,
) -> None:
    patient = replace(CRM, coalesce_statuses_s=0.01)
    for name, word in (("a1", "sent"), ("a2", "read"), ("a3", "delivered")):
        await insert(store, name, payload=status_of("wamid.1", word))
    await insert(store, "a4", payload=status_of("wamid.1", "read", "somebody"))
    await insert(store, "a5", payload=status_of("wamid.2", "sent"))
    await insert(store, "a6", payload=b'{"type":"message.received"}')
    queue = OutboxQueue(store, patient)
    await asyncio.sleep(0.02)  # the window
    leases = await queue.lease(10)
    stage = Notify(patient, teller := Answers(), queue)
    outcomes = await stage.handle([lease.item for lease in leases])
    assert teller.told == ["a2", "a4", "a5", "a6"]
    assert all(isinstance(outcome, Emit) for outcome in outcomes)
    for lease in leases:
        lease.ack()
    await queue.flush()
    rows = await store.fetch("select state from router.outbox")
    assert {row["state"] for row in rows} == {"done"}
    assert len(await store.fetch("select from router.attempts")) == 4


async def test_when_the_furthest_fails_those_behind_it_still_need_not_be_told(
    store: Database,
) -> None:
    patient = replace(CRM, coalesce_statuses_s=0.01)
    await insert(store, "a1", payload=status_of("wamid.1", "delivered"))
    await insert(store, "a2", payload=status_of("wamid.1", "sent"))
    queue = OutboxQueue(store, patient)
    await asyncio.sleep(0.02)  # the window
    leases = await queue.lease(10)
    stage = Notify(patient, Answers(DOWN), queue)
    first, second = await stage.handle([lease.item for lease in leases])
    assert not isinstance(first, Emit)
    assert isinstance(second, Emit)


async def test_two_readers_wait_in_turn_and_one_batch_that_hangs_holds_up_one(
    store: Database, queue: OutboxQueue
) -> None:
    readers = [asyncio.create_task(queue.lease(1)) for _ in range(2)]
    await insert(store, "a1", "b1")
    queue.wake()
    got = await asyncio.gather(*readers)
    assert sorted(key for leases in got for key in keys(leases)) == ["a1", "b1"]


async def test_the_backlog_is_a_metric_for_each_destination(store: Database) -> None:
    await insert(store, "a1", "b1")
    await insert(store, "c1", destination="gone from the settings")
    await store.execute(
        "update router.outbox set created_at = now() - interval '90 s' where key = 'a1'"
    )
    backlog = Backlog(store, ["crm", "idle"])
    await backlog.count()
    for name, pending in (("crm", 2), ("gone from the settings", 1), ("idle", 0)):
        assert PENDING.labels(name)._value.get() == pending
    assert 90 <= OLDEST.labels("crm")._value.get() < 120
    assert OLDEST.labels("idle")._value.get() == 0
    await store.execute("update router.outbox set state = 'done'")
    await backlog.count()
    assert PENDING.labels("crm")._value.get() == 0


async def test_the_same_bytes_dead_for_two_destinations_are_two_letters(
    store: Database,
) -> None:
    letters = DeadLetters(store)
    for _ in range(2):
        for number, name in enumerate(("crm", "reports")):
            item = Notification(number, name, f"psi_{name}", "lane", b"{}", 3)
            await letters.bury("notify", item, "gone: HTTP 410")
    rows = await store.fetch(
        "select destination, key from router.dead_letters order by destination"
    )
    assert [(row["destination"], row["key"]) for row in rows] == [
        ("crm", "psi_crm"),
        ("reports", "psi_reports"),
    ]
