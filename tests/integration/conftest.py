"""The installed service, on a machine with systemd; a `psi-router dev` to talk to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.box import Box, copy
from tests.devserver import Dev

COMMAND = "/opt/psi-router/current/bin/psi-router"


@pytest.fixture(scope="session")
def installed(box: Box, staged: Path) -> Box:
    """The box with the service on it, not started: its settings are not filled in."""
    copy(staged / "opt/psi-router", box.path("/opt/psi-router"))
    said = box.run(COMMAND, "install")
    assert "not started yet" in said
    return box


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def dev(
    postgres_binaries: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Dev]:
    """One `psi-router dev` for all tests: everybody who talks to it is somebody new."""
    async with Dev.running(tmp_path_factory.mktemp("dev")) as running:
        yield running
