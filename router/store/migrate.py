"""Brings a database up to date: `migrations/*.sql` in the order of their names.

A file is applied once and remembered with its checksum. A file whose first line is
``-- no-transaction`` runs statement by statement outside one (CREATE INDEX CONCURRENTLY);
it must be repeatable, since it may stop half-way. Several runners may start at once: one
works, the others wait and find nothing to do.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources

import asyncpg

from router.errors import ConfigError, Unavailable
from router.store.database import CONNECT_S

LOCK_KEY = 0x70_73_69  # "psi"
LOCK_POLL_S = 0.1
DDL_LOCK_TIMEOUT = "1s"  # so that no writer of a live CRM queues behind us for longer
DDL_TRIES = 30
NO_TRANSACTION = "-- no-transaction"

_BOOKKEEPING = """
create schema if not exists router;
create table if not exists router.migrations (
  name text primary key, checksum text not null,
  applied_at timestamptz not null default now())"""
_INVALID_INDEXES = """
select i.indexrelid::regclass::text as name from pg_index i
join pg_class c on c.oid = i.indexrelid
where not i.indisvalid and c.relname = any($1)
  and not exists (select from pg_stat_progress_create_index p
                  where p.index_relid = i.indexrelid)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name without .sql, its text, and what tells it from another."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def transactional(self) -> bool:
        """Whether the file runs as one transaction."""
        return not self.text.startswith(NO_TRANSACTION)


def migrations() -> list[Migration]:
    """Return the packaged migrations in order."""
    folder = resources.files("router.store") / "migrations"
    return [
        Migration(name=path.name.removesuffix(".sql"), text=path.read_text("utf-8"))
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name.endswith(".sql")
    ]


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing to *dsn* and return the names, oldest first.

    Raises Unavailable when the server is away, ConfigError when a file that was applied
    has changed since.
    """
    async with _connected(dsn) as connection, _alone(connection):
        await connection.execute(_BOOKKEEPING)
        missing = _missing(await _applied(connection))
        for migration in missing:
            await _apply(connection, migration)
        return [migration.name for migration in missing]


async def behind(dsn: str) -> list[str]:
    """Return the names of the migrations that *dsn* lacks."""
    async with _connected(dsn) as connection:
        if await connection.fetchval("select to_regclass('router.migrations')") is None:
            return [migration.name for migration in migrations()]
        return [migration.name for migration in _missing(await _applied(connection))]


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_S, statement_cache_size=0
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise Unavailable(f"cannot reach PostgreSQL: {type(exc).__name__}") from exc
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_S)


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    # Asked for again and again: a session that *waits* for the lock holds a snapshot, and
    # CREATE INDEX CONCURRENTLY of the runner that has the lock would wait for it.
    ask = "select pg_try_advisory_lock($1)"
    while not await connection.fetchval(ask, LOCK_KEY):  # noqa: ASYNC110 -- polled
        await asyncio.sleep(LOCK_POLL_S)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1)", LOCK_KEY)


async def _applied(connection: asyncpg.Connection) -> dict[str, str]:
    rows = await connection.fetch("select name, checksum from router.migrations")
    return {row["name"]: row["checksum"] for row in rows}


def _missing(applied: dict[str, str]) -> list[Migration]:
    found = migrations()
    changed = [m.name for m in found if applied.get(m.name, m.checksum) != m.checksum]
    if changed:
        raise ConfigError(
            f"applied to this database, changed since: {', '.join(changed)}"
        )
    return [migration for migration in found if migration.name not in applied]


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    remember = "insert into router.migrations (name, checksum) values ($1, $2)"
    if not migration.transactional:
        await _drop_what_a_failed_run_left(connection, migration)
        for statement in statements(migration.text):
            await connection.execute(statement)
        await connection.execute(remember, migration.name, migration.checksum)
        return
    for attempt in range(1, DDL_TRIES + 1):
        try:
            async with connection.transaction():
                await connection.execute(
                    f"set local lock_timeout = '{DDL_LOCK_TIMEOUT}'"
                )
                await connection.execute(migration.text)
                await connection.execute(remember, migration.name, migration.checksum)
        except asyncpg.LockNotAvailableError:
            if attempt == DDL_TRIES:
                raise Unavailable(
                    f"{migration.name}: a table is locked by somebody else"
                ) from None
        else:
            return


async def _drop_what_a_failed_run_left(
    connection: asyncpg.Connection, migration: Migration
) -> None:
    names = [name for s in statements(migration.text) if (name := index_name(s))]
    for row in await connection.fetch(_INVALID_INDEXES, names):
        await connection.execute(f"drop index concurrently if exists {row['name']}")


def statements(text: str) -> list[str]:
    """Return the statements of a file that ends each with a semicolon at a line's end."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = "\n".join(lines).split(";\n")
    return [part.strip().removesuffix(";") for part in parts if part.strip()]


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
