"""The shelf on this machine's disk: a SQLite file in a directory of its own.

SQLite's log is synced before a put returns (WAL, synchronous=FULL), by one thread, so that a
disk that hangs holds up no event loop. One process at a time has the directory; another one
waits until that has ended. Whatever goes wrong, the file is closed and opened anew: what a
failed sync left is not known, and is never synced again as if it were. A file that is damaged
is set aside, see `salvage`.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from router import telemetry
from router.errors import Transient
from router.queues import salvage
from router.queues.durable import WINDOW, Kept, Notes, Room, Sheet
from router.queues.pages import Row, checksum
from router.queues.salvage import FILE, LAYOUT, SCHEMA

LOCK = "lock"
TICK_S = 1.0
LOG_BYTES = 16 * 1024 * 1024  # of the write-ahead log, when it is at rest
RESERVE_BYTES = 64 * 1024 * 1024  # of the disk: to forget something takes room too
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
CHECK = "pragma quick_check(1)"
ALL = "select count(*), coalesce(sum(size), 0), coalesce(max(id), 0) from item"
NEXT = "select * from item where id > ? order by id limit ?"
DELETE = "delete from item where id = ?"
UPDATE = "update item set tries = ? where id = ?"
INSERT = "insert into item values (?, ?, ?, ?, ?, ?, ?)"

R = TypeVar("R")


class Damaged(Transient):
    """The spool's file is damaged: it is set aside, and what can be read goes on."""


class Spool:
    """The file for an event loop: every call waits its turn in one thread."""

    def __init__(self, directory: Path, reserve_bytes: int = RESERVE_BYTES) -> None:
        """Use *directory*, which is made when the shelf is opened.

        Nothing is taken while its disk has less than *reserve_bytes* left.
        """
        self._file = SpoolFile(directory)
        self._directory, self._reserve_bytes = directory, reserve_bytes
        self.refuses: str | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self.items = self.size_bytes = 0
        self.more = False

    @property
    def tick_s(self) -> float | None:
        """How often to look whether there is room again."""
        return TICK_S if self.refuses else None

    async def open(self, held: Collection[Hashable]) -> Sequence[Kept]:
        """Lock the directory and look the file over."""
        await self._call(lambda: self._file.open(held))
        return ()

    async def write(
        self, new: Sequence[Sheet], notes: Notes, room: Room
    ) -> Sequence[Kept]:
        """Write all of it in one transaction, then read on."""
        found = await self._call(lambda: self._file.write(new, notes, room))
        if self.refuses and notes.done:
            await self._call(self._file.shrink)
        return found

    async def leave(self) -> None:
        """Do nothing: whoever opens the file next finds what is left."""

    async def close(self) -> None:
        """Close the file and unlock the directory."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._file.close)

    async def _call(self, function: Callable[[], R]) -> R:
        def in_turn() -> tuple[R, int]:
            result = function()
            with _faults():
                return result, shutil.disk_usage(self._directory).free

        loop = asyncio.get_running_loop()
        result, free = await loop.run_in_executor(self._thread, in_turn)
        low = free < self._reserve_bytes
        self.refuses = "spool: the disk is full" if low else None
        self.items, self.size_bytes = self._file.items, self._file.size_bytes
        self.more = self._file.more
        return result


class SpoolFile:
    """The file, as its one thread sees it."""

    def __init__(self, directory: Path) -> None:
        """Name it; `open` makes it."""
        self._directory = directory
        self._db: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._known = self._damaged = False
        self._next, self._last = 1, 0  # the id of the next item, and the last read up
        self.items = self.size_bytes = 0

    @property
    def more(self) -> bool:
        """Whether something lies here that was not read up."""
        return self._last < self._next - 1

    def open(self, held: Collection[Hashable]) -> None:
        """Open the file; where it is damaged, another one with what could be read."""
        with _faults():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_the_lock()
            salvage.finish(self._directory)
            suspect = self._damaged or salvage.is_suspect(self._directory)
            if suspect or not self._opens():
                self._repair(held)
                self._connect()
            self._damaged = False
            self._look_around()

    def _opens(self) -> bool:
        try:
            with _faults():
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
        for line in SETTINGS:
            self._db.execute(line).fetchall()
        self._db.execute(SCHEMA)
        path.chmod(0o600)

    def _repair(self, held: Collection[Hashable]) -> None:
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
        if not self._known:
            self._open_db().execute(TRIED, (WINDOW,))
            self._known = True
        self._execute(f"pragma user_version = {int(time.time())}")  # can it be written?
        self._next = max(self._next, self._count() + 1)
        if not self.items and (self._directory / FILE).stat().st_size > LARGE_BYTES:
            self.shrink()

    def _count(self) -> int:
        self.items, self.size_bytes, highest = self._one(ALL)
        return int(highest)

    def write(self, new: Sequence[Sheet], notes: Notes, room: Room) -> list[Kept]:
        """Commit *new* and *notes*, and return what comes next, as *room* allows."""
        try:
            with _faults():
                if new or notes.done or notes.tried:
                    self._commit(new, notes)
                return self._read(room)
        except Damaged:
            self._damaged = True
            raise

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
            if row.crc != checksum(row):
                raise Damaged("spool: an item is not what was written")
            left -= row.size
            rows.append(row)
        full = left <= 0 or len(rows) == room.items
        self._last = rows[-1].id if full and rows else self._next - 1
        return [_kept(row) for row in rows]

    def shrink(self) -> None:
        """Give the disk back what the file does not need."""
        with _faults():
            self._execute("pragma incremental_vacuum")
            self._execute("pragma wal_checkpoint(truncate)")

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
def _faults() -> Iterator[None]:
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


def _kept(row: Row) -> Kept:
    return Kept(row.id, row.lane, row.size, row.packed, row.tries, row.put_ms / 1000)
