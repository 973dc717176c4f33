"""The whole life of one message, from what is stored anyway, and one number of its metadata."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from router.errors import Transient
from router.model import Delivery
from router.store.archive import (
    ROWS,
    body_of,
    last_body,
    pages_with,
    strings_in,
    telltale,
)
from router.store.database import Database, Row
from router.store.keys import digest
from router.store.places import NEAR, first_since
from router.store.replies import KEY
from router.store.sql_files import sql
from router.whatsapp.events import read
from router.whatsapp.reading import read_json
from router.whatsapp.storable import text

BATCH = 10 * NEAR  # rows that one transaction may leave
MOST_LOOKED_AT = 100_000  # bodies, for the same message: ten days of 10,000 a day
# What is looked for may occur in other messages too: so much of what was found is read.
MOST_READ, MOST_READ_BYTES = 200, 8_000_000
MS = timedelta(milliseconds=1)
ONE = (
    "message",
    "received",
    "stages",
    "decision",
    "conversation",
    "replies",
    "derivations",
)
STAGES = ("normalize", "persist", "commit", "notify")
PARTS = ("statuses", "notices", "dead_letters")


async def explained(
    database: Database, wamid: str, *, search: bool = True
) -> dict[str, Any] | None:
    """Return what is known of the message *wamid*; None where it was never heard of.

    `message`, `received`, `dedupe`, `stages`, `decision` and `conversation` (an object or
    null; the conversation as it is now), `replies` (each with its `statuses`),
    `derivations`, `outbox` (each with its `tries`), `statuses`, `notices`, `dead_letters`. Times in ISO 8601. Without *search* there
    is no `dedupe`. Raises Transient, and Poison for what is no name.

    `stages`: milliseconds from the receipt of the body until it was read (`normalize`), its
    transaction began (`persist`), ended (`commit`; known where PostgreSQL keeps the times of
    commits), and until it was first told to somebody (`notify`); null for what is not known.
    """
    names = wamid.encode(), wamid.replace("/", "\\/").encode()
    (row,) = await database.fetch(sql("explain"), wamid, *names)
    found = {name: _json(row[name]) for name in (*ONE, *PARTS)}
    if not (found["message"] or any(found[name] for name in PARTS)):
        return None
    outbox = await _outbox(database, row, wamid, found) if found["message"] else []
    found |= {"outbox": outbox, "dedupe": None}
    if received := found["received"]:
        known = found["stages"] | {"notify": _told_after(received, outbox)}
        found["stages"] = {name: known[name] for name in STAGES}
        if search:
            found["dedupe"] = await _dedupe(database, wamid, row, received)
    return {"wamid": wamid, **found}


async def ids_in(database: Database, delivery: int) -> list[str] | None:
    """Return the WhatsApp ids of which a body tells, in its order; None if it is not kept."""
    body = await body_of(database, delivery)
    if body is None:
        return None
    events = read(body.body, body.door)
    return list(dict.fromkeys(event.id or event.key for event in events))


async def _dedupe(
    database: Database, wamid: str, row: Row, received: dict[str, Any]
) -> dict[str, Any]:
    """Return which bodies brought it.

    `new_in` the body that it was stored from; `again` the others, and how often each tells
    of it, and that one too where it does so more than once; `looked_to` the last body that
    was looked at, of `last`, and null where there is nothing to look for.
    """
    own, last = await body_of(database, received["delivery"]), await last_body(database)
    found = {
        "new_in": received["delivery"],
        "again": [],
        "looked_to": None,
        "last": last,
    }
    parts = telltale([wamid]), telltale(strings_in(_json(row["item"])))
    part = next((p for p in parts if p and own and p in own.body), None)
    if own is None or part is None:
        return found
    with suppress(Transient):  # the rest is known, and so is how far this came
        async for number, body in _bodies(database, part, own):
            found["looked_to"] = number
            if body is None:
                continue
            times = await asyncio.to_thread(_times, body, wamid)
            # What has the very same time is the same request, archived twice.
            if times > (body.received_at == own.received_at):
                found["again"].append(_body(body, times))
    return found


async def _bodies(
    database: Database, part: bytes, own: Delivery
) -> AsyncGenerator[tuple[int, Delivery | None], None]:
    """Yield the number to which all is known by now, and each body with *part* on the way."""
    looked_at = read = size = 0
    async for page in pages_with(database, part, own.received_at):
        for body in page.found:
            read, size = read + 1, size + len(body.body)
            if read > 1 and (read > MOST_READ or size > MOST_READ_BYTES):
                return
            yield body.id or 0, body
        yield page.number, None
        looked_at += ROWS
        if looked_at >= MOST_LOOKED_AT:
            return


def _times(body: Delivery, wamid: str) -> int:
    return sum(
        event.content is not None and text(event.key) == wamid
        for event in read(body.body, body.door)
    )


def _body(body: Delivery, times: int) -> dict[str, Any]:
    at = body.received_at.isoformat()
    return {"delivery": body.id, "received_at": at, "door": body.door, "times": times}


def _told_after(received: dict[str, Any], outbox: list[Any]) -> float | None:
    tries = [each["at"] for told in outbox for each in told["tries"]]
    if not tries:
        return None
    first = min(map(datetime.fromisoformat, tries))
    return round((first - datetime.fromisoformat(received["received_at"])) / MS, 3)


async def _outbox(
    database: Database, row: Row, wamid: str, found: dict[str, Any]
) -> list[Any]:
    """Return what must be told of a message: written with it, so at the very same time."""
    at = row["stored_at"]
    first, last = await first_since(database, "outbox_last", "outbox_after", at)
    # What a large batch left reaches further than the place.
    bounds = max(first - 2 * NEAR, 0), min(first + BATCH, last + 1)
    lane = found["conversation"]["id"]
    rows = await database.fetch(sql("explain_outbox"), *bounds, at, lane)
    said = {f"{KEY}{_hex(reply['id'])}" for reply in found["replies"]}
    said.add(f"{KEY}{row['id'].hex}")
    return [
        _json(each["row"])
        for each in rows
        if each["key"] in said | _keys(each["destination"], row["kind"], wamid)
    ]


def _keys(destination: str, kind: str | None, wamid: str) -> set[str]:
    # As router.stages.desk names what it tells.
    names = (f"{destination}|{about}|{wamid}" for about in (kind, "derivation"))
    return {f"{KEY}{digest(name).hex()}" for name in names}


def _hex(uuid: str) -> str:
    return uuid.replace("-", "")


def _json(value: str | None) -> Any:
    return None if value is None else read_json(value.encode())
