"""Connections to PostgreSQL, each call bounded in time.

asyncpg has no time limit of its own on a connection that went silent, and an
`asyncio.timeout` around it hangs in the clean-up. So every limit is given to the driver, a
connection that timed out is cut off and not asked to tidy up, and the server is told to
stop a statement a little before we would stop waiting.

Every session says that its statements are look-ups by key: a generic plan made while a
table was empty would scan it from end to end once it has grown, or sort all of it rather
than read the index that has the order. What a session is told depends on whose it is:

  ours         by SET, once (a pooler refuses settings in the first packet, or drops them);
               statements stay prepared
  lent         each transaction again, nothing is prepared, and what is asked by itself gets
               a transaction of its own: the driver parses and runs in two trips
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import asyncpg

from router.errors import Transient
from router.store.failures import translated
from router.store.pooler import COMMAND_S, CONNECT_S, NAME, Mode, mode_of

ACQUIRE_S = 4.0
CLOSE_S = 1.0
IDLE_S = 300.0  # after which a connection that nobody took is closed
STATEMENTS = 100  # prepared ones that a session of our own keeps
SESSION = {
    "statement_timeout": "3500ms",
    "idle_in_transaction_session_timeout": "30s",
    "synchronous_commit": "on",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    # Without it a statement is planned anew each time, once a table has been analysed.
    "plan_cache_mode": "force_generic_plan",
}
BEGIN_POOLED = ";\n".join(
    ["begin", *(f"set local {name} = '{value}'" for name, value in SESSION.items())]
)
SET_SESSION = ";\n".join(f"set {name} = '{value}'" for name, value in SESSION.items())


class Row(Protocol):
    """One row of an answer, by the name or the place of a column."""

    def __getitem__(self, key: str | int, /) -> Any:
        """Return a column's value."""

    def keys(self) -> Iterable[str]:
        """Return the columns' names."""


class Fetches(Protocol):
    """A transaction, the database, of which each statement is one, or a bare connection."""

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run *sql* and return its rows."""


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # ships no types
    """A connection that needs no round trip to be given back: it keeps no state."""

    def get_reset_query(self) -> str:
        return ""


class Transaction:
    """One open transaction; its calls translate errors as `Database`'s do."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        """Speak on *connection*, which is inside a transaction."""
        self._connection = connection

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run *sql* and return its rows."""
        with translated():
            rows: list[Row] = await self._connection.fetch(sql, *args)
        return rows


class Database:
    """A small pool that survives the server's absence."""

    def __init__(self, dsn: str, *, size: int = 8) -> None:
        """Describe up to *size* connections to *dsn*; nothing is opened yet."""
        self.dsn, self._size = dsn, size
        self.mode: Mode | None = None  # known with the first connection
        # Until it is known whose the sessions are: what is right with any.
        self._by_transaction = True
        self._pool: asyncpg.Pool | None = None
        # Of the pool, and not given back to it between two statements: that is a timer and
        # a task, a sixth of what a batch costs. So it is here that one waits. The newest last,
        # each with the time since when nobody took it.
        self._spare: list[tuple[float, asyncpg.Connection]] = []
        self._turns = asyncio.Semaphore(size)

    async def open(self) -> None:
        """Make the pool, without a connection: the server may be away."""
        with translated():
            self._pool = await asyncpg.create_pool(
                self.dsn,
                min_size=0,
                max_size=self._size,
                max_inactive_connection_lifetime=0.1,  # after IDLE_S here
                connection_class=_Connection,
                connect=self._connect,
            )

    async def _connect(self, *args: Any, **kwargs: Any) -> asyncpg.Connection:
        if self.mode is None:
            self.mode = await mode_of(self.dsn)
            self._by_transaction = self.mode is Mode.TRANSACTION
        connection = await asyncpg.connect(
            *args,
            **kwargs,
            timeout=CONNECT_S,
            command_timeout=COMMAND_S,
            statement_cache_size=0 if self._by_transaction else STATEMENTS,
            server_settings={"application_name": NAME},
        )
        if not self._by_transaction:
            await connection.execute(SET_SESSION)
        return connection

    async def close(self) -> None:
        """Close in at most CLOSE_S, however the connections are."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._spare:
                    _, connection = self._spare.pop()
                    await self._pool.release(connection)
                await self._pool.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._pool.terminate()  # a time-out is an OSError; so is a server that left

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run *sql*, a transaction by itself, and return its rows.

        Raises Transient or Poison.
        """
        if self._by_transaction:
            async with self.transaction() as tx:
                return await tx.fetch(sql, *args)
        async with self._connection() as connection:
            with translated():
                rows: list[Row] = await connection.fetch(sql, *args)
        return rows

    async def execute(self, sql: str, *args: Any) -> None:
        """Run *sql* by itself; raise Transient or Poison."""
        await self.fetch(sql, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commit what the block does, all of it or, when it raises, nothing."""
        async with self._connection() as connection:
            with translated():
                await connection.execute(
                    BEGIN_POOLED if self._by_transaction else "begin"
                )
            try:
                yield Transaction(connection)
            except Exception:
                await _roll_back(connection)
                raise
            with translated():
                await connection.execute("commit")

    @asynccontextmanager
    async def _connection(
        self,
    ) -> AsyncIterator[asyncpg.Connection]:
        if self._pool is None:
            raise Transient("the database is not open")
        await self._turn()
        try:
            connection = await self._take(self._pool)
            try:
                yield connection
            except (Transient, asyncio.CancelledError):
                _cut_off(connection)  # whatever state it is in, nobody waits for it
                raise
            finally:
                await self._give_back(self._pool, connection)
        finally:
            self._turns.release()

    async def _turn(self) -> None:
        if self._turns.locked():
            with translated():
                async with asyncio.timeout(ACQUIRE_S):
                    await self._turns.acquire()
        else:
            await self._turns.acquire()

    async def _take(self, pool: asyncpg.Pool) -> asyncpg.Connection:
        while self._spare:
            _, connection = self._spare.pop()
            if _is_usable(connection):
                return connection
            await _release(pool, connection)
        with translated():
            return await pool.acquire(timeout=ACQUIRE_S)

    async def _give_back(
        self, pool: asyncpg.Pool, connection: asyncpg.Connection
    ) -> None:
        now = time.monotonic()
        if _is_usable(connection) and not pool.is_closing():
            self._spare.append((now, connection))
        else:
            await _release(pool, connection)
        if self._spare and now - self._spare[0][0] > IDLE_S:
            _, forgotten = self._spare.pop(0)
            with suppress(Transient):
                await _release(pool, forgotten)


async def _release(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    with translated():
        await pool.release(connection, timeout=CLOSE_S)


def _is_usable(connection: asyncpg.Connection) -> bool:
    try:
        return not (connection.is_closed() or connection.is_in_transaction())
    except asyncpg.InterfaceError:  # the pool has seen it break
        return False


async def _roll_back(connection: asyncpg.Connection) -> None:
    try:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("rollback")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        _cut_off(connection)  # the server rolls back what it hears no more of


def _cut_off(connection: asyncpg.Connection) -> None:
    # The pool takes a connection back by itself when it sees it break.
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
