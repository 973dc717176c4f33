"""What the units say agrees with the code, and is as tight as it was meant to be."""

import configparser
import subprocess
from pathlib import Path

import pytest

from router.cli import BAD_CONFIG
from router.cli.beat import BEAT_S, STILL_S
from router.cli.environment import SETTINGS, dot_env
from router.cli.machine import COMMAND, CURRENT, UNITS
from router.cli.release import HOMES
from router.cli.running import BACKLOG, RECEIVE_BYTES
from router.cli.serve import SETTINGS_NAME
from router.config import Settings
from router.errors import ConfigError
from router.stages.notify import BEGIN_S
from router.store.database import CLOSE_S
from router.store.embedded import STOP_TIMEOUT_S
from router.supervisor import FLUSH_S

FOLDER = Path(__file__).parents[1] / "systemd"
EXPOSURE = 1.5
DEFAULTS = Settings(database_url="x", verify_token="x", app_secrets=(b"x",))


class Unit(configparser.RawConfigParser):
    """A unit, each name once; of the names that may come again, the last one."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False)
        self.read(FOLDER / name)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


SERVICE = Unit("psi-router.service")
SOCKET = Unit("psi-router.socket")


def test_the_socket_is_as_the_code_would_make_it() -> None:
    assert SOCKET["Socket"]["ListenStream"] == f"{DEFAULTS.host}:{DEFAULTS.port}"
    assert int(SOCKET["Socket"]["Backlog"]) == BACKLOG
    assert SOCKET["Socket"]["ReceiveBuffer"] == f"{RECEIVE_BYTES // 1024}K"


def test_the_door_is_not_shut_by_many_starts() -> None:
    assert SOCKET["Socket"]["TriggerLimitIntervalSec"] == "0"
    assert SERVICE["Unit"]["StartLimitIntervalSec"] == "0"


def test_a_stop_has_the_time_it_takes_even_when_it_meets_a_reload() -> None:
    one = DEFAULTS.drain_timeout_s + FLUSH_S + CLOSE_S
    assert float(SERVICE["Service"]["TimeoutStopSec"]) > 2 * one + STOP_TIMEOUT_S


def test_the_watchdog_waits_for_several_beats_and_a_stage_for_its_longest_batch() -> (
    None
):
    assert float(SERVICE["Service"]["WatchdogSec"]) >= 4 * BEAT_S
    assert STILL_S > BEGIN_S


def test_only_wrong_settings_are_not_started_again() -> None:
    service = SERVICE["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split()[0] == str(BAD_CONFIG)
    # The same statuses shut the door: else each knock would start it.
    statuses = "|".join(service["RestartPreventExitStatus"].split())
    assert f" {statuses})" in service["ExecStopPost"]


def test_the_settings_file_is_one_and_the_same_everywhere() -> None:
    text = (FOLDER / "psi-router.service").read_text()
    assert f"LoadCredential={SETTINGS_NAME}:{SETTINGS}\n" in text
    assert f" {SETTINGS} /run/psi-router/{SETTINGS_NAME}\n" in text
    assert SERVICE["Service"]["RuntimeDirectory"] == "psi-router"
    assert (
        f"z {SETTINGS} 0600 root root" in (FOLDER / "psi-router.tmpfiles").read_text()
    )


def test_the_unit_starts_what_install_puts_there() -> None:
    program = SERVICE["Service"]["ExecStart"].split()
    assert program == [f"{CURRENT}/bin/{COMMAND.name}", "serve"]
    assert not any(str(CURRENT).startswith(home) for home in HOMES)
    assert {(FOLDER / name).exists() for name in UNITS} == {True}


def test_the_settings_file_names_only_settings_and_lacks_only_what_is_required() -> (
    None
):
    example = FOLDER / "env.example"
    with pytest.raises(ConfigError) as caught:
        Settings.load(dot_env(example))
    assert [line.split()[0] for line in str(caught.value).splitlines()] == [
        "WHATSAPP_APP_SECRET",
        "DATABASE_URL",
        "WHATSAPP_VERIFY_TOKEN",
    ]
    config = "".join(
        path.read_text() for path in FOLDER.parent.glob("router/config/*.py")
    )
    offered = [
        line.lstrip("#").partition("=")[0]
        for line in example.read_text().splitlines()
        if line.startswith("#") and not line.startswith("# ") and "=" in line
    ]
    assert len(offered) > 15
    for name in offered:
        area = name.removeprefix("N8N_WEBHOOK_")
        assert f'"{name}"' in config or area != name, name


def test_the_unit_is_hardened(systemd_analyze: str) -> None:
    limit = f"--threshold={EXPOSURE * 10:.0f}"
    words = [systemd_analyze, "security", "--offline=true", "--no-pager", limit]
    done = subprocess.run(
        [*words, str(FOLDER / "psi-router.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_finds_nothing_wrong_with_the_units(
    systemd_analyze: str, tmp_path: Path
) -> None:
    for name in ("psi-router.service", "psi-router.socket"):
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(
            text.replace(f"{CURRENT}/bin/psi-router", "/bin/sh")
        )
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", "psi-router.service"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
