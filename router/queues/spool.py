"""The shelf on this machine's disk: a SQLite file in a directory of its own.

SQLite's log is synced before a put returns (WAL, synchronous=FULL), by one thread, so that a
disk that hangs holds up no event loop. One process at a time has the directory; another one
waits until that has ended.
"""

import asyncio
import shutil
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from router.queues.shelf import Kept, Notes, Room, Sheet
from router.queues.spool_file import SpoolFile, faults

TICK_S = 1.0
RESERVE_BYTES = 64 * 1024 * 1024  # of the disk: to forget something takes room too

R = TypeVar("R")


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
            with faults():
                return result, shutil.disk_usage(self._directory).free

        loop = asyncio.get_running_loop()
        result, free = await loop.run_in_executor(self._thread, in_turn)
        low = free < self._reserve_bytes
        self.refuses = "spool: the disk is full" if low else None
        self.items, self.size_bytes = self._file.items, self._file.size_bytes
        self.more = self._file.more
        return result
