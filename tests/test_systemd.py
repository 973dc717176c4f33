"""What a service says to systemd, over a real socket, and how the beat is left out."""

import asyncio
import itertools
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from router.app import PIPELINE
from router.cli import beat as beats
from router.cli.beat import Beat, loads
from router.cli.running import Running
from router.config import Destination, Settings
from router.health import Health, Load, standing_still
from router.queues.memory import MemoryQueue
from router.supervisor import Supervisor
from router.systemd import JournalLines, Notifier, is_journal, watchdog_s
from tests.servers import until

FAST_S = 0.05


class Manager:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        """Return all lines so far."""
        try:
            while True:
                self.heard += self.socket.recv(65536).decode().split("\n")
        except BlockingIOError:
            return self.heard


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(str(tmp_path / "notify"))
    with found.socket:
        yield found


@pytest.fixture
def notifier(manager: Manager) -> Notifier:
    return Notifier(manager.socket.getsockname())


@pytest.fixture
async def router() -> AsyncIterator[Running]:
    """A router whose database is away: nobody listens on port 1."""
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none",
        verify_token="token",
        app_secrets=(b"secret",),
        destinations=(Destination(name="crm", url="http://127.0.0.1:1/"),),
        drain_timeout_s=0.5,
    )
    made = await Running.make(settings)
    yield made
    await made.stop(socket.socket())


def test_lines_arrive_in_one_datagram(manager: Manager, notifier: Notifier) -> None:
    notifier.say("READY=1", "STATUS=up")
    assert manager.socket.recv(100) == b"READY=1\nSTATUS=up"


def test_an_abstract_address_is_understood() -> None:
    name = f"psi-router-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    with manager.socket:
        Notifier(f"@{name}").say("READY=1")
        assert manager.hear() == ["READY=1"]


def test_nobody_to_tell_is_no_error(tmp_path: Path) -> None:
    Notifier(None).say("READY=1")
    Notifier(str(tmp_path / "nobody")).say("READY=1")
    assert not Notifier(None)


def test_a_manager_that_does_not_read_holds_nobody_up(
    manager: Manager, notifier: Notifier
) -> None:
    began = time.monotonic()
    for _ in range(2000):
        notifier.say("WATCHDOG=1")
    assert time.monotonic() - began < 5
    assert len(manager.hear()) < 2000  # what did not fit was left out


def test_a_reload_carries_the_time(manager: Manager, notifier: Notifier) -> None:
    notifier.reloading()
    first, second = manager.hear()
    assert first == "RELOADING=1"
    at = int(second.removeprefix("MONOTONIC_USEC="))
    assert 0 <= time.monotonic() - at / 1e6 < 5


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("20000000", None, 20.0),
        ("20000000", str(os.getpid()), 20.0),
        ("20000000", "1", None),  # for another process
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_for_the_process_it_names(
    usec: str | None, pid: str | None, seconds: float | None
) -> None:
    assert watchdog_s(usec, pid) == seconds


