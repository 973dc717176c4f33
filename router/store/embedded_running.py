"""The server that another process runs on the same data: found by its note, and asked.

The lock says that somebody uses the data, postmaster.pid where its socket is. Neither says
that it answers, and a note may be an old one: so the server itself is asked whose data
they are. A service of systemd has a /tmp of its own; its socket is reached through /proc.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from router.errors import Unavailable
from router.store.embedded import PID_FILE_STATUS, EmbeddedPostgres, by_socket
from router.store.pooler import CONNECT_S, NAME

PATIENCE_S = 10.0  # for one on its way up or down
POLL_S = 0.1
PID, DATA, PORT, SOCKETS = 0, 1, 3, 4  # lines of postmaster.pid
BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def running(directory: Path) -> str | None:
    """Return how to reach the server that runs on *directory*; None where none does.

    One that comes up or goes down is waited for, a while; None too where it then still does
    not answer: starting another says who it is. Raises `Unavailable` where we may not look.
    """
    server = EmbeddedPostgres(directory)
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    try:
        while server.in_use():
            if dsn := await _found(server):
                return dsn
            if asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(POLL_S)
    except OSError as error:
        raise Unavailable(f"no PostgreSQL in {directory}: {error}") from error
    return None


async def _found(server: EmbeddedPostgres) -> str | None:
    note = server.note()
    if len(note) <= PID_FILE_STATUS or note[PID_FILE_STATUS].strip() != "ready":
        return None
    owner = server.data.stat().st_uid
    for sockets in _places(note):
        # Whoever made the directory answers there: nobody but the owner of the data.
        if _owner(sockets) == owner:
            dsn = by_socket(sockets, int(note[PORT]))
            if await _serves(dsn, note[DATA]):
                return dsn
    return None


def _places(note: list[str]) -> Iterator[Path]:
    yield Path(note[SOCKETS])
    yield Path(f"/proc/{note[PID]}/root{note[SOCKETS]}")


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


async def _serves(dsn: str, data: str) -> bool:
    connection = None
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_S,
            command_timeout=CONNECT_S,
            statement_cache_size=0,
            server_settings={"application_name": NAME},
        )
        return bool(await connection.fetchval("show data_directory") == data)
    except BROKEN:
        return False
    finally:
        if connection is not None:
            connection.terminate()
