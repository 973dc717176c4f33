"""The whole life of one message, from what is stored: nothing is written down for this."""

from typing import Any

from router.store.archive import body_of
from router.store.database import Database, Row
from router.store.keys import digest
from router.store.places import NEAR, first_since
from router.store.replies import KEY
from router.store.sql_files import sql
from router.whatsapp.events import read
from router.whatsapp.reading import read_json

# Of what is not known, and why.
NOTE = "bodies that brought it again are archived, and changed nothing: they are not listed"
BATCH = 10 * NEAR  # rows that one transaction may leave
PARTS = ("statuses", "notices", "dead_letters")


async def explained(database: Database, wamid: str) -> dict[str, Any] | None:
    """Return what is known of the message *wamid*; None where it was never heard of.

    `message`, `received` and `conversation` (an object or null; the conversation as it is
    now), `replies`, `derivations`, `outbox` (each with its `tries`), `statuses`, `notices`,
    `dead_letters`, `note`. What the bot made of a message, and why, is its
    `metadata.decision`. Times in ISO 8601. Raises Transient, and Poison for what is no name.
    """
    (row,) = await database.fetch(sql("explain"), wamid, wamid.encode())
    found = {
        name: _json(row[name])
        for name in ("message", "received", "conversation", "replies", "derivations")
    }
    found |= {name: _json(row[name]) for name in PARTS}
    if not (found["message"] or any(found[name] for name in PARTS)):
        return None
    outbox = await _outbox(database, row, wamid, found) if found["message"] else []
    return {"wamid": wamid, **found, "outbox": outbox, "note": NOTE}


async def ids_in(database: Database, delivery: int) -> list[str] | None:
    """Return the WhatsApp ids of which a body tells, in its order; None if it is not kept."""
    body = await body_of(database, delivery)
    if body is None:
        return None
    events = read(body.body, body.door)
    return list(dict.fromkeys(event.id or event.key for event in events))


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
