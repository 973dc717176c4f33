"""A restart nobody notices: systemd and nginx in front, load on it, no answer but 200."""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate
from tests.box import Box, copy
from tests.faults.harness import SETTINGS, Load, Sink, check, quiet, say
from tests.integration.test_systemd import BACK_S, UNIT, configure
from tests.nginx_server import CONF, NAME, Authority, TlsClient
from tests.servers import until

SEED = 20261124
RATE = 250.0
CONNECTIONS = 64
ACKS_BETWEEN = 100


@pytest.fixture(scope="session")
def fronted(
    installed: Box, nginx: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Box, Authority]:
    """The service behind nginx, each by its own unit, with the file as it is shipped."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    certificate, key = authority.sign(NAME)
    live = installed.path(f"/etc/letsencrypt/live/{NAME}")
    copy(certificate, live / "fullchain.pem")
    copy(key, live / "privkey.pem")
    copy(CONF, installed.path("/etc/nginx/conf.d/psi-router.conf"))
    installed.run("systemctl", "start", "nginx")
    return installed, authority


def restart(box: Box, unit: str, *, kill: bool) -> None:
    """Restart a service, in order or by force, and wait until it is back."""
    if not kill:
        box.run("systemctl", "restart", unit)
        return
    restarts = int(box.of(unit, "NRestarts"))
    box.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", unit)
    for _ in range(1000):
        if int(box.of(unit, "NRestarts")) > restarts and active(box, unit):
            return
    raise AssertionError(box.run("systemctl", "status", unit, check=False))


def active(box: Box, unit: str) -> bool:
    return box.of(unit, "ActiveState") == "active"


async def restart_under_load(
    fronted: tuple[Box, Authority],
    directory: Path,
    restarts: int,
    units: Sequence[str] = (UNIT,),
) -> None:
    box, authority = fronted
    say(f"seed {SEED}")
    with box.network():
        sink = Sink(SEED, fails=0.02)
        async with (
            EmbeddedPostgres(directory / "postgres", port=0) as server,
            sink.running(),
        ):
            dsn = server.dsn()
            await migrate(dsn)
            told = {"DATABASE_URL": dsn, "N8N_WEBHOOK_INGESTA_ROUTER_WSP4": sink.url}
            configure(box, {**SETTINGS, "PSI_ACK_TIMEOUT_S": "8", **told})
            box.run("systemctl", "restart", *units)
            load = Load(f"https://{NAME}/webhook", SEED, rate=RATE)
            load._client = TlsClient(443, authority.trusting(), CONNECTIONS)
            async with load.running():
                await load.acks(ACKS_BETWEEN, within_s=BACK_S)
                turns = itertools.cycle(itertools.product((False, True), units))
                for kill, unit in itertools.islice(turns, restarts):
                    await asyncio.to_thread(restart, box, unit, kill=kill)
                    await load.acks(ACKS_BETWEEN, within_s=BACK_S)
            ledger = load.ledger
            slowest = max(ledger.latencies_s)
            say(f"{restarts} restarts, {ledger.answers}, slowest {slowest:.2f} s")
            assert set(ledger.answers) == {200}
            assert (ledger.refused, ledger.unknown) == (0, 0)
            assert ledger.sent == ledger.acked
            await quiet(dsn)
            assert await check(dsn, ledger, sink) == {}
            pids = [box.of(unit, "MainPID") for unit in units]
            for unit, pid in zip(units, pids, strict=True):
                said = box.run("journalctl", f"_PID={pid}", "-o", "cat", "--no-pager")
                assert "message_processed" in said, unit
            box.run("systemctl", "stop", *units)
            await until(lambda: not any(active(box, unit) for unit in units))


async def test_4_restarts_behind_nginx_are_seen_by_nobody(
    fronted: tuple[Box, Authority], tmp_path: Path
) -> None:
    await restart_under_load(fronted, tmp_path, 4)


async def test_of_two_processes_at_one_socket_each_covers_for_the_other(
    fronted: tuple[Box, Authority], tmp_path: Path
) -> None:
    await restart_under_load(fronted, tmp_path, 4, (UNIT, "psi-router@2.service"))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_20_restarts_behind_nginx_are_seen_by_nobody(
    fronted: tuple[Box, Authority], tmp_path: Path
) -> None:
    await restart_under_load(fronted, tmp_path, 20)
