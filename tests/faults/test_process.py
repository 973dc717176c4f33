"""The process is stopped, frozen or told of new secrets while everything else goes wrong too."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.events import body, text_message
from tests.faultproxy import FaultProxy
from tests.faults.harness import (
    SECRET,
    Load,
    Service,
    Sink,
    check,
    connected,
    quiet,
    say,
    service,
)
from tests.faults.mutants import LEASE_S
from tests.faults.test_stop import DRAIN_S, SLACK_S, drained, nothing_but_200_and_503
from tests.servers import until

SEED = 5
NEW_SECRET = b"another-app-secret"
OLD_KEY, NEW_KEY = "whsec_" + "b2xk" * 8, "whsec_" + "bmV3" * 8


class Hanging(Sink):
    """A CRM that takes what it is told and does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__(SEED)
        self.gate = asyncio.Event()
        self.waiting = 0

    async def take(self, request: web.Request) -> web.Response:
        self.waiting += 1
        await self.gate.wait()
        return await super().take(request)


async def test_a_stop_with_everybody_silent_ends_in_time_and_loses_nothing(
    faulty_database: tuple[str, FaultProxy], tmp_path: Path
) -> None:
    dsn, proxy = faulty_database
    clock, crm = asyncio.get_running_loop().time, Hanging()
    settings = {
        "PSI_DRAIN_TIMEOUT_S": str(DRAIN_S),
        "PSI_ACK_TIMEOUT_S": "30",
        "PSI_DESTINATION_TIMEOUT_S": "15",
    }
    async with crm.running(), service(tmp_path, dsn, crm, **settings) as router:
        load = Load(router.url, SEED, rate=200)
        async with load.running():
            await load.acks(50)
            await until(lambda: crm.waiting)
            proxy.black_hole = True
            await until(lambda: load.in_flight > 10)
            began = clock()
            router.send(signal.SIGTERM)
            assert await router.exit_status(DRAIN_S + SLACK_S) == 0
            say(f"stopped after {clock() - began:.2f} s")
            proxy.black_hole = False
            crm.gate.set()
            router.start()
            await load.acks(50)
        await load.settle()
        await quiet(dsn)
        assert await check(dsn, load.ledger, crm) == {}
    nothing_but_200_and_503(load)
    assert len(drained(router)) == 1


async def frozen(database: str, directory: Path, mutant: str, s: float) -> None:
    """Freeze a router that holds a row until another has told it; then let it go on."""
    crm = Hanging()
    for name in "ab":
        (directory / name).mkdir()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(crm.running())
        # A time limit that outlasts the freeze: it wakes with its attempt still open.
        patient = {"PSI_DESTINATION_TIMEOUT_S": "15"} if not mutant else {}
        first = await stack.enter_async_context(
            service(directory / "a", database, crm, mutant=mutant, **patient)
        )
        assert (await first.post(body(text_message("5491100000001", "wamid.held"))))[
            0
        ] == 200
        await until(lambda: crm.waiting)
        first.send(signal.SIGSTOP)
        crm.gate.set()
        other = await stack.enter_async_context(
            service(directory / "b", database, crm, mutant=mutant)
        )
        await quiet(database, within_s=s)
        async with connected(database) as connection:
            told = await connection.fetch("select * from router.outbox order by id")
            assert [row["state"] for row in told] == ["done"]
            first.send(signal.SIGCONT)
            await first.ready()
            await until(lambda: first.lines("leases_lost"))
            again = await connection.fetch("select * from router.outbox order by id")
            kept = await connection.fetchval("select count(*) from router.attempts")
        assert again == told  # the old holder's word counts for nothing
        assert kept == told[0]["attempts"] == 1
        assert other.running.poll() is None
    assert len(crm.attempts) == 1  # one webhook-id
    assert {len(bodies) for bodies in crm.bodies.values()} == {1}


async def test_a_frozen_router_settles_nothing_that_another_told(
    database: str, tmp_path: Path
) -> None:
    await frozen(database, tmp_path, "none", LEASE_S + 20)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_router_frozen_for_a_whole_lease_settles_nothing_that_another_told(
    database: str, tmp_path: Path
) -> None:
    await frozen(database, tmp_path, "", 60.0)


async def test_a_freeze_under_load_costs_nothing(database: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(Sink(SEED).running())
        router = await stack.enter_async_context(service(tmp_path, database, sink))
        load = Load(router.url, SEED, rate=200)
        async with load.running():
            await load.acks(50)
            router.send(signal.SIGSTOP)
            await asyncio.sleep(6.0)  # the freeze
            router.send(signal.SIGCONT)
            await load.acks(200)
        await load.settle()
        await quiet(database)
        assert await check(database, load.ledger, sink) == {}
    nothing_but_200_and_503(load)
    assert max(load.ledger.latencies_s) >= 6.0, "nobody waited: it was not frozen"


class Checking(Sink):
    """A CRM that takes only what `key` signs."""

    def __init__(self) -> None:
        super().__init__(SEED)
        self.key = OLD_KEY
        self.forged = 0

    async def take(self, request: web.Request) -> web.Response:
        data = await request.read()
        try:
            Webhook(self.key).verify(data, dict(request.headers))
        except WebhookVerificationError:
            self.forged += 1
            return web.Response(status=401)
        return await super().take(request)


@asynccontextmanager
async def rotating(
    database: str, directory: Path, sink: Sink
) -> AsyncIterator[Service]:
    """A service whose secrets stand in a file, so that a reload reads them."""
    write(directory, app=SECRET.decode(), key=OLD_KEY)
    settings = {
        "DATABASE_URL": database,
        "N8N_WEBHOOK_INGESTA_ROUTER_WSP4": sink.url,
    }
    running = Service(directory, settings)
    del running._environment["WHATSAPP_APP_SECRET"]
    running.start()
    try:
        await running.ready()
        yield running
    finally:
        running.kill()


def write(directory: Path, *, app: str, key: str) -> None:
    (directory / ".env").write_text(
        f"WHATSAPP_APP_SECRET={app}\nPSI_SIGNING_SECRET={key}\n"
    )


async def reload(router: Service) -> None:
    before = len(router.lines("reloaded"))
    router.send(signal.SIGHUP)
    await until(lambda: len(router.lines("reloaded")) > before)


async def test_secrets_rotate_under_load_and_nobody_is_refused(
    database: str, tmp_path: Path
) -> None:
    crm = Checking()
    old, new = SECRET.decode(), NEW_SECRET.decode()
    async with crm.running(), rotating(database, tmp_path, crm) as router:
        load = Load(router.url, SEED, rate=200)
        async with load.running():
            await load.acks(50)
            write(tmp_path, app=f"{new},{old}", key=f"{NEW_KEY},{OLD_KEY}")
            await reload(router)
            await load.acks(50)
            load.secret, crm.key = NEW_SECRET, NEW_KEY  # the others' side
            await load.acks(
                2 * load.in_flight + 50
            )  # none is left that the old one signed
            write(tmp_path, app=new, key=NEW_KEY)
            await reload(router)
            await load.acks(50)
        await load.settle()
        await quiet(database)
        assert await check(database, load.ledger, crm) == {}
        assert set(load.ledger.answers) == {200}
        assert crm.forged == 0
        load.secret = SECRET
        refused, _ = await router.post(body(text_message("5491100000001", "wamid.old")))
        assert refused == 401  # the old one opens nothing any more
