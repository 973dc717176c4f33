"""`psi-router doctor`: one line for each thing that was looked at: ok, warn or fail.

Nothing is changed and nothing is sent. No line holds a secret or a URL.
"""

import argparse
import asyncio
import os
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from router.cli.databases import EMBEDDED, reachable
from router.cli.doctor_queue import queue
from router.config import Destination, Line, Settings
from router.conversation import menu as menus
from router.conversation.check import problems
from router.destinations.guard import Guard
from router.errors import ConfigError, Unavailable
from router.store import checkup, dialect
from router.store.checkup import Finding

FEWEST_FILES = 4096
LEAST_FREE_BYTES, FREE_BYTES = 200 * 2**20, 2 * 2**30
RESOLVE_S = 5.0
FOUND_A_FAULT, WRONG_SETTINGS = 1, 78


def configure(parser: argparse.ArgumentParser) -> None:
    """Take no options: it looks at what `serve` would run with."""
    parser.epilog = "Exit status: 1 a fail, 78 the settings are wrong."


def run(args: argparse.Namespace) -> int:
    """Look at everything there is; print a line for each."""
    del args
    from router.cli.serve import reread

    try:
        settings = reread()
        profile = dialect.load(settings.dialect)
    except ConfigError as exc:
        _print(Finding("fail", "settings", line) for line in str(exc).splitlines())
        return WRONG_SETTINGS
    return asyncio.run(_examine(settings, profile))


async def _examine(settings: Settings, profile: dialect.Dialect) -> int:
    found = [Finding("ok", "settings", "complete"), *_here(settings)]
    found += await queue(settings)
    guard = Guard.of(settings.allow_private)
    found += [await _destination(each, guard) for each in settings.destinations]
    _print(found)
    try:
        _refuse_to_make(settings.database_url)
        async with reachable(settings.database_url) as dsn:
            there = await checkup.look(dsn, profile, connections=settings.connections)
    except Unavailable as exc:
        _print([Finding("fail", "database", str(exc))])
        return FOUND_A_FAULT
    _print(there)
    faulty = any(one.level == "fail" for one in (*found, *there))
    return FOUND_A_FAULT if faulty else 0


def _here(settings: Settings) -> Iterator[Finding]:
    """Look at what needs nobody else."""
    yield from (found for line in settings.lines for found in _menu(line))
    if settings.graph_token:
        yield Finding("ok", "WhatsApp", "there is a token")
    else:
        yield Finding("warn", "WhatsApp", "no CLOUD_API_TOKEN: replies are not sent")
    yield _media(settings)
    yield files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if folder := _folder(settings.database_url):
        yield from _disk(folder)


def _media(settings: Settings) -> Finding:
    storage = settings.storage
    if storage is None:
        return Finding("warn", "media", "off: files of messages are not fetched")
    if storage.bucket:
        return Finding("ok", "media", "files go to a bucket")
    return media_folder(Path(storage.directory).absolute())


def media_folder(folder: Path) -> Finding:
    """Judge where files are kept: it, or what it would be made in, has to let us write."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        free = shutil.disk_usage(there).free // 2**20
        return Finding("ok", "media", f"files go to a directory, {free} MiB free")
    return Finding("fail", "media", "the directory of PSI_MEDIA cannot be written to")


def _menu(line: Line) -> Iterator[Finding]:
    what = f"menu of {line.name}"
    if line.menu is None:
        yield Finding("ok", what, "none, people answer there")
        return
    try:
        menu = (
            menus.packaged()
            if line.menu == Line.PACKAGED
            else menus.Menu.load(line.menu)
        )
        wrong = list(problems(menu))
    except menus.MenuError as exc:
        wrong = list(exc.problems)
    yield from (Finding("fail", what, words) for words in wrong)
    if not wrong:
        yield Finding("ok", what, "proved")


def files(limit: int) -> Finding:
    """Judge the *limit* of open files, RLIM_INFINITY among them."""
    if limit == resource.RLIM_INFINITY:
        return Finding("ok", "files", "no limit")
    if limit < FEWEST_FILES:
        return Finding("warn", "files", f"{limit} open at most, want {FEWEST_FILES}")
    return Finding("ok", "files", f"{limit} open at most")


def _folder(database_url: str) -> Path | None:
    if not database_url.startswith(EMBEDDED):
        return None
    return Path(database_url.removeprefix(EMBEDDED))


def _disk(folder: Path) -> Iterator[Finding]:
    try:
        yield disk(shutil.disk_usage(folder).free)
    except OSError as exc:
        yield Finding("fail", "disk", f"the data's folder: {exc.strerror}")


def disk(free: int) -> Finding:
    """Judge what is *free*, in bytes, where an embedded database has its data."""
    words = f"{free // 2**20} MiB free for the database"
    if free < LEAST_FREE_BYTES:
        return Finding("fail", "disk", words)
    return Finding("ok" if free >= FREE_BYTES else "warn", "disk", words)


def _refuse_to_make(database_url: str) -> None:
    # Starting the server would make the folder, and looking changes nothing.
    from router.store.embedded import EmbeddedPostgres

    folder = _folder(database_url)
    if folder and not (EmbeddedPostgres(folder).data / "PG_VERSION").exists():
        raise Unavailable("the embedded one is not made yet, run `psi-router migrate`")


async def _destination(destination: Destination, guard: Guard) -> Finding:
    what = f"destination {destination.name}"
    parts = urlsplit(destination.url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError):  # a time-out is an OSError
        return Finding("fail", what, "its name does not resolve")
    refused = [info for info in found if not _may_be_dialled(guard, host, info)]
    if len(refused) == len(found):
        return Finding("fail", what, "its address is not allowed (PSI_ALLOW_PRIVATE)")
    if refused:
        return Finding("warn", what, "one of its addresses is not allowed")
    return Finding("ok", what, f"{len(found)} addresses may be dialled")


def _may_be_dialled(guard: Guard, host: str, info: tuple[object, ...]) -> bool:
    dial = guard.dialler(trusted=guard.trusts(host))
    try:
        dial(info).close()  # type: ignore[arg-type]  # typeshed's wider address
    except OSError:
        return False
    return True


def _print(findings: Iterator[Finding] | list[Finding]) -> None:
    for one in findings:
        sys.stdout.write(f"{one.level:<4}  {one.what}: {one.detail}\n")
    sys.stdout.flush()
