"""The service on a machine with systemd: the units, the settings, the releases."""

import os
import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from bench.load import Answer, Client, Connection, post
from router import __version__
from router.systemd import PRIORITIES
from tests.box import Box, copy
from tests.events import body, text_message
from tests.integration.conftest import COMMAND
from tests.servers import until

UNIT, SOCKET = "psi-router.service", "psi-router.socket"
PORT = 3002
URL = f"http://127.0.0.1:{PORT}/webhook"
OLD, NEW = b"old-secret-of-the-box", b"new-secret-of-the-box"
SETTINGS = {
    "DATABASE_URL": "embedded:/var/lib/psi-router/postgres",
    "PSI_MIGRATE": "1",
    "WHATSAPP_APP_SECRET": OLD.decode(),
    "WHATSAPP_VERIFY_TOKEN": "verify-token-of-the-box",
}
BACK_S = 30.0


def configure(box: Box, settings: Mapping[str, str]) -> None:
    """Write the settings file, in place: its owner and mode stay."""
    lines = "".join(f"{name}={value}\n" for name, value in settings.items())
    box.path("/etc/psi-router/env").write_text(lines)


def lines(box: Box, event: str) -> list[dict[str, Any]]:
    """Return the journal's entries whose line is this *event*, oldest first."""
    said = box.run("journalctl", "-u", UNIT, "-o", "json", "--no-pager")
    entries = [orjson.loads(line) for line in said.splitlines() if line[:1] == "{"]
    return [entry for entry in entries if f'"event":"{event}"' in str(entry["MESSAGE"])]


async def send(wamid: str, secret: bytes) -> int:
    """Post a message that *secret* signs; return the status."""
    client = Client(URL, 1)
    try:
        data = body(text_message("5491100000001", wamid))
        return (await client.send(post(URL, data, secret))).status
    finally:
        client.close()


async def get(path: str) -> Answer:
    """GET *path* from the service itself."""
    connection = await Connection.open("127.0.0.1", PORT)
    try:
        return await connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    finally:
        connection.close()


async def ready(box: Box) -> None:
    """Wait until the service can keep its promises."""
    with box.network():
        await until(_is_ready, within_s=BACK_S)


async def _is_ready() -> bool:
    return (await get("/ready")).status == 200


@pytest.fixture
async def running(installed: Box) -> Box:
    """The service, with its embedded database, up and ready."""
    configure(installed, SETTINGS)
    if installed.of(UNIT, "UnitFileState") != "enabled":
        assert "it runs" in installed.run(COMMAND, "install")
    installed.run("systemctl", "reset-failed", UNIT)
    installed.run("systemctl", "restart", UNIT)
    await ready(installed)
    return installed


async def test_it_runs_hardened_with_its_own_database(running: Box) -> None:
    with running.network():
        assert await send("wamid.in-the-box", OLD) == 200
        health = orjson.loads((await get("/health")).body)
        assert (await get("/ready")).status == 200
    note = running.path("/opt/psi-router/releases/" + tree(running)[0]) / "REVISION"
    assert health["commit"] == note.read_text().strip()
    assert health["version"] == __version__
    await until(lambda: re.match(r"ready; \d+\.\d messages/s", status_text(running)))
    for name, value in {
        "Type": "notify",
        "NRestarts": "0",
        "MemoryDenyWriteExecute": "yes",
        "NoNewPrivileges": "yes",
        "User": "psi-router",
    }.items():
        assert running.of(UNIT, name) == value, name
    process = running.path(f"/proc/{running.of(UNIT, 'MainPID')}")
    seccomp = re.search(r"Seccomp:\s+(\d)", (process / "status").read_text())
    assert seccomp
    assert seccomp[1] == "2"  # a filter is in force


async def test_commands_reach_the_running_service_s_own_database(
    running: Box,
) -> None:
    before = running.of(UNIT, "MainPID")
    said = running.run(COMMAND, "doctor", check=False)
    assert "ok    database: PostgreSQL" in said
    assert "ok    migrations: up to date" in said
    assert running.run(COMMAND, "migrate", "--check") == "up to date\n"
    with running.network():
        assert (await get("/ready")).status == 200
    assert running.of(UNIT, "MainPID") == before


def status_text(box: Box) -> str:
    return box.of(UNIT, "StatusText")


async def test_no_secret_is_in_the_environment_or_in_another_s_reach(
    running: Box,
) -> None:
    pid = running.of(UNIT, "MainPID")
    environment = running.path(f"/proc/{pid}/environ").read_bytes()
    assert b"CREDENTIALS_DIRECTORY" in environment
    assert OLD not in environment
    assert running.path("/etc/psi-router/env").stat().st_mode & 0o777 == 0o600
    for who in ("nobody", "psi-router"):
        words = ("setpriv", f"--reuid={who}", "--clear-groups", "cat")
        assert running.status(*words, "/etc/psi-router/env") != 0


