"""A router from its listener to its end, and how one takes over from another.

A reload is a second router in the same process: it is made from the new settings, the old
one lets go of the listener and commits what it has taken, the new one accepts, and the old
one drains. Nothing is changed under way, so whatever settings say can be reloaded, and what
cannot be made leaves the old router as it was. The kernel keeps the connections that come
in between, since the listening socket itself stays open.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from aiohttp import web

from router.app import INGRESS, PIPELINE, SERVICE, WEBHOOK_PATHS, Service, make_app
from router.cli.environment import take_listen_fds
from router.config import Settings
from router.errors import Unavailable
from router.shortcut import Shortcuts

LINGER_S = 1.0  # for the request of a connection that was accepted before the stop
FIRST_PASSED_FD = 3  # SD_LISTEN_FDS_START
# What a connection may hold before its body has room: five hundred of them come at once.
# uvloop reads as much as the kernel has, so the kernel's share is bounded too.
READ_BUFFER = 16 * 1024
RECEIVE_BYTES = 16 * 1024
BACKLOG = 1024
ACCEPT_ROUNDS = 5
REVISION_NOTE = "REVISION"  # in the environment of an installed release


def listen(settings: Settings) -> socket.socket:
    """Return the socket that systemd hands over, or one of our own.

    Raises `Unavailable`, for one where the port is taken.
    """
    try:
        listener = (
            socket.socket(fileno=FIRST_PASSED_FD)
            if take_listen_fds()
            else socket.create_server(
                (settings.host, settings.port),
                backlog=BACKLOG,
                reuse_port=settings.reuse_port,
            )
        )
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    except OSError as exc:
        raise Unavailable(f"cannot listen: {exc.strerror or exc}") from exc
    return listener


class Running:
    """One application, and the part of it that accepts."""

    def __init__(self, settings: Settings) -> None:
        """Describe it; nothing is opened yet."""
        self.app = make_app(settings, commit=commit())
        self._runner = web.AppRunner(
            self.app,
            access_log=None,
            keepalive_timeout=75.0,
            read_bufsize=READ_BUFFER,
            auto_decompress=False,  # the signature is over the bytes as sent
            shutdown_timeout=settings.drain_timeout_s / 2,
        )
        self._server: asyncio.Server | None = None
        self._shortcuts: Shortcuts | None = None

    @classmethod
    async def make(cls, settings: Settings) -> Self:
        """Open the resources and start the workers; accept nobody yet."""
        self = cls(settings)
        try:
            await self._runner.setup()
        except BaseException:
            await self._runner.cleanup()
            raise
        return self

    @property
    def service(self) -> Service:
        """What its handlers share."""
        return self.app[SERVICE]

    @property
    def gave_up(self) -> asyncio.Event:
        """Set once a worker could not be kept alive."""
        return self.app[PIPELINE].supervisor.gave_up

    async def accept(self, listener: socket.socket) -> str:
        """Take connections from *listener*, which stays the caller's; return its name."""
        if self._runner.server is None:
            raise RuntimeError("made by `make`, or not at all")
        own = socket.socket(fileno=os.dup(listener.fileno()))
        self._shortcuts = Shortcuts(
            self.app[INGRESS], WEBHOOK_PATHS, self._runner.server
        )
        self._server = await asyncio.get_running_loop().create_server(
            self._shortcuts, sock=own, backlog=BACKLOG
        )
        host, port = own.getsockname()[:2]
        return f"http://{host}:{port}"

    async def give_way_to(self, other: "Running", listener: socket.socket) -> None:
        """Let *other* accept once what this one has taken is durable; then end."""
        await self._shut_the_door()
        # In the order in which they came: what waits in the kernel comes after this.
        await _until(lambda: not self.app[PIPELINE].inbox.stats().unsettled, LINGER_S)
        await other.accept(listener)
        await self._end()

    async def stop(self, listener: socket.socket) -> None:
        """Not ready, listener closed, requests answered. Contexts do the rest."""
        await self._shut_the_door()
        listener.close()
        await self._end()

    async def _shut_the_door(self) -> None:
        self.service.health.stopping_since = time.monotonic()
        # Whoever knocked before the door shuts is let in: what the kernel holds when a
        # listener is closed is reset, and some loop rounds empty it.
        for _ in range(ACCEPT_ROUNDS):
            await asyncio.sleep(0)
        if self._server:
            self._server.close()

    async def _end(self) -> None:
        await _until(lambda: not self._connections(), LINGER_S)
        # Half of the time for requests that wait for a commit: then they are told to come
        # again, rather than cut off, and what they brought is drained with the rest.
        grace_s = self.service.settings.drain_timeout_s / 2 - LINGER_S
        if self.gave_up.is_set():
            grace_s = 0  # nobody is left to commit it
        give_up = self.app[INGRESS].give_up_waiting
        asyncio.get_running_loop().call_later(max(grace_s, 0), give_up)
        if self._shortcuts:
            await self._shortcuts.close(self.service.settings.drain_timeout_s / 2)
        await self._runner.cleanup()

    def _connections(self) -> bool:
        server, shortcuts = self._runner.server, self._shortcuts
        return bool(server and server.connections) or bool(shortcuts and shortcuts.open)


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    until = time.monotonic() + within_s
    while (  # noqa: ASYNC110 -- aiohttp tells nobody when a connection closes
        not condition() and time.monotonic() < until
    ):
        await asyncio.sleep(0.01)


def commit() -> str:
    """Return the revision that runs: PSI_COMMIT, a release's note, the checkout's HEAD."""
    if known := os.environ.get("PSI_COMMIT"):
        return known
    git = Path(__file__).parents[2] / ".git"
    try:
        if (note := Path(sys.prefix, REVISION_NOTE)).exists():
            return note.read_text("ascii").strip()
        head = (git / "HEAD").read_text("ascii").strip()
        if head.startswith("ref: "):
            head = (git / head.removeprefix("ref: ")).read_text("ascii").strip()
    except OSError:
        return "unknown"
    return head[:12]
