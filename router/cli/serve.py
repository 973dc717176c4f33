"""`psi-router serve`: start, wait for a reason to stop, stop."""

import argparse
import asyncio
import ctypes
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web

from router import __version__, telemetry
from router.app import PIPELINE
from router.cli.beat import Beat
from router.cli.databases import EMBEDDED, reachable
from router.cli.environment import environment, settings_here
from router.cli.running import Running, listen
from router.config import Settings
from router.errors import ConfigError, RouterError, Transient, Unavailable
from router.store import dialect, dialect_fit, shadow
from router.store.checkup import misfits
from router.store.migrate import behind, migrate
from router.systemd import JournalLines, Notifier, is_journal, watchdog_s

M_MMAP_THRESHOLD = -3  # malloc.h
MAPPED_BYTES = 256 * 1024
# A batch in flight makes thousands of objects and hardly a cycle: the usual 700 would have
# them looked through ten times before they go.
GC_THRESHOLD = (10_000, 20, 20)
GAVE_UP = 1
SETTINGS_NAME = "env"  # of the credential, and of its copy: systemd/psi-router.service
WATCHDOG = ("WATCHDOG_USEC", "WATCHDOG_PID")  # sd_watchdog_enabled(3)
# What a process has once: a reload keeps it.
ONCE = ("host", "port", "reuse_port", "loop", "shadow")

Started = Callable[[web.Application], Awaitable[None]]
Reread = Callable[[], Settings]


