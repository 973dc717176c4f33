"""One migration, statement by statement, on a database in which others go on writing.

What needs a strong lock asks for it briefly and comes again, so that nobody queues behind it
for longer than LOCK_WAIT_MS. An index is built concurrently, which keeps no writer waiting.
"""

import asyncio
import random
import re
import time

import asyncpg

from router.errors import ConfigError, RouterError, Unavailable

LOCK_WAIT_MS = 300
LOCK_PAUSES_S = (0.2, 0.6)  # for whoever queued behind us
LOCKED_S = 120.0
GONE = frozenset({"08", "53", "57"})  # classes: connection, resources, shutdown
BUILDS = 3  # of an index: a deadlock or a cancel leaves it invalid

_INVALID = """
select i.indexrelid::regclass::text as name from pg_index i
join pg_class c on c.oid = i.indexrelid
where not i.indisvalid and c.relname = $1 and pg_table_is_visible(i.indrelid)
  and not exists (select from pg_stat_progress_create_index p
                  where p.index_relid = i.indexrelid)"""
_COLUMNS = """
select attname from pg_attribute
where attrelid = to_regclass($1) and attnum > 0 and not attisdropped"""
# Who has a lock on a table, the one who began first; an application names itself.
_HOLDER = """
select format('%s (process %s, for %s s)', coalesce(nullif(a.application_name, ''), a.usename),
              a.pid, round(extract(epoch from now() - a.xact_start))) as who
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.relation = to_regclass($1) and l.granted and a.pid <> pg_backend_pid()
order by a.xact_start limit 1"""

_ALTERED = re.compile(r"alter table (?:if exists )?([\w.]+)\s")
_ADDED = re.compile(r"(add) column if not exists (\w+)|\b(drop|alter|constraint)\b")
_TABLE = re.compile(r"(?:table (?:if (?:not )?exists )?|references |\son )([\w.]+)")
_CONCURRENTLY = re.compile(r"^(create|drop) (unique )?index concurrently\b")


async def fetch(connection: asyncpg.Connection, sql: str, *args: object) -> list[str]:
    """Return the first column of *sql*, in a transaction: a pooler may lend us one."""
    async with connection.transaction():
        return [row[0] for row in await connection.fetch(sql, *args)]


async def run_alone(connection: asyncpg.Connection, name: str, statement: str) -> None:
    """Run one statement of the migration *name* as a transaction of its own.

    Raises Unavailable where it may work later, ConfigError where somebody has to change
    the database first.
    """
    if _CONCURRENTLY.match(statement.lower()):
        await _build(connection, name, statement)
    elif not await _is_needless(connection, statement):
        await run_locked(connection, name, statement)


async def run_locked(
    connection: asyncpg.Connection, name: str, text: str, *more: tuple[str, ...]
) -> None:
    """Run *text*, then the statements of *more* with their arguments, in one transaction."""
    until = time.monotonic() + LOCKED_S
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = {LOCK_WAIT_MS}")
                await connection.execute(text)
                for statement, *args in more:
                    await connection.execute(statement, *args)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() > until:
                raise Unavailable(await _locked(connection, name, text)) from None
            await asyncio.sleep(random.uniform(*LOCK_PAUSES_S))  # noqa: S311 -- a pause
        except asyncpg.PostgresError as exc:
            raise _cannot(name, text, exc) from exc
        else:
            return


async def _build(connection: asyncpg.Connection, name: str, statement: str) -> None:
    index = index_name(statement)
    for attempt in range(1, BUILDS + 1):
        if index:
            await _drop_invalid(connection, index)
        try:
            await connection.execute(statement)
        except asyncpg.DeadlockDetectedError:
            if attempt == BUILDS:
                raise Unavailable(f"{name}: deadlocks with others, try again") from None
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as exc:
            raise Unavailable(
                f"{name}: {index}: stopped by the server's statement_timeout or"
                " lock_timeout; run it over a direct connection"
            ) from exc
        except asyncpg.PostgresError as exc:
            raise _cannot(name, statement, exc) from exc
        else:
            return


async def _drop_invalid(connection: asyncpg.Connection, index: str) -> None:
    for found in await fetch(connection, _INVALID, index):
        await connection.execute(f"drop index concurrently if exists {found}")


async def _is_needless(connection: asyncpg.Connection, statement: str) -> bool:
    """Return whether all that *statement* adds is there: then no lock is asked for."""
    altered = _ALTERED.match(statement.lower())
    clauses = _ADDED.findall(statement.lower())
    if altered is None or not clauses or any(not add for add, *_ in clauses):
        return False
    there = await fetch(connection, _COLUMNS, altered[1])
    return {column for _, column, _ in clauses} <= set(there)


async def _locked(connection: asyncpg.Connection, name: str, text: str) -> str:
    for table in dict.fromkeys(_TABLE.findall(text.lower())):
        for who in await fetch(connection, _HOLDER, table):
            return (
                f"{name}: {table} is in use by {who}; nothing waits for it, try again"
            )
    return f"{name}: a table is locked by somebody else, try again"


def _cannot(name: str, statement: str, exc: asyncpg.PostgresError) -> RouterError:
    state = exc.sqlstate or "?"
    if state[:2] in GONE:
        return Unavailable(f"{name}: PostgreSQL went away: {type(exc).__name__}")
    # Of class 42 (syntax, rights, what is not there) the message names names, else values.
    words = type(exc).__name__
    if state.startswith("42"):
        words = str(exc).replace("\n", " ")
    first = statement.strip().splitlines()[0].rstrip(" (")
    return ConfigError(f"cannot migrate: {name}: {first}: {words} ({state})")


def index_name(statement: str) -> str | None:
    """Return the index that a CREATE INDEX CONCURRENTLY IF NOT EXISTS makes."""
    words = statement.split()
    lowered = [word.lower() for word in words[:7]]
    if (
        lowered[:1] != ["create"]
        or "index" not in lowered[:3]
        or "exists" not in lowered
    ):
        return None
    return words[lowered.index("exists") + 1]
