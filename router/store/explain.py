"""The whole life of one message, from what is stored anyway, and one number of its metadata."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from router.model import Delivery
from router.store.archive import (
    AFTERWARDS,
    bodies_beside,
    body_of,
    last_body,
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
MOST_READ = 200  # bodies: what is looked for may occur in those of other messages too
MS = timedelta(milliseconds=1)
PARTS = ("statuses", "notices", "dead_letters")


async def explained(database: Database, wamid: str) -> dict[str, Any] | None:
    """Return what is known of the message *wamid*; None where it was never heard of.

    `message`, `received`, `dedupe`, `stages` and `conversation` (an object or null; the
    conversation as it is now), `replies`, `derivations`, `outbox` (each with its `tries`),
    `statuses`, `notices`, `dead_letters`. What the bot made of a message, and why, is its
    `metadata.decision`. Times in ISO 8601. Raises Transient, and Poison for what is no name.

    `stages`: milliseconds from the receipt of the body until it was read (`normalize`), its
    transaction began (`persist`), ended (`commit`; known where PostgreSQL keeps the times of
    commits), and until it was first told to somebody (`notify`); null for what is not known.
    """
    names = wamid.encode(), wamid.replace("/", "\\/").encode()
    (row,) = await database.fetch(sql("explain"), wamid, *names)
    found = {
        name: _json(row[name])
        for name in ("message", "received", "conversation", "replies", "derivations")
    }
    found |= {name: _json(row[name]) for name in PARTS}
    if not (found["message"] or any(found[name] for name in PARTS)):
        return None
    outbox = await _outbox(database, row, wamid, found) if found["message"] else []
    found |= {"outbox": outbox, "dedupe": None, "stages": None}
    if found["received"]:
        found["dedupe"] = await _again(database, wamid, row, found["received"])
        found["stages"] = _stages(row, found)
    return {"wamid": wamid, **found}


async def ids_in(database: Database, delivery: int) -> list[str] | None:
    """Return the WhatsApp ids of which a body tells, in its order; None if it is not kept."""
    body = await body_of(database, delivery)
    if body is None:
        return None
    events = read(body.body, body.door)
    return list(dict.fromkeys(event.id or event.key for event in events))


async def _again(
    database: Database, wamid: str, row: Row, received: dict[str, Any]
) -> dict[str, Any]:
    """Return which bodies brought it, the first one's copies counted too.

    `new_in` the body that it was stored from; `again` the others, and how often each tells
    of it; `looked_to` the last body that was looked at, of `last`.
    """
    number, brought = received["delivery"], list[dict[str, Any]]()
    last = looked_to = await last_body(database)
    read = 0
    async for body in bodies_beside(
        database, telltale(wamid), number, row["received_at"]
    ):
        if times := await asyncio.to_thread(_times, body, wamid):
            again = body.id != number
            brought += [_body(body, times)] if again or times > 1 else []
        read += 1
        if read == MOST_READ:
            looked_to = body.id or number
            break
    looked_to = max(number, min(looked_to, number + AFTERWARDS))
    return {"new_in": number, "again": brought, "looked_to": looked_to, "last": last}


def _times(body: Delivery, wamid: str) -> int:
    return sum(
        event.content is not None and text(event.key) == wamid
        for event in read(body.body, body.door)
    )


def _body(body: Delivery, times: int) -> dict[str, Any]:
    at = body.received_at.isoformat()
    return {"delivery": body.id, "received_at": at, "door": body.door, "times": times}


def _stages(row: Row, found: dict[str, Any]) -> dict[str, float | None]:
    began: datetime = row["received_at"]
    tries = [each["at"] for told in found["outbox"] for each in told["tries"]]
    first = min(map(datetime.fromisoformat, tries), default=None)
    later = {
        "persist": row["stored_at"],
        "commit": row["committed_at"],
        "notify": first,
    }
    read_after = (found["message"]["metadata"] or {}).get("normalized_ms")
    return {"normalize": read_after} | {
        name: at and round((at - began) / MS, 3) for name, at in later.items()
    }


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