def configure(parser: argparse.ArgumentParser) -> None:
    """Take no options: settings come from the environment."""
    parser.epilog = (
        "Settings: the environment and .env; see docs/configuration.md. SIGHUP reads "
        "them again."
    )


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 when a worker could not be kept alive."""
    del args
    faulthandler.enable()  # the watchdog ends a blocked process by SIGABRT: where was it?
    forget_what_a_reload_brought(os.environ)
    settings = reread()
    configure_log(settings.log_level)
    give_large_blocks_back()
    return run_loop(settings.loop, serve(settings, again=reread))


def reread() -> Settings:
    """Read the settings from the environment and the file that is in use now."""
    return Settings.load(environment(settings_file(os.environ)))


def settings_file(env: Mapping[str, str]) -> Path:
    """Return where the settings lie: what a reload brought, a credential, or as for a command.

    systemd hands a credential over at the start and no newer one later, so ExecReload
    copies the file to the runtime directory.
    """
    if directory := env.get("RUNTIME_DIRECTORY"):
        brought = Path(directory, SETTINGS_NAME)
        if brought.exists():
            return brought
    if directory := env.get("CREDENTIALS_DIRECTORY"):
        return Path(directory, SETTINGS_NAME)
    return settings_here()


def forget_what_a_reload_brought(env: Mapping[str, str]) -> None:
    """Begin with the credential, which is as new as the start; the directory stays."""
    if directory := env.get("RUNTIME_DIRECTORY"):
        Path(directory, SETTINGS_NAME).unlink(missing_ok=True)


def configure_log(level: str) -> None:
    """Log as always, with priorities before the lines where journald reads them."""
    telemetry.configure(level)
    if is_journal(os.environ.get("JOURNAL_STREAM", ""), sys.stdout.fileno()):
        for handler in logging.getLogger().handlers:
            inner = handler.formatter or logging.Formatter()
            handler.setFormatter(JournalLines(inner))


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


@dataclass(slots=True)
class Signals:
    """What the process was asked for."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self, *, reload: bool) -> None:
        """Take SIGTERM and SIGINT, and SIGHUP for a *reload*."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        if reload:
            loop.add_signal_handler(signal.SIGHUP, self.reload.set)


async def serve(
    settings: Settings,
    started: Started | None = None,
    *,
    again: Reread | None = None,
) -> int:
    """Run the service; call *started* once it listens. Return the exit status.

    On SIGHUP *again* reads the settings that it goes on with. Without it, and where a
    terminal went away, SIGHUP ends the process, as it always did.
    """
    signals = Signals()
    signals.listen(reload=again is not None and not os.isatty(0))
    notifier = Notifier(os.environ.pop("NOTIFY_SOCKET", None))
    beat = Beat(notifier, watchdog_s(*map(os.environ.get, WATCHDOG)))
    notifier.say("STATUS=looking at the database")
    async with reachable(settings.database_url, alone=True) as dsn:
        source = Source(settings, dsn, again)
        source.first = await look_at_the_schema(source.first)
        with listen(settings) as listener:
            return await _Host(source, listener, signals, beat).run(started)


async def look_at_the_schema(settings: Settings) -> Settings:
    """Migrate or complain, if the database answers; if it is away, start without.

    Returns the settings with a dialect that the database takes.
    """
    try:
        await shadow.check(settings.database_url, shadow=settings.shadow)
        if settings.migrate:
            for name in await migrate(settings.database_url):
                telemetry.event("migrated", name=name)
        elif missing := await behind(settings.database_url):
            raise ConfigError(
                f"the database is behind by {len(missing)} migrations: "
                "run `psi-router migrate`"
            )
        for problem in await misfits(settings.database_url):
            telemetry.event("database_unfit", level=logging.ERROR, problem=problem)
        words = dialect.load(settings.dialect)
        fit = await dialect_fit.look(settings.database_url, words)
        for swap in fit.swapped:
            telemetry.event("dialect_adapted", level=logging.WARNING, swap=swap)
        for problem in fit.wrong:
            telemetry.event("dialect_refused", level=logging.WARNING, problem=problem)
    except (Unavailable, Transient) as exc:
        if settings.shadow:
            raise  # it may not be a shadow's, and nobody will look again
        telemetry.event("started_without_database", reason=str(exc))
        return settings
    return replace(settings, dialect=fit.dialect.name)


class Source:
    """Where settings come from, and which of them a running process keeps."""

    def __init__(self, read: Settings, dsn: str, again: Reread | None) -> None:
        """Begin with what was *read*; *dsn* reaches its database."""
        self._read, self._dsn, self._again = read, dsn, again
        self.first = replace(read, database_url=dsn)

    def reread(self) -> tuple[Settings, list[str]]:
        """Return the settings as they are written now, and which of them have to wait.

        Raises `ConfigError` for settings that describe no router.
        """
        old, new = self._read, self._again() if self._again else self._read
        waiting = [name for name in ONCE if getattr(new, name) != getattr(old, name)]
        dsn = new.database_url
        ours = (dsn + old.database_url).count(EMBEDDED)  # starts and ends with us
        if dsn != old.database_url and (ours or old.shadow or new.shadow):
            waiting.append("database_url")
        if dsn == old.database_url or "database_url" in waiting:
            dsn = self._dsn
        kept = {name: getattr(old, name) for name in ONCE}
        if new.dialect == old.dialect:
            kept["dialect"] = self.first.dialect  # as the database takes it
        return replace(new, **{**kept, "database_url": dsn}), waiting


class _Host:
    """One process: a router, and after a reload another one, on the same listener."""

    def __init__(
        self, source: Source, listener: socket.socket, signals: Signals, beat: Beat
    ) -> None:
        self._source, self._listener = source, listener
        self._signals, self._beat = signals, beat

    async def run(self, started: Started | None) -> int:
        running = await Running.make(self._source.first)
        try:
            address = await running.accept(self._listener)
            telemetry.event("listening", version=__version__, address=address)
            if started is not None:
                app, supervisor = running.app, running.app[PIPELINE].supervisor
                await supervisor.start("started", lambda: started(app))
            gc.set_threshold(*GC_THRESHOLD)
            gc.freeze()  # what is here now stays: no collection need look at it again
            self._beat.start(running.app)
            while await self._asked_to_reload(running):
                running = await self._reloaded(running)
        finally:
            telemetry.event("stopping")
            self._beat.stopping()
            await running.stop(self._listener)
            self._beat.stop()
        if running.gave_up.is_set():
            telemetry.event(
                "exiting",
                level=logging.CRITICAL,
                reason="a worker could not be kept alive",
            )
            return GAVE_UP
        return 0

    async def _asked_to_reload(self, running: Running) -> bool:
        stop, reload = self._signals.stop, self._signals.reload
        await first_of(stop, reload, running.gave_up)
        reload.clear()
        return not stop.is_set() and not running.gave_up.is_set()

    async def _reloaded(self, running: Running) -> Running:
        """Return the router that runs after a reload: where it fails, the old one."""
        self._beat.reloading()
        try:
            settings, waiting = self._source.reread()
            other = await Running.make(settings)
        except (RouterError, TypeError, ValueError) as exc:
            telemetry.event(
                "reload_refused", level=logging.ERROR, problems=without_values(exc)
            )
            self._beat.start(running.app)
            return running
        other.service.started = running.service.started
        logging.getLogger().setLevel(settings.log_level.upper())
        await running.give_way_to(other, self._listener)
        telemetry.event("reloaded", needs_restart=waiting)
        self._beat.start(other.app)
        gc.unfreeze()  # the old router is garbage
        gc.collect()
        gc.freeze()
        return other


def without_values(exc: Exception) -> list[str]:
    """Return what is wrong with settings by their names alone: a value may be a secret."""
    if not isinstance(exc, RouterError):
        return [type(exc).__name__]
    return [line.split(" ", maxsplit=1)[0].rstrip(":") for line in str(exc).split("\n")]


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of *events* is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
