"""A PostgreSQL of one's own: for `dev`, for ``embedded:DIR`` and for the tests.

The server lives as long as the pipe on its keeper's standard input. `stop` closes that
pipe, and the kernel closes it when this process dies, however it dies: a clean stop and a
``kill -9`` of the router end the server by the same road, a fast shutdown. (A choice not
taken: PR_SET_PDEATHSIG. It fires when the *thread* that forked ends, is lost on a change
of user, and is Linux only.)

Every process of the server inherits the lock on the directory, so the lock tells the
truth about who uses the data, also when the process that took it is long dead.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

from router.errors import Unavailable
from router.store.embedded_binaries import binaries, fitting
from router.store.embedded_lock import DirectoryLock
from router.store.embedded_user import Disguise, disguise

__all__ = ["EmbeddedPostgres", "binaries"]

START_TIMEOUT_S = 60.0  # recovery after a crash replays up to max_wal_size
STOP_TIMEOUT_S = 30.0  # a fast shutdown ends with a checkpoint
POLL_S = 0.02
LOG_LINES = 8  # of the server's last words in an error message

HOST = "127.0.0.1"
SOCKET_PORT = 5432  # without TCP the port is only a part of the socket's name
SUPERUSER = "postgres"
LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"
SHORT_TEMP = "/tmp"  # noqa: S108 -- mkdtemp makes a private directory in it
SHORT_TEMP_LENGTH = 60  # with a socket's name well below the 107 bytes of sun_path
PID_FILE_STATUS = 7  # the line of postmaster.pid that pg_ctl waits for, from 0

# $1 is the directory of the socket, the rest the server's command line; it comes with the
# pipe as its standard input and the lock as its standard output. A signal to the whole
# group (of a terminal, of systemd) is for the router, which then stops the server. The
# shutdown is asked for again and again: a shell starts what runs in its background with
# SIGINT ignored, so the server is deaf to the first one until it has come far enough.
KEEPER = """
trap '' HUP INT TERM
sockets=$1; shift
exec 3<&0 4>&1 </dev/null >&2
"$@" 3<&- & server=$!
{ read -r _; while kill -INT "$server"; do sleep 0.2; done; } <&3 3<&- 4>&- & reader=$!
exec 3<&-
wait "$server"; code=$?
kill -KILL "$reader"
rm -rf "$sockets"
exit "$code"
"""

SETTINGS = {
    "cluster_name": "psi-router",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "track_commit_timestamp": "on",  # for `explain`
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
    # Statements and details would put what people wrote into the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class EmbeddedPostgres:
    """One PostgreSQL server on the data in *directory*, as durable as any other.

    It listens on a socket that only this user can reach, and, where *port* is given, on
    127.0.0.1 too (0: any free port), there with a password. `start` may be called again
    after `stop`, also where the server or its owner was killed in between.
    """

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        """Name the directory; nothing is made or started yet."""
        self.directory = directory.absolute()
        self.data = self.directory / "pg"
        self.log = self.directory / "postgres.log"
        self.port = port  # once started: the one it listens on
        self._asked_port = port
        self._password = self.directory / "password"
        self._lock = DirectoryLock(self.directory / "lock")
        self._sockets = Path()
        self._stale: list[str] = []
        self._keeper: subprocess.Popen[bytes] | None = None
        # A start that was cancelled goes on in its thread; the stop comes after it.
        self._one_at_a_time = threading.Lock()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> str:
        """Make the data if need be, start the server, and return `dsn()`.

        Raises `Unavailable` where there is no PostgreSQL, or none of the data's major
        version, where another process uses the data, or the server does not come up.
        """
        if self._keeper and self._keeper.poll() is None:
            raise Unavailable(f"{self.directory}: this PostgreSQL runs already")
        await self.stop()
        try:
            await asyncio.to_thread(self._launch)
            await self._until_ready()
        except OSError as error:
            await self.stop()
            raise Unavailable(f"no PostgreSQL in {self.directory}: {error}") from error
        except BaseException:
            await self.stop()
            raise
        return self.dsn()

    async def stop(self) -> None:
        """Shut down cleanly and wait for it; do nothing where nothing runs."""
        await asyncio.to_thread(self._stop)

    def dsn(self, database: str = "postgres", *, tcp: bool | None = None) -> str:
        """Return how to reach *database* of the running server.

        By TCP if a port was asked for, else by the socket; *tcp* chooses otherwise.
        """
        name = quote(database, safe="")
        if self._asked_port is not None if tcp is None else tcp:
            who = f"{SUPERUSER}:{self._password.read_text()}"
            return f"postgresql://{who}@{HOST}:{self.port}/{name}?sslmode=disable"
        return by_socket(self._sockets, self.port or SOCKET_PORT, name)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None where none has started or it stopped."""
        lines = self.note()
        return int(lines[0]) if lines else None

    def in_use(self) -> bool:
        """Whether a process, of whatever kind, uses the data; looking makes nothing."""
        return self._lock.held()

    def note(self) -> list[str]:
        """Return the lines of postmaster.pid, be it old or new; [] where there is none."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _launch(self) -> None:
        """Take the directory, start the keeper, and let it start the server."""
        with self._one_at_a_time:
            place = fitting(self.data)
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock.take()
            temp = Path(tempfile.gettempdir())
            run_as = disguise(self.data, place / "postgres", temp / "socket")
            self._prepare(place, run_as)
            self._keeper = self._spawn(run_as, self._server(place))

    def _prepare(self, place: Path, run_as: Disguise) -> None:
        if not self.data.exists():
            self._initdb(place, run_as)
        elif self.data.stat().st_uid != run_as.uid:
            run_as.give(self.data)
        self._forget_stale_pid()
        self.port = _free_port() if self._asked_port == 0 else self._asked_port
        self._sockets = _private_directory()
        run_as.give(self._sockets)

    def _spawn(
        self, run_as: Disguise, server: list[str | Path]
    ) -> subprocess.Popen[bytes]:
        keeper = [*run_as.prefix, "sh", "-c", KEEPER, "keeper", str(self._sockets)]
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 -- our script, their server
                [*keeper, *server],
                stdin=subprocess.PIPE,
                stdout=self._lock.fd,
                stderr=log,
                start_new_session=True,
            )

    def _server(self, place: Path) -> list[str | Path]:
        settings = SETTINGS | {
            "listen_addresses": "" if self._asked_port is None else HOST,
            "port": str(self.port or SOCKET_PORT),
            "unix_socket_directories": str(self._sockets),
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        return [place / "postgres", "-D", self.data, *flags]

    def _initdb(self, place: Path, run_as: Disguise) -> None:
        """Make the data aside and rename it: killed, this leaves nothing half made."""
        new = self.directory / "pg.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        run_as.give(new)
        self._password.unlink(missing_ok=True)
        self._password.touch(mode=0o600)
        self._password.write_text(secrets.token_urlsafe(24))
        run_as.give(self._password)
        made = subprocess.run(  # noqa: S603 -- their program, our words
            [*run_as.prefix, place / "initdb", "-D", new, *self._initdb_flags()],
            capture_output=True,
            text=True,
            check=False,
            pass_fds=[self._lock.fd],
        )
        if made.returncode:
            raise Unavailable(
                f"initdb in {self.directory} failed: {made.stderr.strip()}"
            )
        new.rename(self.data)

    def _initdb_flags(self) -> tuple[str, ...]:
        return (
            f"--username={SUPERUSER}",
            f"--pwfile={self._password}",
            "--auth-local=trust",  # the socket's directory is the lock on that door
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            f"--locale={LOCALE}",
            "--data-checksums",
            "--no-instructions",
        )

    def _forget_stale_pid(self) -> None:
        """Remove the note of a killed server, whose pid somebody else may have by now.

        PostgreSQL would take that somebody for itself. The lock says that no server of
        ours runs; one that was started by hand is known by its working directory.
        """
        self._stale = self.note()
        if not self._stale or not Path("/proc/self").exists():
            return
        with contextlib.suppress(OSError):
            if Path(f"/proc/{self._stale[0]}/cwd").readlink() == self.data.resolve():
                return
        (self.data / "postmaster.pid").unlink()

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not self._ready():  # noqa: ASYNC110 -- another process
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise self._failed(f"was not ready in {START_TIMEOUT_S:.0f} s") from None

    def _ready(self) -> bool:
        if self._keeper and self._keeper.poll() is not None:
            raise self._failed("did not start")
        lines = self.note()
        if lines == self._stale or len(lines) <= PID_FILE_STATUS:
            return False
        return lines[PID_FILE_STATUS].strip() == "ready"

    def _failed(self, what: str) -> Unavailable:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return Unavailable("\n".join([f"PostgreSQL {what}; {self.log} ends:", *lines]))

    def _stop(self) -> None:
        with self._one_at_a_time:
            if self._keeper:
                _end(self._keeper)
                self._keeper = None
            self._lock.release()


def by_socket(sockets: Path, port: int, database: str = "postgres") -> str:
    """Return how to reach *database*, its name quoted, by the socket in *sockets*."""
    where = urlencode({"host": sockets, "port": port})
    return f"postgresql://{SUPERUSER}@/{database}?{where}"


def _end(keeper: subprocess.Popen[bytes]) -> None:
    if keeper.stdin:
        keeper.stdin.close()
    try:
        keeper.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _private_directory() -> Path:
    """Make a directory for the socket: 0700, and short, since sun_path is."""
    long = len(tempfile.gettempdir()) > SHORT_TEMP_LENGTH
    return Path(tempfile.mkdtemp(prefix="psi-pg-", dir=SHORT_TEMP if long else None))
