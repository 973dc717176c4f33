"""The real service under load and faults, and what must hold afterwards.

The service is a process of its own. The load keeps a ledger by id (acked; refused and unknown
ones are posted again, as Meta does), the stand-in for the CRM keeps its own, and `check`
compares the two with the database once nothing is left to be told.
"""

import asyncio
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from aiohttp import web

from bench.load import Answer, Client, Connection, post
from router.cli.traffic import ID_TEXT, Body, StatusKey, Traffic
from tests.servers import until

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
SECRET = b"app-secret-of-the-fault-tests"
SETTINGS = {
    "WHATSAPP_APP_SECRET": SECRET.decode(),
    "WHATSAPP_VERIFY_TOKEN": "verify-token-of-the-fault-tests",
    "PSI_ACK_TIMEOUT_S": "3",
    "PSI_DESTINATION_TIMEOUT_S": "1",
    # Long enough that no row is given up, however often the sink says 500.
    "PSI_RETRY_SCHEDULE_S": ",".join(["0.2"] * 30),
}
# What systemd does with a socket (sd_listen_fds(3)), in the process that becomes the service.
TAKE_OVER = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.environ['LISTEN_PID'], os.environ['LISTEN_FDS'] = str(os.getpid()), '1'\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'router', 'serve'])\n"
)
START_S = 20.0
STALLED_S = 60.0  # a lease of a dead process holds 25 s
RATE = 400.0
CONNECTIONS = 64
CONTACTS = 400
START = 1_795_000_000  # seconds, of the first message


def say(text: str) -> None:
    """Print: the seeds, and what a run saw, are read when it fails."""
    sys.stdout.write(f"{text}\n")


