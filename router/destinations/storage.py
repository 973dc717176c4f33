"""Where files are kept, and how one gets there: whole, or not at all.

A file comes in under no name (`Incoming`), is counted and hashed on its way, and gets its name
by `keep`, once whoever fetched it is satisfied. What is killed before that leaves nothing
that anybody would find.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from router.config import Storage
from router.errors import Transient

BLOCK_BYTES = 512 * 1024  # written at once: each write is a thread's errand
FILE_MODE, FOLDER_MODE = 0o640, 0o750
PARTS = ".incoming"
ABANDONED_S = 3600.0  # after which no attempt is under way any more

T = TypeVar("T")


class NotStored(Transient):
    """The storage did not take a file: a full disk, a missing right, a service away."""


class FileStore(Protocol):
    """Keeps files by name (`router.destinations.media_file.NAME`)."""

    def incoming(
        self, name: str, mime_type: str
    ) -> AbstractAsyncContextManager["Incoming"]:
        """Begin the file *name*. Raises NotStored."""

    async def locate(self, name: str) -> Path | str | None:
        """Return where *name* may be read: a path, or a URL for a short time; or None."""

    async def clean(self) -> None:
        """Remove what dead processes left behind, as far as that can be done."""


class Incoming:
    """A file on its way in. Only one task may use it."""

    def __init__(
        self, file: IO[bytes], publish: Callable[["Incoming"], Awaitable[None]]
    ) -> None:
        """Write to *file*, and let *publish* give it its name."""
        self.file, self.size = file, 0
        self._publish = publish
        self._hash = hashlib.sha256()
        self._block = bytearray()
        self._errand: asyncio.Future[Any] | None = None

    async def write(self, data: bytes) -> None:
        """Take some more bytes. Raises NotStored."""
        self.size += len(data)
        self._block += data
        if len(self._block) >= BLOCK_BYTES:
            await self._flush()

    async def sha256(self) -> str:
        """Return the digest, in hex, of all that was written. Raises NotStored."""
        await self._flush()
        return self._hash.hexdigest()

    async def keep(self) -> None:
        """Give the file its name, durably; what has that name already is replaced.

        Raises NotStored.
        """
        await self._flush()
        with failures():
            await self._publish(self)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do *work* in a thread, which outlives a caller that is cancelled: see `end`."""
        errand = asyncio.ensure_future(asyncio.to_thread(work))
        self._errand = errand
        return await asyncio.shield(errand)

    async def end(self) -> None:
        """Close the file, once no thread writes to it any more."""
        if self._errand is not None:
            await asyncio.wait([self._errand])
        self.file.close()

    async def _flush(self) -> None:
        block, self._block = self._block, bytearray()

        def work() -> None:
            self._hash.update(block)
            self.file.write(block)
            self.file.flush()

        with failures():
            await self.in_thread(work)


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Raise NotStored for what a disk says; by the name of the errno, never with a path."""
    try:
        yield
    except OSError as exc:
        name = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
        raise NotStored(f"storage: {name}") from exc


class Directory:
    """Keeps files in a directory of this machine, several processes at a time."""

    def __init__(self, root: Path) -> None:
        """Keep them in *root*, which is made with the first of them."""
        self._root, self._parts = root, root / PARTS

    @asynccontextmanager
    async def incoming(self, name: str, mime_type: str) -> AsyncIterator[Incoming]:
        """Begin the file *name*, in a part file of this attempt's own."""
        del mime_type  # its name ends in it
        part = self._parts / f"{secrets.token_hex(16)}.part"
        with failures():
            file = await asyncio.to_thread(self._begin, part)

        async def publish(incoming: Incoming) -> None:
            await incoming.in_thread(lambda: self._publish(file, part, name))

        incoming = Incoming(file, publish)
        try:
            yield incoming
        finally:
            await incoming.end()
            part.unlink(missing_ok=True)

    async def locate(self, name: str) -> Path | None:
        """Return the path of *name*, if it is there."""
        path = self._root / name
        return path if await asyncio.to_thread(path.is_file) else None

    async def clean(self) -> None:
        """Remove the parts of attempts that ended with their process."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._clean)

    def _begin(self, part: Path) -> IO[bytes]:
        _make(self._parts)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        return _opened(os.open(part, flags, FILE_MODE))

    def _publish(self, file: IO[bytes], part: Path, name: str) -> None:
        # In this order, so that whatever is found under the name is all of it.
        os.fsync(file.fileno())
        place = self._root / name
        _make(place.parent)
        part.replace(place)
        for folder in (place.parent, *place.parent.parents):
            _sync(folder)
            if folder == self._root:
                return

    def _clean(self) -> None:
        until = time.time() - ABANDONED_S
        for part in self._parts.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < until:
                    part.unlink()


def _opened(descriptor: int) -> IO[bytes]:
    try:
        os.fchmod(descriptor, FILE_MODE)  # whatever the process's umask
        return os.fdopen(descriptor, "wb")
    except BaseException:
        os.close(descriptor)
        raise


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(FOLDER_MODE)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def store_of(settings: Storage) -> FileStore:
    """Return where *settings* says that files are kept."""
    if not settings.bucket:
        return Directory(Path(settings.directory).absolute())
    from router.destinations.bucket import Bucket  # noqa: PLC0415 -- of an extra

    return Bucket(settings)
