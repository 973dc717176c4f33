"""The outbox, lent from a real PostgreSQL."""

import asyncio
import itertools
import re
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from router.config import Destination
from router.errors import QueueClosed, Transient
from router.model import Attempt, Notification
from router.queues.base import Lease
from router.stages.base import Again, Bury, Runner
from router.stages.notify import BEGIN_S, LEAST_BEGIN_S, Notify
from router.store.database import Database
from router.store.loans import OutboxLease
from router.store.outbox import OutboxQueue, lease_s
from router.store.reach import LEAST, LEAST_WANTED
from router.store.sql_files import sql
from tests.faultproxy import FaultProxy
from tests.faults.harness import connected
from tests.servers import until

CRM = Destination(
    name="crm", url="http://crm.invalid/", retry_schedule_s=(0.05, 0.05, 3600.0)
)
OTHER = Destination(name="other", url="http://other.invalid/")
INSERT = """
insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
values ($1, $2, $3, $4, now(), 'pending') returning id"""
OK = Attempt(status=200, latency_ms=3, answer="fine")
DOWN = Attempt(error="ConnectionRefusedError ECONNREFUSED", latency_ms=1)


@pytest.fixture
def queue(store: Database) -> OutboxQueue:
    return OutboxQueue(store, CRM)


async def insert(
    store: Database, *keys: str, lane: str = "lane", destination: str = "crm"
) -> list[int]:
    rows = [
        await store.fetch(INSERT, destination, key, lane, f"<{key}>".encode())
        for key in keys
    ]
    return [row["id"] for (row,) in rows]


def keys(leases: Sequence[Lease[Notification]]) -> list[str]:
    return [lease.item.key for lease in leases]


async def lend(queue: OutboxQueue, limit: int = 10) -> list[OutboxLease]:
    queue.wake()
    return list(await queue.lease(limit))


async def claim(queue: OutboxQueue, limit: int = 10) -> list[OutboxLease]:
    queue.wake()
    return await queue._exchange(limit)


async def nothing_to_lend(queue: OutboxQueue) -> bool:
    return not await claim(queue)


async def states(store: Database) -> list[str]:
    rows = await store.fetch("select state from router.outbox order by id")
    return [row["state"] for row in rows]


