"""Archived bodies read again: the same state, however often, and what was missing is there."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router.cli import main
from router.cli.rereading import Rereading
from router.cli.traffic import Traffic
from router.config import Destination, Line, Settings
from router.model import Delivery, Door, Received
from router.stages.desk import Desk
from router.store.database import Database
from router.store.ledger import Ledger
from router.whatsapp.events import read
from tests.events import body, text_message

SEED = 20261124
FEED = Destination(
    name="feed",
    url="http://127.0.0.1:9/",
    events=frozenset({"message.received", "message.status", "conversation.derived"}),
)
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    graph_token="token",
    lines=(Line(name="wsp4", phone_number_id="100000000000001"),),
    destinations=(FEED,),
)
TABLES = (
    "contactos",
    "conversaciones",
    "mensajes",
    "tickets",
    "derivaciones",
    "router.identities",
    "router.statuses",
    "router.notices",
    "router.outbox",
    "router.deliveries",
    "router.dead_letters",
)
# Every value of every row, and the transaction that wrote it: an update to the same values
# is a change too.
DIGEST = """
select count(*) as rows, md5(string_agg(md5(xmin::text || t::text), '' order by t::text)) as md5
from {} t"""
BATCH = 200


async def state(store: Database) -> dict[str, tuple[int, str | None]]:
    found = {}
    for table in TABLES:
        (row,) = await store.fetch(DIGEST.format(table))
        found[table] = row["rows"], row["md5"]
    return found


async def live(store: Database, updates: int, start: datetime) -> None:
    """Take so many updates as the service does: messages of all kinds, statuses, doubles."""
    ledger = Ledger(store, Desk(SETTINGS))
    traffic = Traffic(
        seed=SEED,
        start=int(start.timestamp()),
        contacts=updates // 25,
        batch=3,
        statuses=0.4,
        duplicates=0.05,
    )
    batch: list[Received] = []
    for found in traffic.bodies(updates):
        now = datetime.now(UTC)
        delivery = Delivery(body=found.data, door=Door.META, received_at=now)
        batch += [Received(event, delivery) for event in read(found.data, Door.META)]
        if len(batch) >= BATCH:
            await ledger.write(batch)
            batch = []
    await ledger.write(batch)


async def the_same_however_often(store: Database, updates: int) -> None:
    began = datetime.now(UTC)
    await live(store, updates, began - timedelta(hours=5))
    before = await state(store)
    assert before["mensajes"][0] > 0.5 * updates
    assert before["router.statuses"][0] > 0.2 * updates
    assert before["router.outbox"][0] > 0.8 * updates
    for _ in range(2):
        rereading = Rereading(SETTINGS, store)
        done = await rereading.between(began, datetime.now(UTC), math.inf)
        assert done.events >= updates
        assert (done.new, done.unreadable, done.refused) == (0, 0, 0)
        assert await state(store) == before


async def test_bodies_read_again_change_nothing(store: Database) -> None:
    await the_same_however_often(store, 3_000)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_100000_events_read_again_change_nothing(store: Database) -> None:
    await the_same_however_often(store, 100_000)


async def test_what_was_not_understood_then_is_stored_now_and_told(
    store: Database,
) -> None:
    began = datetime.now(UTC)
    raw = body(text_message("5491100000001", "wamid.A", "Hola"))
    delivery = Delivery(body=raw, door=Door.META, received_at=began)
    await Ledger(store, Desk(SETTINGS)).write([Received(None, delivery)])
    assert (await state(store))["mensajes"][0] == 0
    dry = Rereading(SETTINGS, store, dry_run=True)
    done = await dry.between(began, datetime.now(UTC), 50)
    assert (done.bodies, done.events, done.new) == (1, 1, 0)
    assert (await state(store))["mensajes"][0] == 0
    for new in (1, 0):
        rereading = Rereading(SETTINGS, store)
        assert (await rereading.between(began, datetime.now(UTC), 50)).new == new
    (row,) = await store.fetch(
        "select metadata->>'delivery' as delivery, d.id from mensajes, router.deliveries d"
        " where direccion = 'entrante'"
    )
    assert row["delivery"] == str(
        row["id"]
    )  # where it came from, and no second archive
    told = await store.fetch("select from router.outbox where destination = 'feed'")
    assert len(told) == 1


async def test_a_time_bounds_what_is_read_again(store: Database) -> None:
    ledger, now = Ledger(store, Desk(SETTINGS)), datetime.now(UTC)
    for hours in range(5):
        raw = body(text_message("5491100000001", f"wamid.{hours}"))
        at = now - timedelta(hours=hours)
        delivery = Delivery(body=raw, door=Door.META, received_at=at)
        await ledger.write(
            [Received(event, delivery) for event in read(raw, Door.META)]
        )
    dry = Rereading(SETTINGS, store, dry_run=True)
    since, until = now - timedelta(hours=3.5), now - timedelta(hours=0.5)
    assert (await dry.between(since, until, 50)).bodies == 3


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    store = Database(dsn)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def test_the_command_says_what_it_read(
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "secret")
    monkeypatch.setenv("WHATSAPP_VERIFY_TOKEN", "token")

    async def take() -> None:
        async with opened(database) as store:
            ledger = Ledger(store, Desk(SETTINGS))
            for raw in (body(text_message("5491100000001", "wamid.A")), b"{\xff"):
                delivery = Delivery(
                    body=raw, door=Door.META, received_at=datetime.now(UTC)
                )
                await ledger.write([Received(None, delivery)])

    asyncio.run(take())
    again = ["dead-letters", "replay", "--deliveries"]
    assert main(again) == 2
    assert "--since" in capsys.readouterr().err
    assert main([*again, "--since", "1h", "--dry-run"]) == 1
    assert capsys.readouterr().out == (
        "would read 2 bodies again: 1 events, 0 new messages, 1 unreadable, 0 refused\n"
    )
    assert main([*again, "--since", "1h", "--rate", "1000"]) == 1
    assert "1 new messages" in capsys.readouterr().out
