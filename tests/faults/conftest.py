"""What the fault tests share."""

import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate
from tests.faults.harness import Sink, free_port

FILES = 4096  # a thousand connections, on both sides


@pytest.fixture(autouse=True, scope="session")
def many_files() -> None:
    """Let this process, and what it starts, open enough files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    """A CRM that takes everything."""
    async with Sink(0).running() as running:
        yield running


@pytest.fixture
async def own_postgres(
    postgres_binaries: Path, tmp_path: Path
) -> AsyncIterator[EmbeddedPostgres]:
    """A migrated server of the test's own, on a port it keeps: to be killed."""
    async with EmbeddedPostgres(tmp_path / "own", port=free_port()) as server:
        await migrate(server.dsn())
        yield server
