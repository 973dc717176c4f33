"""What PostgreSQL refuses for a while: nothing is buried, nothing lost, and the reason is said."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
import pytest

from router.cli.traffic import Traffic
from tests.faultproxy import HOST
from tests.faults.harness import (
    START,
    Load,
    Service,
    Sink,
    connected,
    quiet,
    say,
    service,
)
from tests.faults.modes import Voices, voices
from tests.faults.test_postgres import all_is_well, healed, sees_503
from tests.servers import Postgres

SEED = 18
BATCH = 200
ROLE = "psi_refused"
END_ALL = """
select pg_terminate_backend(pid) from pg_stat_activity where usename = 'psi_refused'"""


class Refusal(NamedTuple):
    code: str
    mode: str
    on: str  # SQL
    off: str


REFUSALS = {
    "too many connections": Refusal(
        "53300",
        "database away",
        f"alter role {ROLE} connection limit 0",
        f"alter role {ROLE} connection limit -1",
    ),
    "read-only": Refusal(
        "25006",
        "database takes no writes",
        f"alter role {ROLE} set default_transaction_read_only = on",
        f"alter role {ROLE} reset default_transaction_read_only",
    ),
    "wrong password": Refusal(
        "28P01",
        "database away",
        f"alter role {ROLE} password 'changed'",
        f"alter role {ROLE} password '{ROLE}'",
    ),
}


@pytest.fixture
async def as_role(postgres: Postgres, migrated: str) -> AsyncIterator[tuple[str, str]]:
    """The DSN of a migrated database for a role that is no superuser, and for one that is."""
    async with postgres.database(migrated) as name:
        administrator = postgres.dsn(name)
        async with connected(administrator) as connection:
            await connection.execute(
                f"create role {ROLE} login password '{ROLE}';"
                f"grant all on all tables in schema public, router to {ROLE};"
                f"grant all on all sequences in schema router to {ROLE};"
                f"grant usage on schema router to {ROLE}"
            )
            port = urlsplit(postgres.dsn(name, tcp=True)).port
            yield (
                f"postgresql://{ROLE}:{ROLE}@{HOST}:{port}/{name}?sslmode=disable",
                administrator,
            )
            await connection.execute(END_ALL)
            await connection.execute(f"drop owned by {ROLE}; drop role {ROLE}")


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Voices]:
    """What the router says of itself."""
    with voices(tmp_path) as listening:
        yield listening


@pytest.mark.parametrize("what", REFUSALS)
async def test_what_is_refused_for_a_while_is_named_and_costs_nothing(
    as_role: tuple[str, str], heard: Voices, tmp_path: Path, sink: Sink, what: str
) -> None:
    refusal, (dsn, administrator) = REFUSALS[what], as_role
    async with (
        connected(administrator) as connection,
        service(tmp_path, dsn, sink, **heard.settings) as router,
    ):
        await heard.all_say(router, "ready")
        load = Load(router.url, SEED, rate=100)
        async with load.running():
            await load.acks(50)
            await connection.execute(refusal.on)
            await connection.execute(END_ALL)
            await sees_503(load)
            await heard.all_say(router, refusal.mode, refusal.code)
            await connection.execute(refusal.off)
            await connection.execute(END_ALL)
            say(f"first 200 after {await healed(load):.2f} s")
        await heard.all_say(router, "ready")
        await all_is_well(administrator, load, sink)
        assert (
            await connection.fetchval("select count(*) from router.dead_letters") == 0
        )


@asynccontextmanager
async def starting_up() -> AsyncIterator[int]:
    """Answer as a PostgreSQL that is not up yet; yield the port."""

    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
        writer.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_server_that_is_starting_up_is_waited_for(tmp_path: Path) -> None:
    with voices(tmp_path) as heard:
        async with starting_up() as port:
            dsn = f"postgresql://x:x@{HOST}:{port}/x?sslmode=disable"
            router = Service(tmp_path, {"DATABASE_URL": dsn, **heard.settings})
            router.start()
            try:
                await router.listens()
                await heard.all_say(router, "database away", "CannotConnectNow")
                assert (await router.post(next(bodies()).data))[0] == 503
                assert (await router.get("/health")).status == 200
            finally:
                router.kill()


FAILS_TWICE = """
create sequence router.tries;
create function router.fail() returns trigger language plpgsql as $$
begin
  if nextval('router.tries') <= 2 then
    raise exception 'forced' using errcode = '{code}';
  end if;
  return new;
end $$;
create trigger fails before insert on mensajes for each statement
execute function router.fail()"""


@pytest.mark.parametrize("code", ["40P01", "40001"])
async def test_a_deadlock_is_tried_again_and_buries_nobody(
    database: str, tmp_path: Path, sink: Sink, code: str
) -> None:
    async with (
        service(tmp_path, database, sink) as router,
        connected(database) as connection,
    ):
        await connection.execute(FAILS_TWICE.format(code=code))
        answer = await router.post(next(bodies()).data)
        assert answer == (200, {"success": True, "processed": 1, "failed": 0})
        await quiet(database)
        assert await connection.fetchval("select last_value from router.tries") == 3
        assert (
            await connection.fetchval("select count(*) from router.dead_letters") == 0
        )


def bodies(**more: Any) -> Iterator[Any]:
    return iter(Traffic(seed=SEED, start=START, text="{id}", **more).bodies())


async def two_at_once(database: str, directory: Path, sink: Sink, s: float) -> None:
    """Post the same items to two routers, in opposite orders, for so many seconds."""
    (directory / "a").mkdir()
    (directory / "b").mkdir()
    clock, rounds, acked = asyncio.get_running_loop().time, 0, set[str]()
    async with (
        service(directory / "a", database, sink) as one,
        service(directory / "b", database, sink) as other,
        connected(database) as connection,
    ):
        end, some = clock() + s, bodies(batch=BATCH)
        while clock() < end:
            body = next(some)
            answers = await asyncio.gather(
                one.post(body.data), other.post(backwards(body.data))
            )
            expected = 200, {"success": True, "processed": BATCH, "failed": 0}
            assert answers[0] == answers[1] == expected
            acked.update(body.messages)
            rounds += 1
        await quiet(database)
        stored = await connection.fetch("select whatsapp_message_id from mensajes")
        await connection.execute("select pg_stat_clear_snapshot()")
        deadlocks = await connection.fetchval(
            "select deadlocks from pg_stat_database where datname = current_database()"
        )
    say(f"{rounds} rounds of {BATCH} at two routers, {deadlocks} deadlocks")
    assert rounds > s / 2
    assert sorted(row[0] for row in stored) == sorted(acked)
    assert {len(keys) for keys in sink.told.values()} == {1}
    assert deadlocks == 0


def backwards(data: bytes) -> bytes:
    """Return the same body, its messages from last to first."""
    body = orjson.loads(data)
    value = body["entry"][0]["changes"][0]["value"]
    value["messages"].reverse()
    return orjson.dumps(body)


async def test_two_routers_with_the_same_items_in_opposite_orders_for_5_s(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await two_at_once(database, tmp_path, sink, 5.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_routers_with_the_same_items_in_opposite_orders_for_60_s(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    await two_at_once(database, tmp_path, sink, 60.0)
