"""A real `psi-router dev`: the router, its own PostgreSQL, and the stand-ins around it."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import orjson

from router.cli.dev import ADMIN_TOKEN
from tests.faults.harness import HOST, free_port
from tests.servers import until

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


class Dev:
    """A process that listens on a port of its own and keeps its data in *directory*."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        self._log = directory / "dev.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "router", "dev", "--data", directory / "data"],
                env={**ENVIRONMENT, "PORT": str(port)},
                cwd=directory,
                stdout=log,
                stderr=log,
            )

    @classmethod
    @asynccontextmanager
    async def running(cls, directory: Path) -> AsyncIterator["Dev"]:
        """Start one, lend it once its page answers, and stop it."""
        dev = cls(directory)
        try:
            await until(dev._welcomes)
            yield dev
        finally:
            dev.stop()

    def stop(self) -> None:
        """Stop in good order, its PostgreSQL with it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        finally:
            self._process.kill()

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def ask(
        self, path: str, said: dict[str, Any] | None = None, **headers: str
    ) -> tuple[int, Any]:
        """GET *path*, or POST *said* to it; return the status and the answer's JSON."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                "GET" if said is None else "POST",
                self.url + path,
                headers=headers,
                json=said,
            ) as response,
        ):
            return response.status, orjson.loads(await response.read())

    async def conversation(self, phone: str) -> dict[str, Any]:
        """Return what the CRM would hear of *phone*."""
        token = f"Bearer {ADMIN_TOKEN}"
        status, found = await self.ask(
            f"/api/conversations/{phone}", Authorization=token
        )
        assert status == 200, found
        answer: dict[str, Any] = found
        return answer

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Return the rows of *sql* in its database."""
        (dsn,) = (
            line.split()[-1]
            for line in self.log.splitlines()
            if line.startswith("  PostgreSQL")
        )
        connection = await asyncpg.connect(dsn)
        try:
            rows: list[Any] = await connection.fetch(sql, *arguments)
        finally:
            await connection.close()
        return rows

    async def _welcomes(self) -> bool:
        assert self._process.poll() is None, self.log
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"{self.url}/chat/people") as response:
                    return response.status == 200
            except aiohttp.ClientConnectionError:
                return False
