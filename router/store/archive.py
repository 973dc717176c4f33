"""Bodies as they came, found again: what is buried says which bytes, and when."""

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from router.model import Delivery, Door
from router.store.database import Database, Row
from router.store.places import NEAR, first_since
from router.store.sql_files import sql

BLOCK = 1000  # numbers that a process takes at once: so far may two of them be apart
PAGE = 50  # bodies, of up to 4 MB each
STEP = 5000  # numbers that one statement looks at
FEW = 20  # bodies that it returns
TELLING = 12  # characters that hardly another name has
AFTERWARDS = 100_000  # numbers: so far is the same message looked for again
# From a body's arrival to the burial of something in it: as a rule, and after an outage.
USUAL_WAY, LONGEST_WAY = timedelta(hours=1), timedelta(days=7)
CLOCKS = timedelta(minutes=1)  # ours and the database's may differ
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")


async def body_of(database: Database, number: int) -> Delivery | None:
    """Return the archived body *number*; None where it is not kept (any more)."""
    rows = await database.fetch(sql("delivery"), number)
    return _delivery(number, rows[0]) if rows else None


async def bodies_between(
    database: Database, since: datetime, until: datetime
) -> AsyncGenerator[list[Delivery], None]:
    """Yield the archived bodies of a time, a page at once, in the order of their numbers.

    That is the order in which one process took them; another's may be a thousand apart.
    Raises Transient.
    """
    after = max(await _place(database, since) - NEAR - BLOCK, 0) - 1
    while True:
        rows = await database.fetch(sql("deliveries_since"), after, since, until, PAGE)
        if rows:
            yield [_delivery(row["id"], row) for row in rows]
            after = rows[-1]["id"]
        if len(rows) < PAGE:
            return


def telltale(name: str) -> bytes:
    """Return a part of *name* that no JSON escapes: it occurs where *name* does.

    Who looks for it reads what was found: other names have it too. The last long part, since
    WhatsApp's ids begin with whom they are of; else the longest.
    """
    parts = _PLAIN.findall(name)
    longest = max(parts, key=len, default="")
    long = (part for part in reversed(parts) if len(part) >= TELLING)
    return next(long, longest).encode()


async def bodies_with(
    database: Database, part: bytes, before: datetime
) -> AsyncGenerator[Delivery, None]:
    """Yield archived bodies in which *part* occurs, that came in the 7 days before *before*.

    Those of the last hour first, and of an empty *part* no others: it occurs in all.
    Raises Transient.
    """
    until = before + CLOCKS
    end = await _place(database, until) + BLOCK + 1
    for way in (USUAL_WAY, LONGEST_WAY) if part else (USUAL_WAY,):
        since = before - way
        first = await _place(database, since) - NEAR - BLOCK
        # What waited before it was archived has a later number than its time.
        numbers = range(max(first, 0), end)
        async for delivery in _bodies_in(database, part, numbers, since, until):
            yield delivery
        until = since - timedelta.resolution


async def bodies_beside(
    database: Database, part: bytes, number: int, received_at: datetime
) -> AsyncGenerator[Delivery, None]:
    """Yield archived bodies in which *part* occurs, about *number* and AFTERWARDS after it.

    Also that body itself. Raises Transient.
    """
    numbers = range(max(number - BLOCK, 0), number + AFTERWARDS + 1)
    since, until = received_at - USUAL_WAY, datetime.now(UTC) + CLOCKS
    async for delivery in _bodies_in(database, part, numbers, since, until):
        yield delivery


async def last_body(database: Database) -> int:
    """Return the greatest number of an archived body, 0 where there is none."""
    (row,) = await database.fetch(sql("deliveries_last"))
    last: int = row["last"]
    return last


async def _place(database: Database, at: datetime) -> int:
    number, _ = await first_since(database, "deliveries_last", "delivery_after", at)
    return number


async def _bodies_in(
    database: Database, part: bytes, numbers: range, since: datetime, until: datetime
) -> AsyncGenerator[Delivery, None]:
    low, stop = numbers.start, min(numbers.stop, await last_body(database) + 1)
    while low < stop:
        high = min(low + STEP, stop)
        rows = await database.fetch(
            sql("deliveries_between"), low, high, since, until, part, FEW
        )
        for row in rows:
            yield _delivery(row["id"], row)
        low = rows[-1]["id"] + 1 if len(rows) == FEW else high


def _delivery(number: int, row: Row) -> Delivery:
    return Delivery(
        body=row["body"],
        door=Door(row["door"]),
        received_at=row["received_at"],
        id=number,
    )
