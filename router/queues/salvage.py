"""A damaged spool: every item that can be read is put into a new file, the old one is kept.

SQLite gives up a log at its first wrong byte, and a tree below its first wrong page; `pages`
reads on. What was done already and is found again comes twice, which changes nothing
downstream.

    inbox.sqlite    the file, with -wal beside it while it is open
    inbox.building  what was read of a damaged file, not complete
    inbox.rebuilt   the same, complete: it takes the file's place
    damaged-TIME    what was set aside, -wal beside it
"""

import os
import sqlite3
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from router.queues.pages import PAGE, Pages, is_sound

FILE = "inbox.sqlite"
LOG = f"{FILE}-wal"
BUILDING, REBUILT = "inbox.building", "inbox.rebuilt"
SET_ASIDE = "damaged-"
USES_A_LOG = b"\2\2"  # bytes 18 and 19 of the file
LAYOUT = (f"pragma page_size = {PAGE}", "pragma auto_vacuum = incremental")
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
    pages = Pages(directory / FILE, _bytes(directory / LOG))
    building = directory / BUILDING
    building.unlink(missing_ok=True)
    with closing(sqlite3.connect(building, isolation_level=None)) as db:
        recovered, unreadable = _build(db, pages, held, last)
    building.rename(directory / REBUILT)
    sync(directory)
    return Found(recovered, unreadable, finish(directory))


def _build(
    db: sqlite3.Connection, pages: Pages, held: Collection[int], last: int
) -> tuple[int, int]:
    for line in (*LAYOUT, "pragma synchronous = extra", SCHEMA):
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
    for source, target in ((LOG, f"{name}-wal"), (FILE, name)):
        if (directory / source).exists():
            (directory / source).rename(directory / target)
    (directory / REBUILT).rename(directory / FILE)
    sync(directory)
    return name


def is_suspect(directory: Path) -> bool:
    """Return whether SQLite would forget what is in the log: without a word, it does."""
    log, file = directory / LOG, directory / FILE
    if not _size(log):
        return False
    if _size(file) < PAGE:
        return True
    with file.open("rb") as opened:
        versions = opened.read(20)[18:]
    return versions != USES_A_LOG or not is_sound(_bytes(log))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def sync(directory: Path) -> None:
    """Wait until the names in *directory* are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
