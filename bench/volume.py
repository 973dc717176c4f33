"""What a message weighs: bytes of WAL, and bytes that tables and indexes grow by.

The first change of a page after a checkpoint puts the whole page into the WAL. So a
checkpoint, then a load that does not count, then the one that does. What is left of full
pages (a vacuum comes by when it likes) is told apart by `pg_waldump`.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from bench.bed import Bed
from bench.contestant import Contestant, Request
from bench.report import table
from router.store.embedded import binaries

SIZES = """
select n.nspname || '.' || c.relname as name,
       pg_table_size(c.oid) as rows, pg_indexes_size(c.oid) as indexes
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname in ('public', 'router')"""
LSN = "select pg_current_wal_flush_lsn()::text"  # pg_waldump can read no further
BETWEEN = "select pg_wal_lsn_diff($1::text::pg_lsn, $2::text::pg_lsn)::bigint"
HOURS_S = 3600.0

Sizes = dict[str, tuple[int, int]]  # by table: its bytes, those of its indexes


@dataclass(frozen=True, slots=True)
class Volume:
    """What *messages* messages came to, in bytes."""

    messages: int
    wal: int
    full_pages: int | None  # of the WAL; None: nobody can tell
    tables: Sizes

    def per_message(self) -> dict[str, Any]:
        """Return bytes a message, as data."""
        per = {
            name: {"rows": rows / self.messages, "indexes": indexes / self.messages}
            for name, (rows, indexes) in self.tables.items()
        }
        full = None if self.full_pages is None else self.full_pages / self.messages
        return {
            "messages": self.messages,
            "wal_bytes": self.wal / self.messages,
            "full_page_bytes": full,
            "table_bytes": sum(t["rows"] + t["indexes"] for t in per.values()),
            "tables": per,
        }


async def volume(
    bed: Bed, router: Contestant, warm: Sequence[Request], requests: Sequence[Request]
) -> Volume:
    """Load *router* with *warm*, then with *requests*, and weigh the latter."""
    connection = router.connection
    assert connection
    await connection.execute("checkpoint")
    await bed.turn(router, warm, HOURS_S, 50)
    lsn, sizes = await connection.fetchval(LSN), await _sizes(connection)
    already = len(router.acked)
    await bed.turn(router, requests, HOURS_S, 50)
    end = await connection.fetchval(LSN)
    return Volume(
        len(router.acked) - already,
        await connection.fetchval(BETWEEN, end, lsn),
        full_pages(bed, lsn, end),
        grown(sizes, await _sizes(connection)),
    )


async def _sizes(connection: asyncpg.Connection) -> Sizes:
    rows = await connection.fetch(SIZES)
    return {row["name"]: (row["rows"], row["indexes"]) for row in rows}


def grown(before: Mapping[str, tuple[int, int]], after: Sizes) -> Sizes:
    """Return the difference, of the tables that have one; the largest first."""
    found = {
        name: (rows - before[name][0], indexes - before[name][1])
        for name, (rows, indexes) in after.items()
    }
    ordered = sorted(found.items(), key=lambda item: -sum(item[1]))
    return {name: both for name, both in ordered if both != (0, 0)}


def full_pages(bed: Bed, start: str, end: str) -> int | None:
    """Return the bytes of page images between two positions of the WAL."""
    place = binaries()
    if place is None or not (place / "pg_waldump").exists():
        return None
    where = [
        f"--path={bed.postgres.data / 'pg_wal'}",
        f"--start={start}",
        f"--end={end}",
    ]
    said = subprocess.run(
        [str(place / "pg_waldump"), "--stats", *where],
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode:
        print(f"pg_waldump: {said.stderr.strip()}", flush=True)
        return None
    return images(said.stdout)


def images(stats: str) -> int:
    """Return the total of the column "FPI size" of what `pg_waldump --stats` prints."""
    total = next(line for line in stats.splitlines() if line.startswith("Total"))
    numbers = [word for word in total.split() if word.isdigit()]
    return int(numbers[2])  # after the number of records, and the bytes of them


def words(found: Mapping[str, Any]) -> str:
    """Return the table of `Volume.per_message`."""
    full = found["full_page_bytes"]
    left = "" if full is None else f", {full:.0f} of them images of whole pages"
    rows = [
        (name, f"{one['rows']:.0f}", f"{one['indexes']:.0f}")
        for name, one in found["tables"].items()
    ]
    said = (
        f"WAL: {found['wal_bytes']:.0f} bytes a message{left}; "
        f"tables and indexes grow by {found['table_bytes']:.0f}."
    )
    return f"{said}\n\n{table(('table', 'rows, bytes a message', 'indexes'), rows)}"
