"""Bodies as they came, found again: what is buried says which bytes, and when.

They have numbers and no index of times. Numbers grow with the time at which a body is archived,
but for those of processes that share the archive (SPREAD), and a body that waited in a spool
has a number that is later than its time.
"""

import re
from collections.abc import AsyncGenerator, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from router.model import Delivery, Door
from router.store.database import Database, Row
from router.store.numbers import LASTS_S
from router.store.places import NEAR, first_since
from router.store.sql_files import sql

PAGE = 50  # bodies, of up to 4 MB each
ROWS, BYTES = 4000, 16_000_000  # that one statement looks through: some 50 ms
TELLING = 12  # characters that hardly another name has
# From a body's arrival to the burial of something in it: as a rule, and after an outage.
USUAL_WAY, LONGEST_WAY = timedelta(hours=1), timedelta(days=7)
CLOCKS = timedelta(minutes=1)  # ours and the database's may differ
SPREAD = timedelta(seconds=LASTS_S) + 2 * CLOCKS
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")


class Page(NamedTuple):
    """What a statement looked through."""

    found: list[Delivery]
    number: int  # of the last row of it
    at: datetime  # when that was received


async def body_of(database: Database, number: int) -> Delivery | None:
    """Return the archived body *number*; None where it is not kept (any more)."""
    rows = await database.fetch(sql("delivery"), number)
    return _delivery(number, rows[0]) if rows else None


async def last_body(database: Database) -> int:
    """Return the greatest number of an archived body, 0 where there is none."""
    (row,) = await database.fetch(sql("deliveries_last"))
    last: int = row["last"]
    return last


async def bodies_between(
    database: Database, since: datetime, until: datetime
) -> AsyncGenerator[list[Delivery], None]:
    """Yield the archived bodies of a time, a page at once, in the order of their numbers.

    That is the order in which one process took them; another's may be minutes apart.
    Raises Transient.
    """
    after = await _place(database, since) - 1
    while True:
        rows = await database.fetch(sql("deliveries_since"), after, since, until, PAGE)
        if rows:
            yield [_delivery(row["id"], row) for row in rows]
            after = rows[-1]["id"]
        if len(rows) < PAGE:
            return


async def bodies_with(
    database: Database, part: bytes, before: datetime
) -> AsyncGenerator[Delivery, None]:
    """Yield archived bodies in which *part* occurs, that came in the 7 days before *before*.

    Those of the last hour first, and of an empty *part* no others: it occurs in all.
    Raises Transient.
    """
    latest = before + CLOCKS
    for way in (USUAL_WAY, LONGEST_WAY) if part else (USUAL_WAY,):
        since = before - way
        async for page in pages_with(database, part, since):
            for body in page.found:
                if since <= body.received_at <= latest:
                    yield body
            if page.at > before + SPREAD:
                break
        latest = since - timedelta.resolution


async def pages_with(
    database: Database, part: bytes, since: datetime
) -> AsyncGenerator[Page, None]:
    """Look through all bodies that were archived at *since* or later for *part*.

    Raises Transient.
    """
    number = await _place(database, since)
    while rows := await database.fetch(
        sql("deliveries_with"), number, ROWS, BYTES, part
    ):
        *found, last = rows
        yield Page(
            [_delivery(row["id"], row) for row in found],
            last["id"],
            last["received_at"],
        )
        number = last["id"] + 1


def telltale(names: Iterable[str]) -> bytes:
    """Return a part of one of *names* that no JSON escapes: it occurs where they do.

    Who looks for it reads what was found: other names have it too. Of a name the last long
    part, since WhatsApp's ids begin with whom they are of; of all of them the longest.
    """
    return max(map(_part_of, names), key=len, default="").encode()


def _part_of(name: str) -> str:
    parts = _PLAIN.findall(name)
    long = (part for part in reversed(parts) if len(part) >= TELLING)
    return next(long, max(parts, key=len, default=""))


def strings_in(item: Any) -> Iterator[str]:
    """Yield the values of parsed JSON that are strings, however deep."""
    left = [item]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value


async def _place(database: Database, at: datetime) -> int:
    """Return a number below those of all bodies that were archived at *at* or later."""
    names = "deliveries_last", "delivery_after"
    number, _ = await first_since(database, *names, at - SPREAD)
    return max(number - NEAR, 0)


def _delivery(number: int, row: Row) -> Delivery:
    return Delivery(
        body=row["body"],
        door=Door(row["door"]),
        received_at=row["received_at"],
        id=number,
    )
