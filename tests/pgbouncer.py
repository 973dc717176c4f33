"""pgbouncer before the tests' PostgreSQL: a pooler that keeps sessions, or lends them."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from tests.faultproxy import HOST
from tests.servers import Postgres, until

CONF = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = {here}
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
server_idle_timeout = 5
{more}
"""


class Pgbouncer:
    """One process, for every database of a server."""

    def __init__(self, program: str, directory: Path, postgres: Postgres) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self._program = program
        self._there = urlsplit(postgres.dsn(tcp=True))
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, *, mode: str, size: int = 20, more: str = "") -> None:
        """Start in *mode*, with *size* sessions for a database; *more* lines of settings."""
        conf = self.directory / "pgbouncer.ini"
        conf.write_text(
            CONF.format(
                host=self._there.hostname,
                port=self._there.port,
                user=self._there.username,
                password=self._there.password,
                here=HOST,
                listen=self.port,
                mode=mode,
                size=size,
                more=more,
            )
        )
        command = [self._program, str(conf)]
        if os.geteuid() == 0:  # it does not run as root
            command[1:1] = ["-u", "nobody"]
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        await until(self._answers)

    def stop(self) -> None:
        """End it at once, clients or not."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def dsn(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Return how to reach *database* through it; everybody is let in."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}?sslmode=disable"

    def through(self, dsn: str) -> str:
        """Return how to reach by this road what *dsn* reaches directly."""
        return self.dsn(urlsplit(dsn).path.removeprefix("/"))

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return False
        writer.close()
        return True
