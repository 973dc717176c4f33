"""`psi-router serve`: start, wait for a reason to stop, stop."""

import argparse
import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from router import __version__, telemetry
from router.app import INGRESS, PIPELINE, SERVICE, make_app
from router.cli.databases import reachable
from router.cli.environment import environment, take_listen_fds
from router.config import Settings
from router.errors import ConfigError, Unavailable
from router.store.migrate import behind, migrate

LINGER_S = 1.0  # for the request of a connection that was accepted before the stop
FIRST_PASSED_FD = 3  # SD_LISTEN_FDS_START
# What a connection may hold before its body has room: five hundred of them come at once.
# uvloop reads as much as the kernel has, so the kernel's share is bounded too.
READ_BUFFER = 16 * 1024
RECEIVE_BYTES = 16 * 1024
BACKLOG = 1024
ACCEPT_ROUNDS = 5
M_MMAP_THRESHOLD = -3  # malloc.h
MAPPED_BYTES = 256 * 1024
GAVE_UP = 1

Started = Callable[[web.Application], Awaitable[None]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Take no options: settings come from the environment."""
    parser.epilog = "Settings: the environment and .env; see docs/configuration.md."


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 when a worker could not be kept alive."""
    del args
    settings = Settings.load(environment())
    telemetry.configure(settings.log_level)
    give_large_blocks_back()
    return run_loop(settings.loop, serve(settings))


def give_large_blocks_back() -> None:
    """Keep what a large body took from staying with the process.

    glibc raises the size from which it maps blocks by themselves, up to 32 MB, each time one
    is freed (mallopt(3), M_MMAP_THRESHOLD); from then on a 3 MB body tears holes into the
    heap that are never given back. Setting the size keeps it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)


def run_loop(name: str, main: Awaitable[int]) -> int:
    """Run *main* on the event loop called *name*: uvloop or asyncio."""
    factory = None
    if name == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_awaited(main))


async def _awaited(main: Awaitable[int]) -> int:
    return await main


async def serve(settings: Settings, started: Started | None = None) -> int:
    """Run the service; call *started* once it listens. Return the exit status."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with reachable(settings.database_url) as dsn:
        settings = replace(settings, database_url=dsn)
        await look_at_the_schema(settings)
        return await _serve(settings, stop, started)


async def look_at_the_schema(settings: Settings) -> None:
    """Migrate or complain, if the database answers; if it is away, start without."""
    try:
        if settings.migrate:
            for name in await migrate(settings.database_url):
                telemetry.event("migrated", name=name)
        elif missing := await behind(settings.database_url):
            raise ConfigError(
                f"the database is behind by {len(missing)} migrations: "
                "run `psi-router migrate`"
            )
    except Unavailable as exc:
        telemetry.event("started_without_database", reason=str(exc))


async def _serve(
    settings: Settings, stop: asyncio.Event, started: Started | None
) -> int:
    app = make_app(settings, commit=commit())
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=75.0,
        read_bufsize=READ_BUFFER,
        auto_decompress=False,  # the signature is over the bytes as sent
        shutdown_timeout=settings.drain_timeout_s / 2,
    )
    try:
        await runner.setup()
        site = await _listen(runner, settings)
        telemetry.event("listening", version=__version__, address=site.name)
        gave_up = app[PIPELINE].supervisor.gave_up
        if started is not None:
            await app[PIPELINE].supervisor.start("started", lambda: started(app))
        gc.freeze()  # what is here now stays: no collection need look at it again
        await first_of(stop, gave_up)
        await _stop(app, runner, site)
    finally:
        await runner.cleanup()
    if gave_up.is_set():
        telemetry.event(
            "exiting", level=logging.CRITICAL, reason="a worker could not be kept alive"
        )
        return GAVE_UP
    return 0


async def _listen(runner: web.AppRunner, settings: Settings) -> web.BaseSite:
    try:
        passed = take_listen_fds()
        listener = (
            socket.socket(fileno=FIRST_PASSED_FD)
            if passed
            else socket.create_server((settings.host, settings.port), backlog=BACKLOG)
        )
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        site = web.SockSite(runner, listener, backlog=BACKLOG)
        await site.start()
    except OSError as exc:
        raise Unavailable(f"cannot listen: {exc.strerror or exc}") from exc
    return site


async def _stop(
    app: web.Application, runner: web.AppRunner, site: web.BaseSite
) -> None:
    """Not ready, listener closed, requests answered. Contexts do the rest."""
    app[SERVICE].health.stopping_since = time.monotonic()
    telemetry.event("stopping")
    # Whoever knocked before the door shuts is let in: what the kernel holds when a listener
    # is closed is reset, and some loop rounds empty it.
    for _ in range(ACCEPT_ROUNDS):
        await asyncio.sleep(0)
    await site.stop()
    until = time.monotonic() + LINGER_S
    while (  # noqa: ASYNC110 -- aiohttp tells nobody when a connection closes
        runner.server and runner.server.connections and time.monotonic() < until
    ):
        await asyncio.sleep(0.01)
    # Half of the time for requests that wait for a commit: then they are told to come
    # again, rather than cut off, and what they brought is drained with the rest.
    grace_s = app[SERVICE].settings.drain_timeout_s / 2 - LINGER_S
    if app[PIPELINE].supervisor.gave_up.is_set():
        grace_s = 0  # nobody is left to commit it
    asyncio.get_running_loop().call_later(max(grace_s, 0), app[INGRESS].give_up_waiting)


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of *events* is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def commit() -> str:
    """Return the revision that runs: PSI_COMMIT, or the checkout's HEAD."""
    if known := os.environ.get("PSI_COMMIT"):
        return known
    git = Path(__file__).parents[2] / ".git"
    try:
        head = (git / "HEAD").read_text("ascii").strip()
        if head.startswith("ref: "):
            head = (git / head.removeprefix("ref: ")).read_text("ascii").strip()
    except OSError:
        return "unknown"
    return head[:12]
