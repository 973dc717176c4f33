"""Replies on their way to WhatsApp, from the outbox through the governor to the fake Graph."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from router.cli.fake_graph import FakeGraph, fake_graph
from router.cli.fake_rules import Meter
from router.config import Destination, Line, Settings
from router.destinations.governor import Governor
from router.destinations.graph import GraphClient, GraphTeller
from router.model import Notification
from router.pipeline import governor
from router.stages.base import Runner
from router.stages.desk import BULK, WHATSAPP
from router.stages.notify import Notify
from router.store.database import Database
from router.store.dead_letters import DeadLetters
from router.store.replies import KEY, ReplyQueue
from router.whatsapp import outgoing
from router.whatsapp.outgoing import Outgoing
from tests.servers import until

NUMBER, TOKEN = "100000000000001", "graph-token"
READERS = 4
INSERT = """
insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
values ($1, $2, $3, $4, now(), 'pending')"""
PENDING = "select count(*) as n from router.outbox where state = 'pending'"


@asynccontextmanager
async def sending(
    store: Database, graph: FakeGraph, pace: Governor
) -> AsyncIterator[None]:
    """Send as the pipeline does, until the block ends."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(fake_graph(graph))
        client = await stack.enter_async_context(GraphClient(graph.url, TOKEN))
        queues, readers = [], []
        for name in (WHATSAPP, BULK):
            to = Destination(name=name, url=graph.url)
            queue = ReplyQueue(store, to)
            teller = GraphTeller(client, pace, about_to_send=queue.about_to_send)
            runner: Runner[Notification, Any] = Runner(
                Notify(to, teller, queue), queue, None, DeadLetters(store).bury
            )
            queues.append(queue)
            readers += [asyncio.create_task(runner.run()) for _ in range(READERS)]
        try:
            yield
        finally:
            for queue in queues:
                await queue.close()
            await asyncio.gather(*readers)


async def say(store: Database, text: str, to: str, *, bulk: bool = False) -> UUID:
    row = uuid4()
    body = outgoing.text(to, text, callback=f"{KEY}{row.hex}")
    sent = Outgoing(phone_number_id=NUMBER, body=body, bulk=bulk)
    name = BULK if bulk else WHATSAPP
    await store.execute(INSERT, name, f"{KEY}{row.hex}", f"lane {to}", sent.to_bytes())
    return row


async def all_sent(store: Database) -> bool:
    (row,) = await store.fetch(PENDING)
    return bool(row["n"] == 0)


async def test_a_direct_reply_passes_a_campaign_that_waits(store: Database) -> None:
    for person in range(60):
        await say(store, "campaña", f"54911000{person:05}", bulk=True)
    graph = FakeGraph(token=TOKEN, meter=Meter(number_per_s=20))
    async with sending(store, graph, Governor(number_per_s=20)):
        before = len(await graph.taken(10))
        await say(store, "respuesta", "5491199999999")
        await until(lambda: "respuesta" in said(graph), within_s=10)
        passed = said(graph).index("respuesta") - before
        await until(lambda: len(graph.messages) == 61, within_s=20)
    assert passed <= 20  # a second's worth, of the fifty that waited
    assert graph.errors == {}


def said(graph: FakeGraph) -> list[str]:
    return [each.body["text"]["body"] for each in graph.messages]


async def test_whoever_taps_ten_times_too_fast_is_answered_without_131056(
    store: Database,
) -> None:
    people = [f"549110000000{person}" for person in range(3)]
    interval_s = 0.05  # six seconds, a hundred and twenty times as fast
    for tap in range(60):
        for person in people:
            await say(store, f"{tap}", person)
    graph = FakeGraph(token=TOKEN, meter=Meter(pair_interval_s=interval_s))
    pace = Governor(pair_interval_s=interval_s)
    async with sending(store, graph, pace):

        async def done() -> bool:
            return await all_sent(store)

        await until(done, within_s=30)
    assert graph.errors == {}
    for person in people:  # each answer once, and in the order of the taps
        taps = [m.body["text"]["body"] for m in graph.messages if m.recipient == person]
        assert taps == [f"{tap}" for tap in range(60)]
    rows = await store.fetch("select state, attempts from router.outbox")
    assert Counter(row["state"] for row in rows) == {"done": 180}
    assert {row["attempts"] for row in rows} == {1}  # to be told to wait costs nothing


def test_each_number_has_the_pace_of_its_line() -> None:
    settings = Settings(
        database_url="",
        verify_token="token",
        app_secrets=(b"s",),
        lines=(
            Line(name="wsp4", phone_number_id=NUMBER, messages_per_s=20),
            Line(name="ventas", phone_number_id="2", messages_per_s=1000),
        ),
    )
    pace = governor(settings)
    for number, burst in ((NUMBER, 2), ("2", 50), ("another", 2)):
        for person in range(burst):
            assert pace.ready_in_s(number, str(person), 0.0) == 0
            pace.sent(number, str(person), 0.0)
        assert pace.ready_in_s(number, "one more", 0.0) > 0
    for _ in range(200):  # a complaint, and what is regained ends at the line's own
        pace.accepted(NUMBER, "1")
    for person in range(2):
        pace.sent(NUMBER, str(person), 100.0)
    assert pace.ready_in_s(NUMBER, "one more", 100.0) > 0
