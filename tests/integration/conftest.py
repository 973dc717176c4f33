"""The installed service, on a machine with systemd."""

from pathlib import Path

import pytest

from tests.box import Box, copy

COMMAND = "/opt/psi-router/current/bin/psi-router"


@pytest.fixture(scope="session")
def installed(box: Box, staged: Path) -> Box:
    """The box with the service on it, not started: its settings are not filled in."""
    copy(staged / "opt/psi-router", box.path("/opt/psi-router"))
    said = box.run(COMMAND, "install")
    assert "not started yet" in said
    return box
