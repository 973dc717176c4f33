"""Whom the router is compared with: how each is started, and what its 200 says.

bench/baselines/README.md tells what each one does, and what it leaves out.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import asyncpg

from bench.machine import HOST, ROOT, python

HERE = Path(__file__).parent / "baselines"
NODE, GO = HERE / "node", HERE / "go"
GO_PROGRAM = GO / "receiver"
CRM_TABLES = "0001_crm_tables.sql"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare the router with.

    `durable`: its 200 comes after the commit. `stores`: it stores at all. `tells`: it is the
    router, which has an outbox. `{port}` in its command is where it listens; it is told the
    rest by the router's own settings.
    """

    name: str
    what: str
    command: Sequence[str | Path]
    durable: bool = True
    stores: bool = True
    tells: bool = False
    env: dict[str, str] = field(default_factory=dict)
    modules: Sequence[str] = ()  # that its Python needs
    files: Sequence[Path] = ()  # that `make peers` makes

    def missing(self) -> str:
        """Return what has to be installed before it can run; '' if nothing."""
        wanted = [name for name in self.modules if not importlib.util.find_spec(name)]
        if self.command[0] == "node" and not shutil.which("node"):
            wanted.append("node")
        wanted += [
            f"{p.relative_to(ROOT)} (make peers)" for p in self.files if not p.exists()
        ]
        return ", ".join(wanted)

    def arguments(self, port: int) -> list[str]:
        """Return the command that makes it listen on *port*."""
        return [str(word).replace("{port}", str(port)) for word in self.command]

    def settings(self, port: int, dsn: str, secret: bytes) -> dict[str, str]:
        """Return its environment."""
        return self.env | {
            "PORT": str(port),
            "DATABASE_URL": dsn,
            "WHATSAPP_APP_SECRET": secret.decode(),
        }


def _fastapi(name: str, what: str, *, after: bool) -> Peer:
    uvicorn = python("uvicorn", "bench.baselines.fast:app", "--host", HOST)
    flags = "--port {port} --loop uvloop --http httptools --no-access-log"
    return Peer(
        name,
        what,
        [*uvicorn, *flags.split(), "--log-level", "warning"],
        durable=not after,
        env={"AFTER": "1"} if after else {},
        modules=("fastapi", "uvicorn", "httptools"),
    )


def _node(name: str, what: str) -> Peer:
    return Peer(
        name,
        what,
        ["node", NODE / "receiver.js", name],
        env={"NODE_ENV": "production"},
        files=(NODE / "node_modules" / "express", NODE / "node_modules" / "pg"),
    )


PEERS = (
    Peer(
        "bare",
        "aiohttp, reads the body, answers",
        python("bench.servers", "bare", "{port}"),
        stores=False,
    ),
    Peer(
        "queued",
        "aiohttp, a queue, one batch writer",
        python("bench.baselines.queued"),
    ),
    _fastapi("fastapi", "FastAPI, one transaction a message", after=False),
    _node("plan", "express + pg, the plan's design"),
    _node("settled", "express + pg, joined query, allSettled"),
    _node("cte", "express + pg, one CTE a message"),
    Peer(
        "go",
        "Go, net/http + pgx, one CTE a message",
        [GO_PROGRAM],
        env={"STATEMENT": str(HERE / "message.sql")},
        files=(GO_PROGRAM,),
    ),
    _fastapi("after", "PyWa's way: FastAPI, stores after the 200", after=True),
)


async def make_tables(dsn: str) -> None:
    """Give a baseline's database the CRM's tables, and the indexes it counts on."""
    tables = resources.files("router.store") / "migrations" / CRM_TABLES
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(tables.read_text())
        await connection.execute((HERE / "indexes.sql").read_text())
    finally:
        await connection.close()
