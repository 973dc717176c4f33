"""What is away, full or wrong is named by all four voices, and the router returns by itself."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.store.embedded import EmbeddedPostgres
from router.store.embedded_user import disguise
from tests.faults.harness import (
    Load,
    Service,
    Sink,
    check,
    connected,
    free_port,
    quiet,
    say,
    service,
)
from tests.faults.modes import Voices, metric, voices
from tests.faults.test_postgres import all_is_well, healed, sees_503
from tests.servers import until

SEED = 20
RATE = 100.0
MOVED = ("mensajes", "conversaciones", "router.deliveries", "router.outbox")
BACK_S = 40.0  # a probe comes every 30 s at least
CPU_SHARE = 0.5


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Voices]:
    """What the router says of itself."""
    with voices(tmp_path) as listening:
        yield listening


async def test_a_database_that_is_away_is_named_and_returned_from(
    own_postgres: EmbeddedPostgres, heard: Voices, tmp_path: Path, sink: Sink
) -> None:
    dsn = own_postgres.dsn()
    async with service(tmp_path, dsn, sink, **heard.settings) as router:
        load = Load(router.url, SEED, rate=RATE)
        async with load.running():
            await load.acks(20)
            await heard.all_say(router, "ready")
            await own_postgres.stop()
            await heard.all_say(router, "database away", "database: ")
            await sees_503(load)
            await own_postgres.start()
            await healed(load)
        await heard.all_say(router, "ready")
        await all_is_well(dsn, load, sink)


async def test_a_destination_that_is_away_is_named_and_stops_no_message(
    database: str, heard: Voices, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/crm"
    settings = {"N8N_WEBHOOK_INGESTA_ROUTER_WSP4": url, **heard.settings}
    async with service(tmp_path, database, None, **settings) as router:
        load = Load(router.url, SEED, rate=RATE)
        async with load.running():
            await load.acks(20)
            name = "destination ingesta_wsp4: away"
            await heard.all_say(router, "destination away", name)
            assert (await router.get("/ready")).status == 200
            await load.acks(20)
        assert set(load.ledger.answers) == {200}

        async def pending() -> bool:
            crm = {"destination": "ingesta_wsp4"}
            return bool(await metric(router, "psi_outbox_pending", **crm))

        await until(pending)
        sink = Sink(SEED)
        async with sink.running(port):
            await load.settle()
            await quiet(database)
            await heard.all_say(router, "ready")
            assert await check(database, load.ledger, sink) == {}


async def test_a_full_disk_under_the_database_is_named_and_costs_nothing(
    own_postgres: EmbeddedPostgres,
    small_disk: Path,
    heard: Voices,
    tmp_path: Path,
    sink: Sink,
) -> None:
    dsn = own_postgres.dsn()
    await move(own_postgres, small_disk)
    async with service(tmp_path, dsn, sink, **heard.settings) as router:
        load = Load(router.url, SEED, rate=RATE)
        async with load.running():
            await load.acks(50)
            await heard.all_say(router, "ready")
            fill(small_disk / "ballast")
            await sees_503_within(load, 30.0)
            await heard.all_say(router, "disk full", "53100")
            assert (await router.get("/ready")).status == 503
            assert (await router.get("/health")).status == 200
            (small_disk / "ballast").unlink()
            say(f"first 200 after {await healed(load):.2f} s")
        await heard.all_say(router, "ready")
        await all_is_well(dsn, load, sink)
        async with connected(dsn) as connection:
            letters = "select count(*) from router.dead_letters"
            assert await connection.fetchval(letters) == 0


async def move(server: EmbeddedPostgres, disk: Path) -> None:
    """Put the tables that grow on *disk*; the log of writes stays where it is."""
    space = disk / "space"
    space.mkdir(mode=0o700)
    disguise(server.data).give(space)
    async with connected(server.dsn()) as connection:
        await connection.execute(f"create tablespace small location '{space}'")
        for table in MOVED:
            await connection.execute(f"alter table {table} set tablespace small")


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return
    raise AssertionError("the disk is not full")


async def sees_503_within(load: Load, s: float) -> None:
    # Pages that are there have room for some more rows.
    await until(lambda: load.ledger.answers[503] > 0, within_s=s)


async def test_a_full_disk_under_the_log_stops_no_message(
    database: str, small_disk: Path, tmp_path: Path, sink: Sink
) -> None:
    async with service(small_disk, database, sink) as router:
        load = Load(router.url, SEED, rate=RATE)
        async with load.running():
            await load.acks(50)
            fill(small_disk / "ballast")
            written = len(router.log())
            await load.acks(200)
            assert len(router.log()) - written < 4096 * 2, "the log's disk had room"
            (small_disk / "ballast").unlink()
            before = len(router.log())
            await until(lambda: router.log().count("message_processed", before) > 10)
        await load.settle()
        await quiet(database)
        assert set(load.ledger.answers) == {200}
        assert await check(database, load.ledger, sink) == {}
        assert "worker_crashed" not in router.log()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_64_files_are_too_few_and_the_router_recovers_without_spinning(
    database: str, tmp_path: Path, sink: Sink, loop: str
) -> None:
    under = ("prlimit", "--nofile=64")
    async with service(tmp_path, database, sink, under=under, PSI_LOOP=loop) as router:
        load = Load(router.url, SEED, rate=20)
        idle: list[asyncio.StreamWriter] = []
        try:
            await hold(router, 200, idle)
            before, spent = time.monotonic(), cpu_s(router)
            await asyncio.sleep(4.0)  # over which it must not spin
            share = (cpu_s(router) - spent) / (time.monotonic() - before)
        finally:
            for writer in idle:
                writer.transport.abort()
        say(f"{share:.0%} of a core while no file was left")
        assert share < CPU_SHARE
        async with load.running():
            await load.acks(20)
        await load.settle()
        await quiet(database)
        assert await check(database, load.ledger, sink) == {}
        assert router.running.poll() is None


async def hold(router: Service, count: int, idle: list[Any]) -> None:
    """Open *count* connections and say nothing on them; some may be cut."""
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", router.port)
        idle.append(writer)
    await until(lambda: files(router) >= 60)


def files(router: Service) -> int:
    return len(list(Path(f"/proc/{router.running.pid}/fd").iterdir()))


def cpu_s(router: Service) -> float:
    fields = Path(f"/proc/{router.running.pid}/stat").read_text().rsplit(")", 1)[1]
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / 100
