"""Brings a database up to date: `migrations/*.sql` in the order of their names.

A file is applied once and remembered with its checksum. A file whose first line is
``-- no-transaction`` runs statement by statement, each a transaction or, for
CREATE INDEX CONCURRENTLY, none; it must be repeatable, since it may stop half-way. Several
runners may start at once: one works, the others wait and find nothing to do.

It needs no session of its own, so it works through any pooler (router/store/pooler.py).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources

import asyncpg

from router.errors import ConfigError, Unavailable
from router.store.migrate_steps import run_alone, run_locked
from router.store.pooler import CONNECT_S, NAME, Mode, mode_of

LOCK_KEY = 0x70_73_69  # "psi"
LOCK_POLL_S = 0.1
NO_TRANSACTION = "-- no-transaction"
UNBOUNDED = "set statement_timeout = 0; set lock_timeout = 0"  # an index takes its time
# Also the end of the portal before it, whose snapshot would stay for as long as that.
KEEP = "set local idle_in_transaction_session_timeout = 0"

_BOOKKEEPING = """
create schema if not exists router;
create table if not exists router.migrations (
  name text primary key, checksum text not null,
  applied_at timestamptz not null default now())"""
_REMEMBER = "insert into router.migrations (name, checksum) values ($1, $2)"


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

    Raises Unavailable when the server is away or a table locked for long, ConfigError when
    a file that was applied has changed since, or the database does not take one.
    """
    async with _connected(dsn) as connection, _alone(dsn):
        if await _names_and_sums(connection) is None:
            await run_locked(connection, "router.migrations", _BOOKKEEPING)
        missing = _missing(await _names_and_sums(connection) or {})
        for migration in missing:
            await _apply(connection, migration)
        return [migration.name for migration in missing]


async def behind(dsn: str) -> list[str]:
    """Return the names of the migrations that *dsn* lacks."""
    async with _connected(dsn) as connection:
        applied = await _names_and_sums(connection)
    return [migration.name for migration in _missing(applied or {})]


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        mode = await mode_of(dsn)
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_S,
            statement_cache_size=0,
            server_settings={"application_name": f"{NAME} migrate"},
        )
        if mode is not Mode.TRANSACTION:
            await connection.execute(UNBOUNDED)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise Unavailable(f"cannot reach PostgreSQL: {type(exc).__name__}") from exc
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_S)


@asynccontextmanager
async def _alone(dsn: str) -> AsyncIterator[None]:
    # In a transaction, which keeps its session through any pooler; on a connection of its
    # own, for no index is built inside of one. Asked for again and again: a transaction
    # that *waits* has a snapshot, and the runner that builds an index would wait for it.
    ask = "select pg_try_advisory_xact_lock($1)"
    async with _connected(dsn) as keeper:
        while True:
            await keeper.execute("begin")
            if await keeper.fetchval(ask, LOCK_KEY):
                break
            await keeper.execute("rollback")
            await asyncio.sleep(LOCK_POLL_S)
        await keeper.execute(KEEP)
        yield  # the end of the connection is the end of the lock


async def _names_and_sums(connection: asyncpg.Connection) -> dict[str, str] | None:
    """Return what was applied; None where nothing ever was."""
    async with connection.transaction():
        if await connection.fetchval("select to_regclass('router.migrations')") is None:
            return None
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
    name, remember = migration.name, (_REMEMBER, migration.name, migration.checksum)
    if migration.transactional:
        await run_locked(connection, name, migration.text, remember)
        return
    for statement in statements(migration.text):
        await run_alone(connection, name, statement)
    await run_locked(connection, name, "select 1", remember)


def statements(text: str) -> list[str]:
    """Return the statements of a file that ends each with a semicolon at a line's end."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = "\n".join(lines).split(";\n")
    return [part.strip().removesuffix(";") for part in parts if part.strip()]
