"""One bad item spoils no other: real bodies over HTTP, real rows."""

import asyncio
import base64
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.load import Client, post
from router.cli.traffic import Traffic
from tests.faults.harness import SECRET, START, Sink, connected, quiet, service

BATCH = 200
CULPRIT = 117  # which of the batch
MARK = '"MARK"'
LONG_ID = base64.b64encode(random.Random(1).randbytes(9000)).decode()  # noqa: S311

UGLY = {
    "NUL": ("text", r'{"body":"before\u0000after"}'),
    "lone surrogate": ("text", r'{"body":"half \ud83d of it"}'),
    "12 kB id": ("id", f'"wamid.{LONG_ID}"'),
    "depth 600": ("nested", "[" * 600 + "]" * 600),
    "1e400": ("number", "1e400"),
}


def batch(size: int, seed: int = 1) -> dict[str, Any]:
    """Return a body of *size* text messages, parsed."""
    traffic = Traffic(seed=seed, start=START, batch=size, text="hola {id}")
    found: dict[str, Any] = orjson.loads(next(traffic.bodies()).data)
    return found


def messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a body that has one change."""
    found: list[dict[str, Any]] = body["entry"][0]["changes"][0]["value"]["messages"]
    return found


ROWS = """
select (select count(*) from mensajes) as mensajes,
       (select count(*) from router.dead_letters) as dead_letters,
       (select count(*) from router.outbox) as outbox,
       (select count(*) from router.deliveries) as deliveries"""


async def rows(dsn: str) -> dict[str, int]:
    """Return how many rows there are of each kind."""
    async with connected(dsn) as connection:
        return dict(await connection.fetchrow(ROWS))


@pytest.mark.parametrize("what", UGLY)
async def test_an_ugly_item_is_stored_with_the_199_others(
    database: str, tmp_path: Path, sink: Sink, what: str
) -> None:
    member, raw = UGLY[what]
    body = batch(BATCH)
    messages(body)[CULPRIT][member] = "MARK"
    data = orjson.dumps(body).replace(MARK.encode(), raw.encode())
    async with service(tmp_path, database, sink) as router:
        status, answer = await router.post(data)
        await quiet(database)
    assert (status, answer) == (200, {"success": True, "processed": BATCH, "failed": 0})
    assert await rows(database) == {
        "mensajes": BATCH,
        "dead_letters": 0,
        "outbox": BATCH,
        "deliveries": 1,
    }
    async with connected(database) as connection:
        assert await connection.fetchval("select body from router.deliveries") == data


async def test_what_the_database_refuses_is_buried_alone_with_its_bytes(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    body = batch(BATCH)
    culprit = messages(body)[CULPRIT]
    culprit["text"]["body"] = "refuse me"
    async with connected(database) as connection:
        await connection.execute(
            "alter table mensajes add constraint of_the_crm check (mensaje <> 'refuse me')"
        )
    async with service(tmp_path, database, sink) as router:
        first = await router.post(orjson.dumps(body))
        again = await router.post(orjson.dumps(body))
    assert first == (200, {"success": True, "processed": BATCH - 1, "failed": 1})
    assert again == first
    found = await rows(database)
    assert (found["mensajes"], found["outbox"]) == (BATCH - 1, BATCH - 1)
    async with connected(database) as connection:
        (letter,) = await connection.fetch("select * from router.dead_letters")
    assert (letter["stage"], orjson.loads(letter["body"])) == ("persist", culprit)
    assert "of_the_crm" in letter["reason"]


async def test_1000_updates_in_one_body_are_1000_processed(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    async with service(tmp_path, database, sink) as router:
        status, answer = await router.post(orjson.dumps(batch(1000)))
        await quiet(database)
    assert (status, answer) == (200, {"success": True, "processed": 1000, "failed": 0})
    assert (await rows(database))["mensajes"] == len(sink.told) == 1000


async def test_the_same_body_1000_times_at_once_is_one_row_and_one_notification(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    data = orjson.dumps(batch(1))
    async with service(tmp_path, database, sink) as router:
        client, request = Client(router.url, 1000), post(router.url, data, SECRET)
        answers = await asyncio.gather(*(client.send(request) for _ in range(1000)))
        client.close()
        await quiet(database)
    assert {answer.status for answer in answers} == {200}
    found = await rows(database)
    assert (found["mensajes"], found["outbox"]) == (1, 1)
    assert list(sink.attempts.values()) == [1]
