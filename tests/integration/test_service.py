"""The service as those who run it meet it: commands, statuses, sockets."""

import os
import signal
import socket
import subprocess
import sys
from importlib import resources
from pathlib import Path

import asyncpg
import orjson
import pytest

from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate
from tests.events import body, text_message
from tests.faults.harness import Service, free_port
from tests.servers import until

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus"
SETTINGS = {
    "WHATSAPP_APP_SECRET": "fault-test-secret",
    "WHATSAPP_VERIFY_TOKEN": "token",
}


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "router", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_wrong_settings_are_all_named_and_end_with_78(tmp_path: Path) -> None:
    done = command("serve", PSI_LOOP="gevent")
    assert done.returncode == 78
    for name in ("DATABASE_URL", "WHATSAPP_APP_SECRET", "PSI_LOOP"):
        assert name in done.stderr


def test_wrong_usage_ends_with_2() -> None:
    assert command("serve", "--fast").returncode == 2
    assert command("dance").returncode == 2


def test_a_database_that_is_behind_ends_with_78_and_says_what_to_run(
    empty_database: str,
) -> None:
    done = command("serve", DATABASE_URL=empty_database, **SETTINGS)
    assert done.returncode == 78
    assert "psi-router migrate" in done.stderr


def test_migrate_says_what_it_did_and_check_only_tells(empty_database: str) -> None:
    behind = command("migrate", "--check", DATABASE_URL=empty_database)
    files = len(list((resources.files("router.store") / "migrations").iterdir()))
    assert (behind.returncode, behind.stdout.count("missing")) == (1, files)
    assert command("migrate", DATABASE_URL=empty_database).returncode == 0
    after = command("migrate", "--check", DATABASE_URL=empty_database)
    assert (after.returncode, after.stdout) == (0, "up to date\n")


def test_migrate_without_a_server_ends_with_69() -> None:
    dsn = "postgresql://postgres@127.0.0.1:1/none"
    assert command("migrate", DATABASE_URL=dsn).returncode == 69


def test_a_port_that_is_taken_ends_with_69(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command("serve", DATABASE_URL=database, PORT=port, **SETTINGS)
    assert done.returncode == 69


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_message_goes_all_the_way_on_either_loop(
    database: str, tmp_path: Path, loop: str
) -> None:
    service = Service(tmp_path, {"DATABASE_URL": database, "PSI_LOOP": loop})
    service.start()
    await service.ready()
    answer = await service.post(body(text_message("5491100000001", "wamid.one")))
    assert answer == (200, {"success": True, "processed": 1, "failed": 0})
    health = orjson.loads((await service.get("/health")).body)
    assert health["status"] == "ok"
    assert {"version", "commit", "uptime_s"} <= health.keys()
    echo = await service.post((CORPUS / "field_smb_echo_text.json").read_bytes())
    assert echo[0] == 200
    (line,) = service.lines("message_processed")  # of what a person wrote, and no echo
    assert (line["success"], line["kind"]) == (True, "message.text")
    assert line["duration"] > 0
    for secret in ("5491100000001", "wamid.one", "Hola"):
        assert secret not in service.log()
    service.send(signal.SIGTERM)
    assert await service.exit_status(10) == 0


async def test_it_starts_without_its_database_and_heals(
    postgres_binaries: Path, tmp_path: Path
) -> None:
    port = free_port()
    server = EmbeddedPostgres(tmp_path / "data", port=port)
    dsn = await server.start()
    await migrate(dsn)
    await server.stop()
    service = Service(tmp_path, {"DATABASE_URL": dsn})
    service.start()
    await service.listens()
    ready = await service.get("/ready")
    assert ready.status == 503
    assert "database" in ready.body.decode()
    assert (await service.get("/health")).status == 200
    await server.start()
    await service.ready()
    status, _ = await service.post(body(text_message("5491100000001", "wamid.two")))
    assert status == 200
    service.send(signal.SIGTERM)
    await service.exit_status(10)
    await server.stop()


async def test_a_body_that_is_no_json_is_buried_with_its_bytes(
    database: str, tmp_path: Path
) -> None:
    service = Service(tmp_path, {"DATABASE_URL": database})
    service.start()
    await service.ready()
    for _ in range(2):
        assert await service.post(b"{'a': 1}") == (
            200,
            {"success": True, "processed": 0, "failed": 1},
        )
    service.send(signal.SIGTERM)
    await service.exit_status(10)
    connection = await asyncpg.connect(database)
    (letter,) = await connection.fetch("select * from router.dead_letters")
    assert (letter["stage"], letter["body"]) == ("normalize", b"{'a': 1}")
    assert await connection.fetchval("select count(*) from router.deliveries") == 2
    await connection.close()


async def test_a_connection_from_a_passed_socket_is_answered_after_sigterm(
    database: str, tmp_path: Path
) -> None:
    launcher = tmp_path / "launch.py"
    launcher.write_text(
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True)\n"
        "os.environ['LISTEN_PID'] = str(os.getpid()); os.environ['LISTEN_FDS'] = '1'\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'router', 'serve'])\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": database,
            **SETTINGS,
        }
        process = subprocess.Popen(
            [sys.executable, str(launcher), str(listener.fileno())],
            env=env,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
        )
        with socket.create_connection(listener.getsockname(), timeout=20) as early:
            early.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert early.recv(4096).startswith(b"HTTP/1.1 200")
            with socket.create_connection(listener.getsockname(), timeout=20) as late:
                early.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert early.recv(4096).startswith(b"HTTP/1.1 200")
                process.send_signal(signal.SIGTERM)
                with pytest.raises(TimeoutError):
                    # The wait of the contract: half a second after SIGTERM.
                    await until(lambda: process.poll() is not None, within_s=0.5)
                late.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert late.recv(4096).startswith(b"HTTP/1.1 200")
        await until(lambda: process.poll() is not None, within_s=10)
        assert process.returncode == 0