def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no reader look for the rows of other processes."""
    for module in ("outbox", "claims"):
        monkeypatch.setattr(f"router.store.{module}.POLL_S", 3600.0)


async def expire(store: Database) -> None:
    await store.execute(
        "update router.outbox set lease_until = now() where lease_until is not null"
    )


async def ready(store: Database) -> None:
    await store.execute("update router.outbox set next_attempt_at = now()")


async def test_what_was_told_leaves_the_rows_that_claims_walk_through(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a", "b", "c")
    told, given_up, _ = await lend(queue)
    queue.record(told.item, OK)
    told.ack()
    given_up.bury("gone")
    await queue.flush()
    rows = await store.fetch("select key from router.outbox_open")
    assert [row["key"] for row in rows] == ["c"]
    rows = await store.fetch("select key, state from router.outbox_ended order by id")
    assert [(row["key"], row["state"]) for row in rows] == [
        ("a", "done"),
        ("b", "dead"),
    ]


async def test_large_payloads_are_lent_to_all_readers_together_a_few_at_a_time(
    store: Database, queue: OutboxQueue
) -> None:
    for key in "abcdefgh":
        await store.fetch(INSERT, "crm", key, key, b"x" * 3 * 1024 * 1024)
    lent = []
    while leases := await claim(queue):
        lent += leases
    assert keys(lent) == ["a", "b", "c"]
    lent[1].ack()
    assert keys(await claim(queue)) == ["d"]


STATEMENTS = (
    ("statement", "arguments"),
    [
        ("outbox_claim", ("crm", 10, 1, 25.0, 1_000_000, 0.0, 40)),
        ("outbox_probe", ("crm", 1, 25.0)),
        ("outbox_idle", ("crm",)),
        ("outbox_forward", ("crm", None, 0)),
        ("outbox_release", ("crm", [1])),
        ("outbox_settle", ([],)),
        ("outbox_backlog", ()),
        ("replies_begin", (1, 1)),
        ("replies_lost", ("whatsapp", 600.0)),
        ("replies_unsettled", ("whatsapp", 10)),
    ],
)
RECORD = ("record", (*([[]] * 9), 0, 0, [], []))


# The first column of an index, or a place; all of the index of the unknown, who are few, and
# the count of what is pending.
NARROW = re.compile(
    r"outbox_due .*Index Cond: \(+destination ="
    r"|outbox_lane .*Index Cond: \(+open_lane ="
    r"|outbox_open_pkey .*Index Cond: \(+id ="
    r"|TID Cond"
    r"|outbox_unknown "
    r"|Index Only Scan using outbox_due "
)


@pytest.mark.parametrize(STATEMENTS[0], [*STATEMENTS[1], RECORD])
async def test_no_plan_made_while_nothing_is_to_be_told_walks_a_later_backlog(
    store: Database,
    statement: str,
    arguments: tuple[Any, ...],
) -> None:
    # As autovacuum leaves it; then every way to a row seems to cost the same.
    await store.execute("analyze router.outbox_open")
    rows = await store.fetch("explain " + sql(statement), *arguments)
    plan = [row[0].strip() for row in rows]
    looks = [
        f"{line} {then}"
        for line, then in itertools.pairwise([*plan, ""])
        if "Scan" in line and " on outbox_open" in line
    ]
    assert looks
    walks = [look for look in looks if not NARROW.search(look)]
    assert not walks, "\n".join(plan)


@pytest.mark.parametrize(*STATEMENTS)
async def test_what_was_told_costs_those_who_tell_nothing(
    store: Database, statement: str, arguments: tuple[Any, ...]
) -> None:
    rows = await store.fetch("explain " + sql(statement), *arguments)
    plan = [row[0] for row in rows]
    assert any("outbox_open" in line for line in plan)
    ended = [line for line in plan if "outbox_ended" in line]
    # Only settling knows it, and puts in what was told just now.
    assert all(line.strip().startswith("->  Insert on outbox_ended") for line in ended)
    assert bool(ended) == (statement == "outbox_settle")


async def test_a_row_is_lent_once_told_and_done(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a")
    (only,) = await lend(queue)
    assert (only.item.key, only.item.payload, only.attempt) == ("a", b"<a>", 1)
    queue.record(only.item, OK)
    only.ack()
    await queue.flush()
    assert await states(store) == ["done"]
    (attempt,) = await store.fetch("select * from router.attempts")
    assert (attempt["outbox_id"], attempt["status"]) == (only.item.id, 200)
    assert (attempt["latency_ms"], attempt["answer"]) == (3, "fine")
    with pytest.raises(RuntimeError):
        only.nack()


async def test_two_claimers_never_hold_the_same_row_nor_the_same_lane(
    store: Database,
) -> None:
    for lane in "abcdefgh":
        await insert(store, *(f"{lane}{n}" for n in range(5)), lane=lane)
    queues = [OutboxQueue(store, CRM) for _ in range(4)]
    claims = await asyncio.gather(*(claim(queue, 11) for queue in queues))
    held = [[lease.item for lease in leases] for leases in claims]
    everything = [item.key for items in held for item in items]
    assert len(everything) == len(set(everything))
    lanes = [{item.lane for item in items} for items in held]
    assert sum(map(len, lanes)) == len(set().union(*lanes))


async def test_a_claimer_that_comes_while_another_commits_takes_no_later_row(
    store: Database, queue: OutboxQueue, database: str
) -> None:
    (first, _) = await insert(store, "1", "2")
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await other.execute(
                "select from router.outbox where id = $1 for update", first
            )
            assert await nothing_to_lend(queue)
    finally:
        await other.close()
    assert keys(await lend(queue)) == ["1", "2"]


async def test_what_a_dead_process_held_is_lent_again_when_its_time_is_over(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a", "b")
    await lend(OutboxQueue(store, CRM))  # and never heard of again
    assert await nothing_to_lend(queue)
    (row,) = await store.fetch(
        "select max(extract(epoch from lease_until - now())) as s from router.outbox"
    )
    assert row["s"] <= 25
    await expire(store)
    assert keys(await lend(queue)) == ["a", "b"]


async def test_who_slept_too_long_settles_nothing(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a")
    (late,) = await lend(queue)
    await expire(store)
    (owner,) = await lend(other := OutboxQueue(store, CRM))
    queue.record(late.item, DOWN)
    late.bury("too late to say")
    await queue.flush()
    assert await states(store) == ["pending"]
    other.record(owner.item, OK)
    owner.ack()
    await other.flush()
    assert await states(store) == ["done"]


async def test_notes_written_twice_count_once(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a")
    (only,) = await lend(queue)
    queue.record(only.item, DOWN)
    only.nack()
    notes = list(queue._notes)
    await queue.flush()
    queue._notes = notes  # the first commit was not heard
    await queue.flush()
    assert len(await store.fetch("select from router.attempts")) == 1
    (row,) = await store.fetch("select attempts from router.outbox")
    assert row["attempts"] == 1


async def test_a_head_that_waits_holds_its_lane_and_no_other(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "1", "2", "3", lane="x")
    await insert(store, "y", lane="y")
    first, second, third, other = await lend(queue)
    queue.record(first.item, DOWN)
    first.nack(3600)
    for lease in (second, third, other):
        lease.nack()
    (again,) = await lend(queue)
    assert again.item.key == "y"
    again.ack()
    await insert(store, "4", lane="x")
    assert await nothing_to_lend(queue)
    rows = await store.fetch("select key, attempts from router.outbox order by id")
    assert [row["attempts"] for row in rows] == [1, 0, 0, 0, 0]
    await ready(store)
    assert keys(await lend(queue)) == ["1", "2", "3", "4"]


async def test_rows_behind_a_head_that_waits_are_not_looked_at_again(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "1", "2", "3", lane="x")
    head, *rest = await lend(queue)
    head.nack(3600)
    for lease in rest:
        lease.nack()
    assert await nothing_to_lend(queue)
    (due,) = await store.fetch(
        "select count(*) as n from router.outbox where next_attempt_at <= now()"
    )
    assert due["n"] == 0


async def insert_behind_a_long_lane(store: Database, beyond: int) -> None:
    """Put one row of y behind those of x: *beyond* more than a claim looks at."""
    most = LEAST * LEAST_WANTED + beyond
    await insert(store, *(f"x{n}" for n in range(most)), lane="x")
    await insert(store, "y", lane="y")


async def test_behind_a_long_lane_that_gives_nothing_the_others_are_found(
    store: Database, queue: OutboxQueue
) -> None:
    await insert_behind_a_long_lane(store, 1)
    (head,) = await lend(OutboxQueue(store, CRM), 1)
    assert head.item.key == "x0"
    assert await nothing_to_lend(queue)  # and now it looks further
    (other,) = await lend(queue)
    assert other.item.key == "y"


async def test_a_long_lane_that_is_told_keeps_the_others_waiting_for_two_claims(
    store: Database, queue: OutboxQueue
) -> None:
    await insert_behind_a_long_lane(store, 10)
    first = await lend(queue)
    assert [key[0] for key in keys(first)] == ["x"] * 10
    for lease in first:
        lease.ack()
    assert "y" in keys(await lend(queue))


async def test_what_is_cut_off_by_its_bytes_is_not_all_there_is(
    store: Database, queue: OutboxQueue
) -> None:
    for number in range(10):
        await store.fetch(INSERT, "crm", str(number), "x", b"x" * 300_000)
    found = await queue._claims.claim(10)
    assert (len(found.rows), found.more) == (4, True)


async def test_a_note_of_a_row_that_was_changed_just_then_is_written(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a")
    (lease,) = await lend(queue)
    async with connected(store.dsn) as other:
        change = other.transaction()
        await change.start()
        assert await other.fetch(sql("replies_begin"), lease.item.id, lease.token)
        lease.nack(5.0)
        writing = asyncio.create_task(queue.flush())
        await until(lambda: somebody_waits(store))
        await change.commit()
        await writing
    (row,) = await store.fetch("select begun, lease from router.outbox")
    assert (row["begun"], row["lease"]) == (False, None)


async def somebody_waits(store: Database) -> bool:
    (row,) = await store.fetch("select count(*) as n from pg_locks where not granted")
    return bool(row["n"])


async def test_who_waits_behind_a_head_that_is_brought_forward_is_not_parked(
    store: Database,
) -> None:
    await insert(store, "x1", "x2", lane="x")
    await store.execute(
        "update router.outbox set next_attempt_at = now() + interval '1 hour'"
        " where key = 'x1'"
    )
    async with connected(store.dsn) as other:
        change = other.transaction()
        await change.start()
        await other.fetch(sql("outbox_forward"), "crm", None, 0)
        await store.fetch(sql("outbox_idle"), "crm")
        await change.commit()
    rows = await store.fetch(
        "select key from router.outbox where next_attempt_at > now()"
    )
    assert rows == []


async def test_rows_that_were_due_before_their_head_lead_to_it(
    store: Database, queue: OutboxQueue
) -> None:
    # It was tried and had to wait; what came meanwhile fills all that a claim looks at.
    looked_at = LEAST * LEAST_WANTED
    await insert(store, *(f"x{n}" for n in range(2 + looked_at)), lane="x")
    await store.execute(
        "update router.outbox set next_attempt_at = now() - interval '1 hour'"
        " where key <> 'x0'"
    )
    await insert(store, "y", lane="y")
    assert keys(await lend(queue, 3)) == ["x0", "x1", "x2"]


async def test_a_claim_does_not_look_at_a_whole_backlog_of_few_lanes(
    store: Database,
) -> None:
    await store.execute(
        """insert into router.outbox
             (destination, key, lane, payload, next_attempt_at, state)
           select 'crm', n::text, (n % 5)::text, '{}', now() - interval '1 day',
                  'pending' from generate_series(1, 1000) n"""
    )
    rows = await store.fetch(
        "explain analyze " + sql("outbox_claim"),
        *("crm", 10, 1, 25.0, 1_000_000, 0.0, 10 * LEAST),
    )
    plan = "\n".join(row[0] for row in rows)
    often = max(int(loops) for loops in re.findall(r"loops=(\d+)", plan))
    assert 5 <= often <= 10 * LEAST, plan
    lent = await store.fetch("select id from router.outbox where lease = 1")
    assert len(lent) == 10


async def test_nothing_of_a_lane_passes_a_row_on_loan(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "1", "2")
    (first,) = await lend(queue, 1)
    assert await nothing_to_lend(queue)
    first.ack()
    assert keys(await lend(queue)) == ["2"]


async def test_every_lane_gets_its_first_row_before_any_its_second(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, *(f"x{n}" for n in range(20)), lane="x")
    await insert(store, "y0", "y1", lane="y")
    assert keys(await lend(queue, 3)) == ["x0", "x1", "y0"]


async def test_rows_without_a_lane_wait_for_nothing(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a", "b", lane="")
    first, second = await lend(queue)
    first.nack(3600)
    second.nack()
    assert keys(await lend(queue)) == ["b"]


async def test_a_lower_number_that_commits_late_is_told(
    store: Database, queue: OutboxQueue, database: str
) -> None:
    slow = await asyncpg.connect(database)
    try:
        transaction = slow.transaction()
        await transaction.start()
        low = await slow.fetchval(INSERT, "crm", "low", "a", b"{}")
        (high,) = await insert(store, "high", lane="b")
        assert low < high
        (told,) = await lend(queue)
        told.ack()
        assert await nothing_to_lend(queue)
        await transaction.commit()
    finally:
        await slow.close()
    assert keys(await lend(queue)) == ["low"]


async def test_a_reader_waits_and_a_wake_up_ends_it(
    store: Database, queue: OutboxQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_by_itself(monkeypatch)
    reader = asyncio.create_task(queue.lease(10))
    waiters: Any = queue._news._waiters
    await until(lambda: waiters)
    await insert(store, "a")
    queue.wake()
    assert keys(await reader) == ["a"]


async def test_a_reader_finds_the_rows_of_another_process_by_itself(
    store: Database, queue: OutboxQueue
) -> None:
    reader = asyncio.create_task(queue.lease(10))
    waiters: Any = queue._news._waiters
    await until(lambda: waiters)
    await insert(store, "a")
    assert keys(await reader) == ["a"]


async def test_a_reader_wakes_when_a_pause_is_over(
    store: Database, queue: OutboxQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_by_itself(monkeypatch)
    await insert(store, "a")
    (only,) = await lend(queue)
    only.nack(0.05)
    assert keys(await queue.lease(10)) == ["a"]


async def test_closing_lets_what_is_on_loan_end_and_leaves_the_rest(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "1", "2")
    await insert(store, "later", lane="other")
    first, second = await lend(queue, 2)
    assert keys([first, second]) == ["1", "later"]
    await queue.close()
    reader = asyncio.create_task(lend(queue))
    first.ack()
    await asyncio.sleep(0)
    assert not reader.done()
    second.nack()
    with pytest.raises(QueueClosed):
        await reader
    assert await states(store) == ["done", "pending", "pending"]
    rows = await store.fetch("select from router.outbox where lease is not null")
    assert not rows


async def test_a_claim_whose_answer_was_lost_is_given_back(
    store: Database, queue: OutboxQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await insert(store, "a")
    fetch = store.fetch

    async def lost(statement: str, *arguments: Any) -> Any:
        await fetch(statement, *arguments)
        raise Transient("the connection broke after the commit")

    with monkeypatch.context() as patch:
        patch.setattr(store, "fetch", lost)
        with pytest.raises(Transient):
            await lend(queue)
    assert keys(await lend(queue)) == ["a"]


async def test_notes_outlive_an_outage(
    faulty_database: tuple[str, FaultProxy],
) -> None:
    dsn, proxy = faulty_database
    store = Database(dsn)
    await store.open()
    try:
        queue = OutboxQueue(store, CRM)
        await insert(store, "a")
        (only,) = await lend(queue)
        queue.record(only.item, OK)
        only.ack()
        proxy.refuse = True
        proxy.reset_all()
        with pytest.raises(Transient):
            await queue.flush()
        proxy.refuse = False
        await queue.flush()
        assert await states(store) == ["done"]
        assert len(await store.fetch("select from router.attempts")) == 1
    finally:
        await store.close()


async def test_text_that_postgresql_cannot_hold_does_not_stop_the_notes(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "a")
    (only,) = await lend(queue)
    queue.record(only.item, Attempt(status=500, answer="\0" + "x" * 999))
    only.nack()
    await queue.flush()
    (row,) = await store.fetch("select answer from router.attempts")
    assert row["answer"] == "\ufffd" + "x" * 499


@pytest.mark.parametrize("timeout_s", [0.5, 10.0, 18.9, 19.5, 60.0])
def test_a_lease_outlives_the_attempts_of_its_batch(timeout_s: float) -> None:
    destination = Destination(name="d", url="http://d.invalid/", timeout_s=timeout_s)
    begin_s = max(LEAST_BEGIN_S, BEGIN_S - timeout_s)
    assert (
        lease_s(destination) >= begin_s + timeout_s + 4.0
    )  # one answer of the database
    if timeout_s <= 19:
        assert lease_s(destination) <= 25.0


async def test_the_claim_of_a_live_destination_is_quick_beside_a_dead_ones_backlog(
    store: Database,
) -> None:
    live = OutboxQueue(store, OTHER)

    async def best_of_claims() -> float:
        times = []
        for n in range(
            60
        ):  # the best of so many is what it costs, whatever runs beside
            await insert(store, f"k{n}", destination="other", lane=f"l{n}")
            started = time.perf_counter()
            (lease,) = await lend(live)
            times.append(time.perf_counter() - started)
            lease.ack()
        return min(times)

    alone = await best_of_claims()
    await store.execute(
        """insert into router.outbox
             (destination, key, lane, payload, next_attempt_at, state)
           select 'crm', n::text, (n % 5000)::text, '{}', now() - interval '1 day',
                  'pending' from generate_series(1, 20000) n"""
    )
    assert await best_of_claims() < max(2 * alone, 0.005)


class Script:
    """A teller that does what the test says, and remembers what it was given."""

    def __init__(self, *answers: Attempt) -> None:
        self.answers = list(answers)
        self.told: list[tuple[str, bytes]] = []

    async def tell(self, _: Destination, notification: Notification) -> Attempt:
        self.told.append((notification.key, notification.payload))
        return self.answers.pop(0) if self.answers else OK


class Lends:
    """A lender that lends nothing: for a stage that is handed its rows."""

    closed = False

    def record(self, *_: object, **__: object) -> None:
        pass

    def end_unknown(self, _: Notification) -> None:
        pass

    def early(self, _: Notification) -> bool:
        return False

    def end(self, *_: object) -> None:
        pass

    def bring_forward(self) -> None:
        pass


async def run_until_empty(store: Database, teller: Script) -> list[str]:
    queue, buried = OutboxQueue(store, CRM), []

    async def bury(_stage: str, _item: Any, reason: str) -> None:
        buried.append(reason)

    runner: Runner[Notification, Any] = Runner(
        Notify(CRM, teller, queue), queue, None, bury
    )
    running = asyncio.create_task(runner.run())
    await until(lambda: _all_settled(store))
    await queue.close()
    await running
    return buried


async def _all_settled(store: Database) -> bool:
    return "pending" not in await states(store)


async def test_each_attempt_carries_the_same_id_and_bytes_and_a_lane_stays_in_order(
    store: Database,
) -> None:
    await insert(store, "1", "2", "3")
    teller = Script(DOWN, Attempt(status=503), OK)
    assert await run_until_empty(store, teller) == []
    one = ("1", b"<1>")
    assert teller.told == [one, one, one, ("2", b"<2>"), ("3", b"<3>")]
    rows = await store.fetch("select attempts, state from router.outbox order by id")
    assert [row["attempts"] for row in rows] == [3, 1, 1]
    assert {row["state"] for row in rows} == {"done"}


async def test_a_dead_head_lets_its_lane_go_on(store: Database) -> None:
    await insert(store, "1", "2")
    assert await run_until_empty(store, Script(Attempt(status=410))) == [
        "gone: HTTP 410"
    ]
    assert await states(store) == ["dead", "done"]


async def test_a_restart_resumes_what_was_pending(
    store: Database, queue: OutboxQueue
) -> None:
    await insert(store, "1", "2")
    head, rest = await lend(queue)
    queue.record(head.item, DOWN)
    head.nack(0.05)
    rest.nack()
    await queue.close()
    with pytest.raises(QueueClosed):
        await lend(queue)
    teller = Script()
    await run_until_empty(store, teller)
    assert [key for key, _ in teller.told] == ["1", "2"]
    rows = await store.fetch("select attempts from router.outbox order by id")
    assert [row["attempts"] for row in rows] == [2, 1]


async def test_once_the_queue_closes_no_new_attempt_begins() -> None:
    class Closing(Lends):
        def record(self, *_: object, **__: object) -> None:
            self.closed = True

    items = [Notification(n, "crm", str(n), "lane", b"", 0) for n in range(3)]
    stage = Notify(CRM, teller := Script(), Closing())
    outcomes = await stage.handle(items)
    assert len(teller.told) == 1
    assert outcomes[1:] == [Again(0.0, "not tried")] * 2


async def test_lanes_run_side_by_side_up_to_the_concurrency() -> None:
    destination = Destination(name="d", url="http://d.invalid/", concurrency=2)
    running, most = 0, 0

    class Counting(Lends):
        async def tell(self, _: Destination, __: Notification) -> Attempt:
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _turn in range(3):
                await asyncio.sleep(0)
            running -= 1
            return Attempt(status=410)

    items = [Notification(n, "d", str(n), str(n % 4), b"", 0) for n in range(8)]
    both = Counting()
    outcomes = await Notify(destination, both, both).handle(items)
    assert most == 2
    assert outcomes == [Bury("gone: HTTP 410")] * 8
