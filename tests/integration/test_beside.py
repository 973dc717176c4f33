"""Commands beside a service that runs on an embedded database, and without it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from router.store.embedded import EmbeddedPostgres
from tests.events import body, text_message
from tests.faults.harness import ROOT, SETTINGS, Service, free_port

WAMID = "wamid.beside"
# What each says, and how it ends.
COMMANDS = {
    ("explain", WAMID): (0, "from Meta, its signature right"),
    ("explain", "wamid.nobody"): (1, ""),
    ("dead-letters", "list"): (0, ""),
    ("dead-letters", "replay", "99"): (1, ""),
    ("doctor",): (0, "ok    database: PostgreSQL"),
    ("migrate", "--check"): (0, "up to date"),
    ("migrate",): (0, "up to date"),
    ("shadow", "mark"): (0, "marked"),
}


@pytest.fixture
def settings(tmp_path: Path, postgres_binaries: Path) -> dict[str, str]:
    return {"DATABASE_URL": f"embedded:{tmp_path / 'data'}", "PSI_MIGRATE": "1"}


async def said(
    settings: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "router", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            **SETTINGS,
            **settings,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_commands_use_the_database_of_the_running_service_or_their_own(
    settings: dict[str, str], tmp_path: Path
) -> None:
    service = Service(tmp_path, settings)
    server = EmbeddedPostgres(tmp_path / "data")
    service.start()
    await service.ready()
    await service.post(body(text_message("5491100000001", WAMID)))
    before = server.pid
    for arguments, (status, words) in COMMANDS.items():
        done = await said(settings, *arguments)
        assert (done.returncode, words in done.stdout) == (status, True), done
        assert "in use" not in done.stderr
    assert server.pid == before
    assert (await service.get("/ready")).status == 200
    service.send(signal.SIGTERM)
    assert await service.exit_status(30) == 0
    assert not server.in_use()
    done = await said(settings, "explain", WAMID)
    assert done.returncode == 0, done
    assert not server.in_use()  # it stopped what it started


async def test_a_second_service_on_the_same_data_is_refused(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with EmbeddedPostgres(tmp_path / "data") as server:
        for verb in (["serve"], ["dev", "--data", str(tmp_path / "data")]):
            done = await said({**settings, "PORT": str(free_port())}, *verb)
            assert done.returncode == 69
            assert f"in use by process {os.getpid()}" in done.stderr
        assert server.pid