async def test_a_kill_is_followed_by_a_start_and_the_door_stays_open(
    running: Box,
) -> None:
    with running.network():
        assert await send("wamid.before-the-kill", OLD) == 200
        running.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", UNIT)
        assert await send("wamid.after-the-kill", OLD) == 200  # waited in the backlog
    assert running.of(UNIT, "NRestarts") == "1"


async def test_a_stop_says_what_it_left_and_the_next_knock_starts_it(
    running: Box,
) -> None:
    running.run("systemctl", "stop", UNIT)
    assert running.of(UNIT, "Result") == "success"
    assert orjson.loads(lines(running, "drained")[-1]["MESSAGE"])["left"] == 0
    with running.network():
        assert await send("wamid.knocks", OLD) == 200
    assert running.of(UNIT, "ActiveState") == "active"


async def test_a_process_that_no_longer_turns_is_started_again(running: Box) -> None:
    directory = running.path(f"/run/systemd/system/{UNIT}.d")
    directory.mkdir(parents=True)
    drop_in = directory / "short.conf"
    drop_in.write_text("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
    running.run("systemctl", "daemon-reload")
    try:
        running.run("systemctl", "restart", UNIT)
        running.run("systemctl", "kill", "-s", "STOP", "--kill-who=main", UNIT)
        await until(lambda: running.of(UNIT, "NRestarts") == "1", within_s=BACK_S)
        await ready(running)
    finally:
        drop_in.unlink()
        running.run("systemctl", "daemon-reload")
    said = running.run("journalctl", "-u", UNIT, "--no-pager", "-o", "cat")
    assert "Watchdog timeout" in said


BLOCKED = """[Service]
WatchdogSec=2
TimeoutAbortSec=1
ExecStart=
ExecStart=/opt/psi-router/current/bin/python -c "\
import signal, sys, time; \
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(30)); \
from router.cli import main; sys.exit(main(['serve']))"
"""


async def test_a_blocked_event_loop_is_started_again_and_what_was_acked_is_there(
    running: Box,
) -> None:
    directory = running.path(f"/run/systemd/system/{UNIT}.d")
    directory.mkdir(parents=True, exist_ok=True)
    drop_in = directory / "blocked.conf"
    drop_in.write_text(BLOCKED)
    running.run("systemctl", "daemon-reload")
    try:
        running.run("systemctl", "restart", UNIT)
        await ready(running)
        with running.network():
            assert await send("wamid.before-the-block", OLD) == 200
        # Every other thread goes on: a watchdog that one of them feeds would see nothing.
        running.run("systemctl", "kill", "-s", "USR1", "--kill-who=main", UNIT)
        await until(lambda: running.of(UNIT, "NRestarts") == "1", within_s=BACK_S)
        await ready(running)
        with running.network():
            # A row that is there says so by its log line: none for a message that is known.
            before = len(lines(running, "message_processed"))
            assert await send("wamid.before-the-block", OLD) == 200
            assert await send("wamid.after-the-block", OLD) == 200
        await until(lambda: len(lines(running, "message_processed")) > before)
        assert len(lines(running, "message_processed")) == before + 1
    finally:
        drop_in.unlink()
        running.run("systemctl", "daemon-reload")
    said = running.run("journalctl", "-u", UNIT, "--no-pager", "-o", "cat")
    assert "time.sleep(30)" in said or "<lambda>" in said  # where it was


async def test_wrong_settings_are_not_started_again_and_shut_the_door(
    running: Box,
) -> None:
    configure(running, {**SETTINGS, "PSI_LOOP": "gevent"})
    assert running.status("systemctl", "restart", UNIT) != 0
    await until(lambda: running.of(SOCKET, "ActiveState") == "inactive")
    with running.network(), pytest.raises(ConnectionRefusedError):
        await send("wamid.nobody", OLD)
    assert running.of(UNIT, "ActiveState") == "failed"
    assert running.of(UNIT, "ExecMainStatus") == "78"
    assert running.of(UNIT, "NRestarts") == "0"
    configure(running, SETTINGS)
    running.run("systemctl", "restart", UNIT)
    assert running.of(SOCKET, "ActiveState") == "active"


async def test_a_reload_changes_the_secret_and_refuses_nobody(running: Box) -> None:
    with running.network():
        pid = running.of(UNIT, "MainPID")
        reloads = len(lines(running, "reloaded"))
        for secrets in (b"%s,%s" % (NEW, OLD), NEW):
            configure(running, {**SETTINGS, "WHATSAPP_APP_SECRET": secrets.decode()})
            reloads += 1
            running.run("systemctl", "reload", UNIT)
            while len(lines(running, "reloaded")) < reloads:
                both = [await send(f"wamid.{reloads}-{s!r}", s) for s in (OLD, NEW)]
                assert 200 in both
        assert await send("wamid.old", OLD) == 401
        assert await send("wamid.new", NEW) == 200
    assert running.of(UNIT, "MainPID") == pid
    await ready(running)


async def test_a_reload_of_a_wrong_file_keeps_the_old_settings_and_says_so(
    running: Box,
) -> None:
    configure(running, {**SETTINGS, "WHATSAPP_APP_SECRET": "", "PSI_LOOP": "gevent"})
    running.run("systemctl", "reload", UNIT)
    await until(lambda: lines(running, "reload_refused"))
    entry = lines(running, "reload_refused")[-1]
    line = orjson.loads(entry["MESSAGE"])
    assert line["problems"] == ["WHATSAPP_APP_SECRET", "PSI_LOOP"]
    assert "gevent" not in entry["MESSAGE"]
    assert entry["PRIORITY"] == str(dict(PRIORITIES)[40])
    with running.network():
        assert await send("wamid.kept", OLD) == 200
    await ready(running)


async def test_a_message_s_line_is_whole_json_in_the_journal(running: Box) -> None:
    with running.network():
        assert await send("wamid.for-the-journal", OLD) == 200
    await until(lambda: lines(running, "message_processed"))
    entry = lines(running, "message_processed")[-1]
    assert entry["PRIORITY"] == "6"
    assert entry["SYSLOG_IDENTIFIER"] == "psi-router"
    assert orjson.loads(entry["MESSAGE"])["success"] is True
    said = running.run("journalctl", "-u", UNIT, "--no-pager")
    for secret in ("5491100000001", "wamid.for-the-journal", OLD.decode()):
        assert secret not in said


def test_installing_again_changes_nothing(installed: Box) -> None:
    configure(installed, SETTINGS)
    installed.run(COMMAND, "install")
    before = installed.of(UNIT, "InvocationID"), tree(installed)
    installed.run(COMMAND, "install")
    assert (installed.of(UNIT, "InvocationID"), tree(installed)) == before
    assert "embedded:" in installed.path("/etc/psi-router/env").read_text()


def tree(box: Box) -> list[str]:
    return sorted(os.listdir(box.path("/opt/psi-router/releases")))  # noqa: PTH208


def another_release(box: Box, version: str, *, starts: bool) -> str:
    """Put a release that never ran beside the others; return its command."""
    releases = "/opt/psi-router/releases"
    current = box.path("/opt/psi-router/current").readlink()
    there = box.path(f"{releases}/{version}")
    copy(box.path(f"{releases}/{current.name}"), there)
    (package,) = there.glob("lib/python3*/site-packages/router")
    module = package / "__init__.py"
    module.write_text(re.sub(r"\d+\.\d+\.\d+", version, module.read_text()))
    if not starts:
        serve = package / "cli/serve.py"
        serve.write_text(serve.read_text() + "\nraise SystemExit(1)\n")
    script = there / "bin/psi-router"
    script.write_text(script.read_text().replace(current.name, version))
    return f"{releases}/{version}/bin/psi-router"


async def version(box: Box) -> str:
    with box.network():
        return str(orjson.loads((await get("/health")).body)["version"])


async def test_an_upgrade_takes_over_a_rollback_goes_back_and_a_dud_never_runs(
    running: Box,
) -> None:
    first = await version(running)
    newer = another_release(running, "9.9.9", starts=True)
    assert "9.9.9 runs" in running.run(newer, "upgrade")
    assert await version(running) == "9.9.9"
    dud = another_release(running, "9.9.10", starts=False)
    said = running.run(dud, "upgrade", check=False)
    assert "9.9.10 does not start; back to 9.9.9" in said
    assert await version(running) == "9.9.9"
    running.run(COMMAND, "upgrade", "--rollback")
    assert await version(running) == first
    assert "runs already" in running.run(COMMAND, "upgrade")


def test_uninstall_removes_the_service_and_keeps_what_it_stored(running: Box) -> None:
    saved = running.path("/opt/saved")
    copy(running.path("/opt/psi-router"), saved)
    try:
        said = running.run(COMMAND, "uninstall")
        assert "stay" in said
        assert running.of(UNIT, "LoadState") == "not-found"
        assert not running.path("/opt/psi-router").exists()
        assert not running.path("/usr/local/bin/psi-router").is_symlink()
        assert running.path("/var/lib/psi-router/postgres/pg/PG_VERSION").exists()
        assert OLD.decode() in running.path("/etc/psi-router/env").read_text()
    finally:
        copy(saved, running.path("/opt/psi-router"))
        running.run(COMMAND, "install")
