"""The spool's file, as its one thread sees it.

Whatever goes wrong, it is closed and opened anew: what a failed sync left is not known, and is
never synced again as if it were. A file that is damaged is set aside, see `salvage`.
"""

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from router import telemetry
from router.errors import Transient
from router.queues import salvage
from router.queues.front import WINDOW
from router.queues.pages import Row, checksum
from router.queues.salvage import FILE, LAYOUT, SCHEMA
from router.queues.shelf import Kept, Notes, Room, Sheet

LOCK = "lock"
LOG_BYTES = 16 * 1024 * 1024  # of the write-ahead log, when it is at rest
LARGE_BYTES = 64 * 1024 * 1024  # of an empty file: what was full once is given back
SETTINGS = (
    *LAYOUT,
    # Nobody else may look: so no shared memory is needed, which not every disk can map.
    "pragma locking_mode = exclusive",
    "pragma journal_mode = wal",
    "pragma synchronous = full",
    "pragma secure_delete = fast",
    f"pragma journal_size_limit = {LOG_BYTES}",
)
# Whatever may have been lent when the last process ended has been tried once more.
TRIED = """
update item set tries = tries + 1
where id in (select id from item order by id limit ?)"""
FOLD = "pragma wal_checkpoint(truncate)"
MOST_REPAIRS = 5  # of one process: a disk that damages what it is given is no disk
CHECK = "pragma quick_check(1)"
ALL = "select count(*), coalesce(sum(size), 0), coalesce(max(id), 0) from item"
NEXT = "select * from item where id > ? order by id limit ?"
DELETE = "delete from item where id = ?"
UPDATE = "update item set tries = ? where id = ?"
INSERT = "insert into item values (?, ?, ?, ?, ?, ?, ?)"


class Damaged(Transient):
    """The spool's file is damaged: it is set aside, and what can be read goes on."""