def dice(seed: int) -> random.Random:
    """Return a stream of chances that *seed* replays."""
    return random.Random(seed)  # noqa: S311 -- dice, not keys


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Service:
    """`python -m router serve` on a port that stays the same over restarts."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str],
        *,
        mutant: str = "",
        under: Sequence[str] = (),
        listener: socket.socket | None = None,
    ) -> None:
        """Run in *directory*, at *listener* where there is one, as if it were systemd's.

        *mutant* names one of tests/faults/mutants.py; *under* is a command that starts
        it, such as prlimit.
        """
        self.port = int(settings.get("PORT", 0)) or free_port()
        self._log = directory / "service.log"
        self._directory = directory
        launch = ["tests.faults.mutants", mutant] if mutant else ["router"]
        self._command = [*under, sys.executable, "-m", *launch, "serve"]
        self._passed: tuple[int, ...] = ()
        if listener:
            self.port = int(listener.getsockname()[1])
            self._passed = (listener.fileno(),)
            self._command = [sys.executable, "-c", TAKE_OVER, str(listener.fileno())]
        self.url = f"http://{HOST}:{self.port}/webhook"
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOST": HOST,
            "PORT": str(self.port),
            **SETTINGS,
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; it listens a little later."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdout=log,
                stderr=log,
                pass_fds=self._passed,
            )

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.running.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.running.send_signal(number)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process."""
        assert self.process
        return self.process

    async def exit_status(self, within_s: float) -> int:
        """Wait for the process to end by itself."""
        try:
            await until(lambda: self.running.poll() is not None, within_s=within_s)
        except TimeoutError as exc:
            raise AssertionError(
                f"{exc}; its last words:\n{self.last_words()}"
            ) from exc
        return self.running.returncode

    async def listens(self) -> None:
        """Wait until a connection is taken."""
        await until(self._takes_a_connection, within_s=START_S)

    async def ready(self) -> None:
        """Wait until /ready says 200."""
        await until(self._is_ready, within_s=START_S)

    async def get(self, path: str, **headers: str) -> Answer:
        """GET *path*."""
        connection = await Connection.open(HOST, self.port)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        try:
            return await connection.send(
                f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()
            )
        finally:
            connection.close()

    async def post(self, body: bytes) -> tuple[int, Any]:
        """POST a signed *body* on a connection of its own; return status and JSON."""
        client = Client(self.url, 1)
        try:
            answer = await client.send(post(self.url, body, SECRET))
        finally:
            client.close()
        return answer.status, orjson.loads(answer.body)

    def memory_mb(self, name: str) -> float:
        """Return VmRSS or VmHWM of the process."""
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) / 1024

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of *event*."""
        found = (
            orjson.loads(line) for line in self.log().splitlines() if line[:1] == "{"
        )
        return [line for line in found if line.get("event") == event]

    def last_words(self) -> str:
        """Return the end of the log, without the line that each message has."""
        lines = self.log().splitlines()
        return "\n".join([x for x in lines if "message_processed" not in x][-20:])

    def log(self) -> str:
        """Return all that it wrote."""
        return self._log.read_text(errors="replace")

    async def _takes_a_connection(self) -> bool:
        assert self.running.poll() is None, self.last_words()
        try:
            (await Connection.open(HOST, self.port)).close()
        except OSError:
            return False
        return True

    async def _is_ready(self) -> bool:
        return await self._takes_a_connection() and (
            (await self.get("/ready")).status == HTTPStatus.OK
        )


class Sink:
    """A CRM that keeps a ledger, and answers 500 or hangs now and then."""

    def __init__(self, seed: int, *, fails: float = 0.0, hangs: float = 0.0) -> None:
        """Fail and hang for these shares of the notifications."""
        self.url = ""
        self.told: dict[str, set[str]] = defaultdict(set)  # message -> webhook-ids
        self.bodies: dict[str, set[bytes]] = defaultdict(set)  # webhook-id -> hashes
        self.attempts: Counter[str] = Counter()
        self.refused = 0
        self._dice = dice(seed)
        self._fails, self._hangs = fails, hangs

    async def take(self, request: web.Request) -> web.Response:
        """Note one notification and answer it."""
        body = await request.read()
        key = request.headers["webhook-id"]
        self.attempts[key] += 1
        self.bodies[key].add(hashlib.sha256(body).digest())
        if self._dice.random() < self._hangs:
            self.refused += 1
            await asyncio.Event().wait()  # until the router hangs up
        if self._dice.random() < self._fails:
            self.refused += 1
            return web.Response(status=500)
        self.told[orjson.loads(body)["message"]].add(key)
        return web.Response(text="ok")

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["Sink"]:
        """Listen on *port*, or a free one."""
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/crm", self.take)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, HOST, port or free_port())
        try:
            await site.start()
            self.url = f"{site.name}/crm"
            yield self
        finally:
            await runner.cleanup()


@dataclass(slots=True)
class Ledger:
    """What the load was told, by id. What is not acked may be stored or not."""

    sent: set[str] = field(default_factory=set)
    acked: set[str] = field(default_factory=set)
    statuses: set[StatusKey] = field(default_factory=set)  # acked
    answers: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0  # requests that never left
    unknown: int = 0  # requests that were cut: done or not, nobody knows
    repeated: int = 0

    def ack(self, body: Body) -> None:
        """Note a 200."""
        self.acked.update(body.messages)
        self.statuses.update(body.statuses)


class Load:
    """Posts at a rate, and what is not acked again and again."""

    def __init__(
        self,
        url: str,
        seed: int,
        *,
        rate: float = RATE,
        statuses: float = 0.2,
        duplicates: float = 0.05,
    ) -> None:
        """Post invented messages to *url*; the text of each is its id."""
        traffic = Traffic(
            seed=seed,
            start=START,
            contacts=CONTACTS,
            statuses=statuses,
            duplicates=duplicates,
            text=ID_TEXT,
        )
        self.ledger = Ledger()
        self.secret = SECRET
        self._url, self._rate = url, rate
        self._bodies = traffic.bodies()
        self._again: deque[Body] = deque()
        self._client = Client(url, CONNECTIONS)
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._posts: set[asyncio.Task[None]] = set()
        self._go = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """Post while the block runs; leave when every post has ended somehow."""
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            self._go = False
            await task
            self._client.close()

    @property
    def in_flight(self) -> int:
        """How many posts wait for their answer."""
        return len(self._posts)

    async def acks(self, count: int = 1, *, within_s: float = START_S) -> None:
        """Wait for so many more 200s."""
        wanted = self.ledger.answers[200] + count
        await until(lambda: self.ledger.answers[200] >= wanted, within_s=within_s)

    async def settle(self) -> None:
        """Post again what was not acked, until all is: as Meta does for seven days."""
        while self._again:
            round_ = [self._again.popleft() for _ in range(len(self._again))]
            async with asyncio.timeout(STALLED_S), asyncio.TaskGroup() as group:
                for body in round_:
                    # No more at once than before: what waits here is no answer's time.
                    await self._slots.acquire()
                    task = group.create_task(self._post(body))
                    task.add_done_callback(lambda _: self._slots.release())
        self._client.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._go:
            due = max(due + 1 / self._rate, loop.time() - 0.1)
            await asyncio.sleep(due - loop.time())
            await self._slots.acquire()
            task = asyncio.create_task(self._post(self._next()))
            self._posts.add(task)
            task.add_done_callback(self._ended)
        await asyncio.gather(*self._posts)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._posts.discard(task)
        self._slots.release()

    def _next(self) -> Body:
        # Every second post is an old one, while there are any.
        if self._again and self.ledger.answers.total() % 2:
            return self._again.popleft()
        body = next(self._bodies)
        self.ledger.repeated += body.again
        self.ledger.sent.update(body.messages)
        return body

    async def _post(self, body: Body) -> None:
        began = asyncio.get_running_loop().time()
        try:
            answer = await self._client.send(post(self._url, body.data, self.secret))
        except ConnectionRefusedError:
            self.ledger.refused += 1
            self._again.append(body)
            await asyncio.sleep(0.05)  # a slot that finds nobody comes back later
        except OSError:
            self.ledger.unknown += 1
            self._again.append(body)
        else:
            self.ledger.latencies_s.append(asyncio.get_running_loop().time() - began)
            self.ledger.answers[answer.status] += 1
            if answer.status == HTTPStatus.OK:
                self.ledger.ack(body)
            else:
                self._again.append(body)


PENDING = """
select id, attempts, next_attempt_at - now() as due_in, lease_until - now() as lent_for,
       o.lane = any(select lane from router.outbox p
                    where p.state = 'pending' and p.id < o.id) as behind