def test_the_journal_is_the_file_that_the_variable_names(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as file:
        found = os.fstat(file.fileno())
        assert is_journal(f"{found.st_dev}:{found.st_ino}", file.fileno())
        assert not is_journal(f"{found.st_dev}:{found.st_ino + 1}", file.fileno())
        assert not is_journal("", file.fileno())
    assert not is_journal("1:1", 10_000)


@pytest.mark.parametrize(
    ("level", "prefix"),
    [("CRITICAL", 2), ("ERROR", 3), ("WARNING", 4), ("INFO", 6), ("DEBUG", 7)],
)
def test_a_line_has_its_priority_before_it(level: str, prefix: int) -> None:
    number = logging.getLevelNamesMapping()[level]
    record = logging.LogRecord("router", number, "", 0, "{}", None, None)
    assert JournalLines(logging.Formatter()).format(record) == f"<{prefix}>{{}}"


async def test_it_is_ready_without_its_database_and_names_the_mode(
    router: Running, manager: Manager, notifier: Notifier
) -> None:
    beat = Beat(notifier, FAST_S)
    beat.start(router.app)
    away = "STATUS=database away; 0.0 messages/s; database: "
    await until(lambda: away in "\n".join(manager.hear()))
    beat.stop()
    assert manager.heard[:2] == [
        "READY=1",
        "STATUS=starting; 0.0 messages/s; database: not reached yet",
    ]
    assert manager.heard.count("WATCHDOG=1") == manager.heard.count("READY=1") + sum(
        line.startswith("STATUS=") for line in manager.heard[2:]
    )
    silent = len(manager.heard)
    await asyncio.sleep(0)
    assert len(manager.hear()) == silent


async def test_the_rate_is_of_stored_messages(
    router: Running,
    manager: Manager,
    notifier: Notifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from router.telemetry import events_stored

    # Each beat asks twice, so a second passes from one to the next.
    clock = itertools.count(1000.0, 0.5)
    monkeypatch.setattr(beats, "time", SimpleNamespace(monotonic=clock.__next__))
    beat = Beat(notifier, FAST_S)
    beat.start(router.app)
    events_stored(["message.text"] * 5 + ["status.read"] * 500)
    await until(lambda: any(rate(line) > 0 for line in manager.hear()))
    beat.stop()
    assert max(map(rate, manager.heard)) == 5.0


def rate(line: str) -> float:
    words = line.partition("; ")[2].split(" messages/s")
    return float(words[0]) if line.startswith("STATUS=") else 0.0


async def test_a_stage_that_stands_still_starves_the_watchdog(
    router: Running,
    manager: Manager,
    notifier: Notifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beats, "STILL_S", -1.0)  # whoever has something to do
    beat = Beat(notifier, FAST_S)
    beat.start(router.app)
    await until(lambda: "pulse stands still" in "".join(manager.hear()))
    fed = manager.heard.count("WATCHDOG=1")
    assert fed <= 1  # at the first look nobody knows yet
    await until(lambda: "".join(manager.hear()).count("pulse stands still") > 3)
    beat.stop()
    assert manager.heard.count("WATCHDOG=1") == fed


async def test_what_is_in_memory_is_the_front_s_work(router: Running) -> None:
    pipeline = router.app[PIPELINE]
    before = {load.worker: load.unsettled for load in loads(pipeline)}
    assert (before["persist"], before["pulse"]) == (0, 1)
    assert "notify:crm" in before
    assert isinstance(pipeline.inbox, MemoryQueue)
    await pipeline.supervisor.close()  # nobody takes it
    assert not list(loads(pipeline))  # a worker that has ended is nobody's concern


def test_only_who_has_work_and_did_not_move_stands_still() -> None:
    found = standing_still(
        [
            Load("idle", 0, 0.0),
            Load("stuck", 1, 60.0),
            Load("moving", 1, 90.0),
        ],
        now=100.0,
        limit_s=30.0,
    )
    assert found == ["stuck"]


async def test_a_worker_is_seen_to_turn_and_a_stuck_one_is_not() -> None:
    supervisor = Supervisor(Health())
    step, never = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def turning() -> None:
        for _ in range(2):
            await step.wait()
            step.clear()
            done.append("step")

    await supervisor.start("turning", turning)
    await supervisor.start("stuck", lambda: wait(never))
    await asyncio.sleep(0)
    began = dict(supervisor.turned())
    await until(lambda: time.monotonic() > max(began.values()))
    step.set()
    await until(lambda: done)
    assert supervisor.turned()["turning"] > began["turning"]
    assert supervisor.turned()["stuck"] == began["stuck"]
    step.set()
    await supervisor.finished("turning")
    assert done == ["step", "step"]
    assert set(supervisor.turned()) == {"stuck"}
    await supervisor.close()
    assert not supervisor.turned()


async def wait(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_cancelled_worker_gets_its_cancellation_and_its_finally() -> None:
    supervisor = Supervisor(Health())
    seen: list[str] = []

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("tidied")
            raise

    await supervisor.start("tidy", tidy)
    await asyncio.sleep(0)
    await supervisor.close()
    assert seen == ["cancelled", "tidied"]
