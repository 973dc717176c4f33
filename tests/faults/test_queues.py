"""A durable inbox under faults: what was answered 200 becomes one row, late perhaps."""

import asyncio
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.stages.quarantine import TRIALS
from router.store.embedded import EmbeddedPostgres
from tests.events import body, text_message
from tests.faults.harness import (
    START_S,
    Kills,
    Load,
    Service,
    Sink,
    check,
    connected,
    dice,
    quiet,
    say,
    service,
    stored,
)
from tests.faults.killers import KILLERS, MARK
from tests.faults.test_quarantine import there_is_one_letter
from tests.servers import Redis, redis_program, until

SEED = 20261125
QUEUED = (200, {"success": True, "queued": 1})


@pytest.fixture
async def own_redis(redis_server: Redis, tmp_path: Path) -> AsyncIterator[Redis]:
    """A server of the test's own, to be killed."""
    program = redis_program()
    assert program
    (tmp_path / "redis").mkdir()
    server = Redis(program, tmp_path / "redis")
    await server.start()
    yield server
    server.kill()


@pytest.fixture(params=["spool", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What PSI_QUEUE says."""
    if request.param == "spool":
        return spool(tmp_path)
    return str(request.getfixturevalue("redis_url"))


def spool(directory: Path) -> str:
    return f"spool:{directory / 'spool'}"


async def broken_promises(dsn: str, load: Load, sink: Sink) -> dict[str, list[Any]]:
    """Post what was refused again, wait until all is stored and told, and check it."""
    await load.settle()
    await stored(dsn, load.ledger)
    await quiet(dsn)
    ledger = load.ledger
    say(f"seed {SEED}: {ledger.answers}, slowest {max(ledger.latencies_s):.2f} s")
    return await check(dsn, ledger, sink)


async def missing(router: Service) -> list[str]:
    """Return what /ready misses."""
    answer = await router.get("/ready")
    found: list[str] = orjson.loads(answer.body)["missing"]
    return found


async def kill_under_load(
    database: str, directory: Path, queue: str, kills: int, mutant: str = "none"
) -> dict[str, list[Any]]:
    sink = Sink(SEED, fails=0.05)
    async with (
        sink.running(),
        service(
            directory, database, sink, mutant=mutant, PSI_QUEUE=queue, **PATIENT
        ) as router,
    ):
        load = Load(router.url, SEED)
        faults = Kills(router, load, dice(SEED))
        async with load.running():
            await load.acks()
            await faults.kill(kills, every_s=(0.1, 1.0))
            await load.acks(100)
        found = await broken_promises(database, load, sink)
        say(faults.report())
    assert load.ledger.sent == load.ledger.acked
    assert load.ledger.statuses
    return found


PATIENT = {"PSI_QUEUE_SIZE": "50000"}


async def test_nothing_acked_is_lost_over_kills_of_the_router(
    database: str, tmp_path: Path, queue: str
) -> None:
    assert await kill_under_load(database, tmp_path, queue, 5) == {}


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_nothing_acked_is_lost_over_50_kills_of_the_router(
    database: str, tmp_path: Path, queue: str
) -> None:
    assert await kill_under_load(database, tmp_path, queue, 50) == {}


@pytest.mark.parametrize("mutant", ["ack_before_the_shelf", "done_when_lent"])
async def test_the_harness_turns_red_on(
    database: str, tmp_path: Path, mutant: str
) -> None:
    sink = Sink(SEED)
    async with (
        sink.running(),
        service(
            tmp_path, database, sink, mutant=mutant, PSI_QUEUE=spool(tmp_path)
        ) as router,
    ):
        load = Load(router.url, SEED)
        faults = Kills(router, load, dice(SEED))
        async with load.running():
            await load.acks(50)
            await faults.kill(4, every_s=(0.1, 0.4))
        await load.settle()
        await stored(database, load.ledger, within_s=5)
        assert "acked, not stored" in await check(database, load.ledger, sink)


async def test_a_redis_that_is_killed_costs_no_acked_message(
    database: str, tmp_path: Path, sink: Sink, own_redis: Redis
) -> None:
    async with service(
        tmp_path, database, sink, PSI_QUEUE=own_redis.url, **PATIENT
    ) as router:
        load = Load(router.url, SEED)
        async with load.running():
            for _ in range(3):
                await load.acks(100)
                own_redis.kill()
                await until(lambda: load.ledger.answers[503], within_s=START_S)
                assert (await router.get("/health")).status == 200
                (words,) = await missing(router)
                assert words.startswith("queue: redis: ")
                await own_redis.start()
                load.ledger.answers[503] = 0
                await router.ready()
            await load.acks(100)
        assert await broken_promises(database, load, sink) == {}
    assert not load.ledger.unknown, "the router cut a request"
    assert load.ledger.answers.keys() <= {200, 503}


async def test_bodies_are_taken_in_while_postgresql_is_away(
    own_postgres: EmbeddedPostgres, tmp_path: Path, sink: Sink, queue: str
) -> None:
    dsn = own_postgres.dsn()
    async with service(tmp_path, dsn, sink, PSI_QUEUE=queue, **PATIENT) as router:
        load = Load(router.url, SEED, rate=100)
        async with load.running():
            await load.acks(50)
            await own_postgres.stop()
            await until(lambda: missing(router))
            assert {words.split(":")[0] for words in await missing(router)} == {
                "database"
            }
            await load.acks(500)
            await own_postgres.start()
        assert await broken_promises(dsn, load, sink) == {}
    assert set(load.ledger.answers) == {200}


async def test_a_stop_without_postgresql_is_quick_and_the_next_process_goes_on(
    own_postgres: EmbeddedPostgres, tmp_path: Path, sink: Sink, queue: str
) -> None:
    dsn = own_postgres.dsn()
    async with service(tmp_path, dsn, sink, PSI_QUEUE=queue, **PATIENT) as router:
        load = Load(router.url, SEED)
        await own_postgres.stop()
        async with load.running():
            await load.acks(300)
        began = time.monotonic()
        router.send(signal.SIGTERM)
        assert await router.exit_status(within_s=10) == 0
        say(f"stopped after {time.monotonic() - began:.2f} s")
        (line,) = router.lines("drained")
        assert line["kept"] > 0
        await own_postgres.start()
        router.start()
        await router.ready()
        assert await broken_promises(dsn, load, sink) == {}


async def test_a_reload_under_load_refuses_nobody(
    database: str, tmp_path: Path, sink: Sink, queue: str
) -> None:
    async with service(
        tmp_path, database, sink, PSI_QUEUE=queue, PSI_ACK_TIMEOUT_S="8", **PATIENT
    ) as router:
        load = Load(router.url, SEED, rate=100)
        async with load.running():
            for count in (1, 2):
                await load.acks(50)
                router.send(signal.SIGHUP)
                await until(lambda n=count: len(router.lines("reloaded")) == n)  # type: ignore[misc]
            await load.acks(50)
        assert await broken_promises(database, load, sink) == {}
    assert set(load.ledger.answers) == {200}
    assert not load.ledger.unknown


async def test_a_disk_that_takes_no_more_is_503_and_heals(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    async with service(
        tmp_path, database, sink, PSI_QUEUE=spool(tmp_path), **PATIENT
    ) as router:
        load = Load(router.url, SEED)
        _, most = resource.prlimit(router.running.pid, resource.RLIMIT_FSIZE)
        async with load.running():
            await load.acks(50)
            # No file of the process's may grow beyond what the spool's have by now.
            resource.prlimit(router.running.pid, resource.RLIMIT_FSIZE, (8192, most))
            await until(lambda: load.ledger.answers[503], within_s=START_S)
            taken = load.ledger.answers[200]
            assert any(
                words.startswith("queue: spool: ") for words in await missing(router)
            )
            assert router.running.poll() is None
            await asyncio.sleep(2.0)  # the outage
            assert load.ledger.answers[200] <= taken + load.in_flight
            resource.prlimit(router.running.pid, resource.RLIMIT_FSIZE, (most, most))
            await load.acks(50)
            await router.ready()
        assert await broken_promises(database, load, sink) == {}


async def test_a_body_that_ends_the_process_is_found_out_though_nobody_sends_it_again(
    database: str, tmp_path: Path, sink: Sink, queue: str
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    settings = {
        "DATABASE_URL": database,
        "RUNTIME_DIRECTORY": str(runtime),
        "N8N_WEBHOOK_INGESTA_ROUTER_WSP4": sink.url,
        "PSI_QUEUE": queue,
    }
    router = Service(tmp_path, settings)
    router._command = [
        sys.executable,
        "-m",
        "tests.faults.killers",
        next(iter(KILLERS)),
        "serve",
    ]
    deadly = body(text_message("5491100000001", "wamid.DEADLY", MARK.decode()))
    router.start()
    try:
        await router.ready()
        load = Load(router.url, SEED, rate=100)
        deaths = 0
        async with load.running():
            await load.acks(20)
            with suppress(OSError):  # it may die before the answer is on the wire
                assert await router.post(deadly) == QUEUED
            while deaths < 1 + TRIALS:  # with others, alone, alone again
                await router.exit_status(within_s=20)
                deaths += 1
                router.start()
            await router.ready()
            await load.acks(50)
        assert await broken_promises(database, load, sink) == {}
        await until(lambda: letters(database))
        await there_is_one_letter(database, deadly)
        assert router.running.poll() is None
    finally:
        if router.running.poll() is None:
            router.kill()


async def letters(dsn: str) -> int:
    async with connected(dsn) as connection:
        return int(
            await connection.fetchval("select count(*) from router.dead_letters")
        )


async def test_the_queue_is_counted_and_two_of_a_spool_are_one_too_many(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    bearer = {"Authorization": "Bearer admin"}
    both = {"PSI_QUEUE": spool(tmp_path), "PSI_ADMIN_TOKEN": "admin"}
    async with service(tmp_path, database, sink, **both) as router:
        hello = body(text_message("5491100000001", "wamid.1"))
        assert await router.post(hello) == QUEUED
        page = (await router.get("/metrics", **bearer)).body.decode()
        assert 'psi_queue_depth{queue="inbox"} ' in page  # it may be on its way
        assert 'psi_queue_oldest_seconds{queue="inbox"} ' in page
        second = Service(tmp_path, {"DATABASE_URL": database, **both})
        second.start()
        try:
            await second.listens()

            async def is_one_too_many() -> bool:
                return "queue: spool: in use by another process" in await missing(
                    second
                )

            await until(is_one_too_many)
            router.kill()
            await second.ready()
        finally:
            second.kill()
        router.start()