from router.outbox o where state = 'pending' order by id limit 5"""


async def quiet(dsn: str, *, within_s: float = STALLED_S) -> None:
    """Wait until nothing is left to be told; time is part of the promise."""
    async with connected(dsn) as connection:
        try:
            await until(lambda: _nothing_pending(connection), within_s=within_s)
        except TimeoutError as exc:
            rows = [dict(row) for row in await connection.fetch(PENDING)]
            raise AssertionError(f"not told after {within_s} s: {rows}") from exc


async def stored(dsn: str, ledger: Ledger, *, within_s: float = STALLED_S) -> None:
    """Wait until all that was acked is stored, as long as it may take; `check` judges.

    With a queue that is durable by itself rows come after the 200.
    """
    query = """
        select (select count(*) from mensajes where whatsapp_message_id = any($1)),
               (select count(*) from router.statuses where wamid = any($2))"""
    ids, of = list(ledger.acked), list({wamid for wamid, *_ in ledger.statuses})
    wanted = (len(ids), len(ledger.statuses))

    async def all_there() -> bool:
        await asyncio.sleep(0.1)
        row = await connection.fetchrow(query, ids, of)
        return bool(row[0] >= wanted[0] and row[1] >= wanted[1])

    async with connected(dsn) as connection:
        with suppress(TimeoutError):
            await until(all_there, within_s=within_s)


async def _nothing_pending(connection: Any) -> bool:
    await asyncio.sleep(0.1)  # a look at a table costs the server more than a moment
    query = "select not exists (select from router.outbox where state = 'pending')"
    return bool(await connection.fetchval(query))


async def check(dsn: str, ledger: Ledger, sink: Sink) -> dict[str, list[Any]]:
    """Return the broken promises, each with who broke it; empty when all hold."""
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            "select whatsapp_message_id as id, count(*) as n from mensajes group by 1"
        )
        kept = await connection.fetch(
            "select wamid, status, extract(epoch from ts)::bigint as s, count(*) as n"
            " from router.statuses group by 1, 2, 3"
        )
    stored = {row["id"]: row["n"] for row in rows}
    statuses = {(row["wamid"], row["status"], row["s"]): row["n"] for row in kept}
    found: dict[str, list[Any]] = {
        "acked, not stored": sorted(ledger.acked - stored.keys()),
        "stored twice": [key for key, n in stored.items() if n != 1],
        "stored, never sent": sorted(stored.keys() - ledger.sent),
        "stored, never told": sorted(stored.keys() - sink.told.keys()),
        "told, not stored": sorted(sink.told.keys() - stored.keys()),
        "two webhook-ids": [key for key, ids in sink.told.items() if len(ids) != 1],
        "bytes changed": [key for key, all_ in sink.bodies.items() if len(all_) != 1],
        "status acked, not stored": sorted(ledger.statuses - statuses.keys()),
        "status stored twice": [key for key, n in statuses.items() if n != 1],
    }
    return {promise: broken for promise, broken in found.items() if broken}


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """Lend a connection of the test's own."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@asynccontextmanager
async def service(
    directory: Path,
    dsn: str,
    sink: Sink | None = None,
    *,
    mutant: str = "",
    under: Sequence[str] = (),
    **settings: str,
) -> AsyncIterator[Service]:
    """Run the service until the block ends, ready at its beginning."""
    told = {"N8N_WEBHOOK_INGESTA_ROUTER_WSP4": sink.url} if sink else {}
    running = Service(
        directory,
        {"DATABASE_URL": dsn, **told, **settings},
        mutant=mutant,
        under=under,
    )
    running.start()
    try:
        await running.ready()
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.kill()


@dataclass(slots=True)
class Kills:
    """Kills at random moments under load, each followed by a restart at once."""

    service: Service
    load: Load
    dice: random.Random
    in_flight: list[int] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)  # from the start to the first 200

    async def kill(self, times: int, *, every_s: tuple[float, float]) -> None:
        """Kill so many times, each between so many seconds after the first 200."""
        clock = asyncio.get_running_loop().time
        for _ in range(times):
            await asyncio.sleep(self.dice.uniform(*every_s))  # the random moment
            self.in_flight.append(self.load.in_flight)
            self.service.kill()
            started = clock()
            self.service.start()
            await self.load.acks()
            self.back_s.append(clock() - started)

    def report(self) -> str:
        """Return what happened."""
        ledger = self.load.ledger
        back = sorted(self.back_s)
        return (
            f"{len(back)} kills, {sum(self.in_flight)} requests in flight at them; "
            f"{len(ledger.sent)} messages sent, {len(ledger.acked)} acked, "
            f"{ledger.repeated} re-posts, {ledger.unknown} cut, {ledger.refused} refused; "
            f"back after {back[len(back) // 2]:.2f} s (median), {back[-1]:.2f} s (worst)"
        )
