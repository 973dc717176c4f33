"""A shadow's database: how it is told from a real one, and how the two compare.

A shadow writes what it would have decided, so it must never write where people work: it
serves only a database that was marked for it, and a marked one is never served for real.
The mark is the comment on the schema `router`: a dump carries it along, and nothing reads it
but this.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from router.errors import ConfigError, Unavailable
from router.store.pooler import CONNECT_S
from router.store.sql_files import sql

MARK = "psi-router shadow"
LONGEST_S = 60.0  # a comparison may scan
# What an old router stored by its own clock; and what may still be on its way.
AROUND, UNDER_WAY = timedelta(minutes=15), timedelta(minutes=1)
_IS_MARKED = "select obj_description(to_regnamespace('router'), 'pg_namespace') = $1"

Row = Mapping[str, Any]


async def is_shadow(dsn: str) -> bool:
    """Return whether *dsn* is marked as a shadow's; Unavailable while it is away."""
    async with _connected(dsn) as connection:
        return bool(await connection.fetchval(_IS_MARKED, MARK))


async def mark(dsn: str) -> None:
    """Mark *dsn*, which was migrated, as a shadow's."""
    async with _connected(dsn) as connection:
        try:
            await connection.execute(f"comment on schema router is '{MARK}'")
        except asyncpg.InvalidSchemaNameError:
            raise ConfigError("run `psi-router migrate` first") from None


async def check(dsn: str, *, shadow: bool) -> None:
    """Raise ConfigError where a *shadow* would serve a real database, or the reverse."""
    marked = await is_shadow(dsn)
    if shadow and not marked:
        raise ConfigError(
            "PSI_SHADOW=1 wants a database of its own: "
            "DATABASE_URL is not marked by `psi-router shadow mark`"
        )
    if marked and not shadow:
        raise ConfigError(
            "DATABASE_URL is a shadow's database: nobody was told of what is in it"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two routers made of the same messages."""

    both: int
    only_old: list[Row]
    only_shadow: list[Row]
    differ: list[tuple[Row, Row, list[str]]]  # old, shadow, which members
    without_id: int  # the old one's: nobody can say which of ours they are


async def compare(old: str, shadow: str, since: datetime) -> Comparison:
    """Compare the inbound messages since *since* by their WhatsApp ids; reads only."""
    async with _connected(old, read_only=True) as connection:
        theirs = await connection.fetch(sql("shadow"), since - AROUND)
    async with _connected(shadow, read_only=True) as connection:
        ours = await connection.fetch(sql("shadow"), since - AROUND)
    return compared(theirs, ours, since, datetime.now(UTC) - UNDER_WAY)


def compared(
    old: list[Row], shadow: list[Row], since: datetime, until: datetime
) -> Comparison:
    """Compare rows of sql/shadow.sql; one that stands alone counts from *since* to *until*."""
    theirs, ours = _by_id(old), _by_id(shadow)
    known = theirs.keys() & ours.keys()
    pairs = [(theirs[key], ours[key]) for key in sorted(known)]
    return Comparison(
        both=len(known),
        only_old=[r for r in _alone(theirs, ours) if since <= r["at"] < until],
        only_shadow=[r for r in _alone(ours, theirs) if since <= r["at"] < until],
        differ=[(a, b, names) for a, b in pairs if (names := list(_differ(a, b)))],
        without_id=sum(1 for row in old if not row["id"] and row["at"] >= since),
    )


def _by_id(rows: list[Row]) -> dict[str, Row]:
    return {row["id"]: row for row in rows if row["id"]}


def _alone(rows: dict[str, Row], others: dict[str, Row]) -> Iterator[Row]:
    return (row for key, row in rows.items() if key not in others)


def _differ(old: Row, shadow: Row) -> Iterator[str]:
    return (n for n in ("telefono", "tipo", "mensaje", "area") if old[n] != shadow[n])


@asynccontextmanager
async def _connected(
    dsn: str, *, read_only: bool = False
) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_S,
            command_timeout=LONGEST_S,
            statement_cache_size=0,
            server_settings={
                "application_name": "psi-router",
                "default_transaction_read_only": "on" if read_only else "off",
            },
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise Unavailable(f"cannot reach PostgreSQL: {type(exc).__name__}") from exc
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_S)
