"""Where in a table of numbered rows a time is: without an index of times."""

from datetime import datetime

from router.store.database import Database
from router.store.sql_files import sql

NEAR = 1000  # numbers: so far a row may stand from its place by time


async def first_since(
    database: Database, last: str, after: str, at: datetime
) -> tuple[int, int]:
    """Return a number at most NEAR above the first row of *at* or later, and the last one.

    Numbers grow with time, so some forty look-ups find the place. The statement *last*
    gives the last number, *after* the first row from a number on, with its time as `at`.
    """
    (row,) = await database.fetch(sql(last))
    low, high = 0, row["last"] + 1
    while high - low > NEAR:
        middle = (low + high) // 2
        rows = await database.fetch(sql(after), middle)
        if not rows or rows[0]["at"] >= at:
            high = middle
        else:
            low = middle
    return high, row["last"]
