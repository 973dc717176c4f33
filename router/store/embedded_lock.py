"""The right to use a directory, held by a process and by what it started."""

import fcntl
import os
import time
from pathlib import Path

from router.errors import Unavailable

ORPHAN_TIMEOUT_S = (
    35.0  # a server whose owner was killed needs so long to stop, at most
)
POLL_S = 0.02


class DirectoryLock:
    """A flock that child processes inherit, so that it is held until the last of them ends.

    The file holds the pid of the owner as long as it wants the lock. A lock that is held
    with no living owner is a server on its way out: worth waiting for.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it is made by `take`."""
        self._path = path
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """What a child must inherit to hold the lock too; only while it is taken."""
        assert self._fd is not None  # noqa: S101 -- whoever starts a child took it
        return self._fd

    def take(self) -> None:
        """Lock, or raise `Unavailable` where a living process uses the directory."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + ORPHAN_TIMEOUT_S
        while not _locked(fd):
            owner = _owner(fd)
            if (owner and _alive(owner)) or time.monotonic() > deadline:
                os.close(fd)
                who = f"process {owner}" if owner else "a server that does not end"
                raise Unavailable(f"{self._path.parent} is in use by {who}")
            time.sleep(POLL_S)
        _write(fd, str(os.getpid()))
        self._fd = fd

    def held(self) -> bool:
        """Whether somebody has it. Looking makes no file, and two may look at once."""
        try:
            fd = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _locked(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def release(self) -> None:
        """Let go; children that still live hold it until they end."""
        if self._fd is not None:
            _write(self._fd, "")
            os.close(self._fd)
            self._fd = None


def _locked(fd: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(fd: int) -> int | None:
    text = os.pread(fd, 20, 0).decode(errors="replace")
    return int(text) if text.isdigit() else None


def _write(fd: int, text: str) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode(), 0)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
