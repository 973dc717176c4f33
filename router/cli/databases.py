"""`DATABASE_URL=embedded:DIR`: a server of our own, for as long as the command runs.

Where one runs already, `serve`'s mostly, a command uses that, and leaves it running.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

EMBEDDED = "embedded:"


@asynccontextmanager
async def reachable(dsn: str, *, alone: bool = False) -> AsyncIterator[str]:
    """Yield a DSN that can be connected to, starting the embedded server if asked for.

    *alone* wants a server that nobody else has: `Unavailable` where one runs already.
    """
    if not dsn.startswith(EMBEDDED):
        yield dsn
        return
    from router.store.embedded import EmbeddedPostgres
    from router.store.embedded_running import running

    folder = Path(dsn.removeprefix(EMBEDDED))
    if not alone and (there := await running(folder)):
        yield there
        return
    async with EmbeddedPostgres(folder) as server:
        yield server.dsn()