class SpoolFile:
    """The file, as its one thread sees it."""

    def __init__(self, directory: Path) -> None:
        """Name it; `open` makes it."""
        self._directory = directory
        self._db: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._known = self._damaged = False
        self._repairs = 0
        self._next, self._last = 1, 0  # the id of the next item, and the last read up
        self.items = self.size_bytes = 0

    @property
    def more(self) -> bool:
        """Whether something lies here that was not read up."""
        return self._last < self._next - 1

    def open(self, held: Collection[Hashable]) -> None:
        """Open the file; where it is damaged, another one with what could be read."""
        with self._minding_damage():
            if not self._directory.exists():
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                salvage.sync(self._directory.parent)
            self._take_the_lock()
            salvage.finish(self._directory)
            suspect = self._damaged or salvage.is_suspect(self._directory)
            if suspect or not self._opens():
                self._repair(held)
                self._connect()
            self._damaged = False
            self._look_around()

    @contextmanager
    def _minding_damage(self) -> Iterator[None]:
        try:
            with faults():
                yield
        except Damaged:
            self._damaged = True
            raise

    def _opens(self) -> bool:
        try:
            with faults():
                self._connect()
                self._check()
        except Damaged:
            self._disconnect()
            return False
        return True

    def _check(self) -> None:
        if not self._known and self._one(CHECK) != ("ok",):
            raise Damaged("spool: damaged")

    def _connect(self) -> None:
        path = self._directory / FILE
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0)
        self._db.text_factory = _text
        for line in SETTINGS:
            self._db.execute(line).fetchall()
        self._db.execute(SCHEMA)
        path.chmod(0o600)

    def _repair(self, held: Collection[Hashable]) -> None:
        self._repairs += 1
        if self._repairs > MOST_REPAIRS:  # each leaves a copy
            raise Transient("spool: damaged again and again")
        found = salvage.repair(
            self._directory, {key for key in held if isinstance(key, int)}, self._last
        )
        telemetry.event(
            "spool_damaged",
            level=logging.ERROR,
            recovered=found.recovered,
            unreadable=found.unreadable,
            set_aside=found.name,
        )

    def _look_around(self) -> None:
        if self._known:  # what the log's last sync left is not known: begin another one
            self._execute(FOLD)
        else:
            self._open_db().execute(TRIED, (WINDOW,))
            self._known = True
        version = int(time.time()) % 2**31
        self._execute(f"pragma user_version = {version}")  # can it be written?
        self._next = max(self._next, self._count() + 1)
        if not self.items and (self._directory / FILE).stat().st_size > LARGE_BYTES:
            self.shrink()

    def _count(self) -> int:
        self.items, self.size_bytes, highest = self._one(ALL)
        return int(highest)

    def write(self, new: Sequence[Sheet], notes: Notes, room: Room) -> list[Kept]:
        """Commit *new* and *notes*, and return what comes next, as *room* allows."""
        with self._minding_damage():
            if new or notes.done or notes.tried:
                self._commit(new, notes)
            return self._read(room)

    def _commit(self, new: Sequence[Sheet], notes: Notes) -> None:
        db, now_ms = self._open_db(), time.time_ns() // 1_000_000
        rows = [_row(self._next + n, sheet, now_ms) for n, sheet in enumerate(new)]
        db.execute("begin immediate")
        done = db.executemany(DELETE, [(kept.key,) for kept in notes.done]).rowcount
        db.executemany(UPDATE, [(times, kept.key) for kept, times in notes.tried])
        db.executemany(INSERT, rows)
        db.execute("commit")
        self._next += len(rows)
        if done < len(notes.done):  # some of them were forgotten before
            self._count()
            return
        self.items += len(rows) - len(notes.done)
        self.size_bytes += sum(row.size for row in rows)
        self.size_bytes -= sum(kept.size for kept in notes.done)

    def _read(self, room: Room) -> list[Kept]:
        rows, left = [], room.size_bytes
        if not self.more or room.items < 1:
            return []
        for values in self._open_db().execute(NEXT, (self._last, room.items)):
            row = Row(*values)
            if left <= 0:
                break
            if not _is_sound(row):
                raise Damaged("spool: an item is not what was written")
            left -= row.size
            rows.append(row)
        full = left <= 0 or len(rows) == room.items
        self._last = rows[-1].id if full and rows else self._next - 1
        return [_kept(row) for row in rows]

    def shrink(self) -> None:
        """Give the disk back what the file does not need."""
        with faults():
            self._execute("pragma incremental_vacuum")
            self._execute(FOLD)

    def close(self) -> None:
        """Close the file, which folds its log into it, and unlock the directory."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            try:
                db.close()
            except sqlite3.Error as exc:
                telemetry.event("spool_not_closed", reason=type(exc).__name__)

    def _take_the_lock(self) -> None:
        if self._lock is not None:
            return
        path = self._directory / LOCK
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Transient("spool: in use by another process") from None
        self._lock = lock

    def _open_db(self) -> sqlite3.Connection:
        if self._db is None:
            raise Transient("spool: not open")
        return self._db

    def _execute(self, statement: str) -> None:
        self._open_db().execute(statement).fetchall()

    def _one(self, statement: str) -> Any:
        return self._open_db().execute(statement).fetchone()


@contextmanager
def faults() -> Iterator[None]:
    """Tell what heals by itself from a file that is damaged."""
    try:
        yield
    except sqlite3.Error as exc:
        name = getattr(exc, "sqlite_errorname", type(exc).__name__)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise Damaged(f"spool: {name}") from exc
        raise Transient(f"spool: {name}") from exc
    except OSError as exc:
        raise Transient(f"spool: {exc.strerror or type(exc).__name__}") from exc


def _row(number: int, sheet: Sheet, now_ms: int) -> Row:
    row = Row(number, 0, sheet.lane, sheet.size, 0, now_ms, sheet.packed)
    return row._replace(crc=checksum(row))


def _is_sound(row: Row) -> bool:
    try:
        return row.crc == checksum(row)
    except TypeError:  # a column of another type than was written
        return False


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")  # of a damaged file: its checksum tells


def _kept(row: Row) -> Kept:
    return Kept(row.id, row.lane, row.size, row.packed, row.tries, row.put_ms / 1000)
