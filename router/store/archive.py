"""Bodies as they came, found again: what is buried says which bytes, and when."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta

from router.model import Delivery, Door
from router.store.database import Database, Row
from router.store.places import NEAR, first_since
from router.store.sql_files import sql

BLOCK = 1000  # numbers that a process takes at once: so far may two of them be apart
PAGE = 50  # bodies, of up to 4 MB each
STEP = 5000  # numbers that one statement looks at
LONGEST_WAY = timedelta(
    hours=1
)  # from a body's arrival to the burial of something in it
CLOCKS = timedelta(minutes=1)  # ours and the database's may differ


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
    first, _ = await first_since(database, "deliveries_last", "delivery_after", since)
    after = max(first - NEAR - BLOCK, 0) - 1
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
    """Yield archived bodies in which *part* occurs, that came in the hour before *before*.

    Raises Transient.
    """
    since, until = before - LONGEST_WAY, before + CLOCKS
    statements = ("deliveries_last", "delivery_after")
    first, _ = await first_since(database, *statements, since)
    last, _ = await first_since(database, *statements, until)
    for low in range(max(first - NEAR - BLOCK, 0), last + BLOCK + 1, STEP):
        for found in await database.fetch(
            sql("deliveries_between"), low, low + STEP, since, until, part
        ):
            yield _delivery(found["id"], found)


def _delivery(number: int, row: Row) -> Delivery:
    return Delivery(
        body=row["body"],
        door=Door(row["door"]),
        received_at=row["received_at"],
        id=number,
    )
