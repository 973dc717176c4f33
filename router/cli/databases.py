"""`DATABASE_URL=embedded:DIR`: a server of our own, for as long as the command runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

EMBEDDED = "embedded:"


@asynccontextmanager
async def reachable(dsn: str) -> AsyncIterator[str]:
    """Yield a DSN that can be connected to, starting the embedded server if asked for."""
    if not dsn.startswith(EMBEDDED):
        yield dsn
        return
    from router.store.embedded import EmbeddedPostgres

    async with EmbeddedPostgres(Path(dsn.removeprefix(EMBEDDED))) as server:
        yield server.dsn()
