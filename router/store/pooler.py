"""What a DSN leads to: PostgreSQL itself, or a pooler, and how long that lends a session.

A pooler makes up the process id that it greets with, so it can be told from the server. One
that lends a session for a transaction at a time gives the same one to two connections in turn,
or one connection different ones; over several turns both would have to fail to happen.
"""

import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

CONNECT_S = 3.0
COMMAND_S = 4.0
TURNS = 5
TRANSACTION_POOLER_PORT = 6543  # Supavisor's and, by custom, pgbouncer's
NAME = "psi-router"  # application_name; what a command is called comes after it


class Mode(enum.Enum):
    """Whose the session is."""

    DIRECT = "none, a direct connection"
    SESSION = "one that keeps the session"
    TRANSACTION = "transaction mode"


async def mode_of(dsn: str) -> Mode:
    """Find out what *dsn* leads to; raise what the driver raises where it is away."""
    if is_announced(dsn):
        return Mode.TRANSACTION
    async with _connected(dsn) as first:
        mine = await _session(first)
        if first.get_server_pid() == mine:
            return Mode.DIRECT
        async with _connected(dsn) as second:
            for _ in range(TURNS):
                theirs = await _session(second)
                if theirs == mine or await _session(first) != mine:
                    return Mode.TRANSACTION
    return Mode.SESSION


def is_announced(dsn: str) -> bool:
    """Return whether the port of *dsn* says that a pooler lends by the transaction."""
    try:
        return urlsplit(dsn).port == TRANSACTION_POOLER_PORT
    except ValueError:
        return False


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_S,
        command_timeout=COMMAND_S,
        statement_cache_size=0,
        server_settings={"application_name": NAME},
    )
    try:
        yield connection
    finally:
        connection.terminate()


async def _session(connection: asyncpg.Connection) -> int:
    # In a transaction: the driver parses and runs in two trips, each perhaps elsewhere.
    async with connection.transaction():
        pid: int = await connection.fetchval("select pg_backend_pid()")
    return pid
