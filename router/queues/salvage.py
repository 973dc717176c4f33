"""A damaged spool: every item that can be read is put into a new file, the old one is kept.

SQLite gives up a log at its first wrong byte, and a tree below its first wrong page; `pages`
reads on. What was done already and is found again comes twice, which changes nothing
downstream.

    inbox.sqlite          the file, with -wal beside it while it is open
    inbox.sqlite-wal-was  its log as the last process left it, while the file is looked over
    inbox.building        what was read of a damaged file, not complete
    inbox.rebuilt         the same, complete: it takes the file's place
    damaged-TIME          what was set aside, -wal beside it
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from router.queues.pages import PAGE, Pages, frames

FILE = "inbox.sqlite"
LOG = f"{FILE}-wal"
LOG_COPY = f"{FILE}-wal-was"
BUILDING, REBUILT = "inbox.building", "inbox.rebuilt"
SET_ASIDE = "damaged-"
COLUMNS = """
    tries integer not null,
    lane text not null,
    size integer not null,
    crc integer not null,
    put_ms integer not null,
    packed blob not null"""
SCHEMA = f"create table if not exists item (id integer primary key, {COLUMNS})"
FOUND = f"create temp table found (id integer, {COLUMNS}, primary key (id, crc))"
FIND = "insert or ignore into found values (?, ?, ?, ?, ?, ?, ?)"
WANTED = "create temp table wanted (id integer primary key)"
WANT = "insert into wanted values (?)"
# One item of each id that is held keeps it; the others get new ones after the last.
STAY = """
create temp table stay as
select id, min(crc) as crc from found join wanted using (id) group by id"""
KEEP = "insert into item select found.* from found join stay using (id, crc)"
NUMBER = """
insert into item
select ? + row_number() over (order by id, crc), tries, lane, size, crc, put_ms, packed
from found where (id, crc) not in (select id, crc from stay)"""


class Found(NamedTuple):
    """What a repair came to."""

    recovered: int
    unreadable: int  # items whose bytes are not what was written
    name: str  # of what was set aside


def repair(directory: Path, held: Collection[int], last: int) -> Found:
    """Put what can be read into a new file, and set the old one aside.

    Items that are *held* keep their ids; all others get new ones after *last*, in order.
    """
    log = _bytes(directory / LOG_COPY) or _bytes(directory / LOG)
    pages = Pages(directory / FILE, log)
    building = directory / BUILDING
    building.unlink(missing_ok=True)
    with closing(sqlite3.connect(building, isolation_level=None)) as db:
        recovered, unreadable = _build(db, pages, held, last)
    building.rename(directory / REBUILT)
    _sync(directory)
    return Found(recovered, unreadable, finish(directory))


def _build(
    db: sqlite3.Connection, pages: Pages, held: Collection[int], last: int
) -> tuple[int, int]:
    for line in (f"pragma page_size = {PAGE}", "pragma synchronous = extra", SCHEMA):
        db.execute(line)
    db.execute("begin")
    db.execute(FOUND)
    unreadable = 0
    for row in pages.rows():
        if row is None:
            unreadable += 1
        else:
            db.execute(FIND, row)
    db.execute(WANTED)
    db.executemany(WANT, [(key,) for key in held])
    db.execute(STAY)
    db.execute(KEEP)
    db.execute(NUMBER, (last,))
    db.execute("commit")
    ((recovered,),) = db.execute("select count(*) from item")
    return recovered, unreadable


def finish(directory: Path) -> str:
    """Let a file that was rebuilt take its place; return the name of what made way."""
    if not (directory / REBUILT).exists():
        return ""
    name = f"{SET_ASIDE}{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6:06}"
    log = f"{name}-wal"
    for source, target in ((LOG, log), (LOG_COPY, log), (FILE, name)):
        if (directory / source).exists():
            (directory / source).rename(directory / target)
    (directory / REBUILT).rename(directory / FILE)
    _sync(directory)
    return name


def copy_log(directory: Path) -> None:
    """Keep the log as it is, until the file has been looked over: SQLite may drop it."""
    if _size(directory / LOG):
        shutil.copyfile(directory / LOG, directory / LOG_COPY)


def forget_log_copy(directory: Path) -> None:
    """Forget it: the file is sound, with all that its log held."""
    (directory / LOG_COPY).unlink(missing_ok=True)


def is_orphaned(directory: Path) -> bool:
    """Return whether there is a log whose file is empty or gone, or a copy of one alone."""
    if not _size(directory / LOG):
        return (directory / LOG_COPY).exists()
    return not _size(directory / FILE)


def last_commit(directory: Path) -> int:
    """Return how many frames the copied log has up to its last commit; 0 without one."""
    log = _bytes(directory / LOG_COPY)
    return max(
        (n for n, frame in enumerate(frames(log), 1) if frame.commits), default=0
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
