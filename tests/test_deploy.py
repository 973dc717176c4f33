"""Facts that stand in two files agree."""

import importlib
import re
from pathlib import Path

from prometheus_client import REGISTRY

from router.cli import BAD_CONFIG
from router.config import Settings
from router.stages.ingress import MAX_BODY
from router.store.database import CLOSE_S
from router.supervisor import FLUSH_S

ROOT = Path(__file__).parents[1]
UNIT = (ROOT / "systemd/psi-router.service").read_text("utf-8")
NGINX = (ROOT / "nginx/psi-router.conf").read_text("utf-8")
SETTINGS = Settings(database_url="x", verify_token="x", app_secrets=(b"x",))


def value(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    assert found, pattern
    return found[1]


def test_systemd_waits_longer_than_a_stop_may_take() -> None:
    longest = SETTINGS.drain_timeout_s + FLUSH_S + CLOSE_S
    assert int(value(UNIT, r"TimeoutStopSec=(\d+)")) > longest


def test_systemd_does_not_restart_on_wrong_settings() -> None:
    assert int(value(UNIT, r"RestartPreventExitStatus=(\d+)")) == BAD_CONFIG


def test_nginx_takes_the_bodies_that_the_router_takes() -> None:
    megabytes = int(value(NGINX, r"client_max_body_size (\d+)m"))
    assert megabytes * 1024 * 1024 == MAX_BODY


def test_nginx_waits_longer_than_the_router_does() -> None:
    seconds = int(value(NGINX, r"proxy_read_timeout (\d+)s"))
    assert seconds > SETTINGS.ack_timeout_s


def test_nginx_and_the_router_agree_on_the_port() -> None:
    assert set(re.findall(r"server 127.0.0.1:(\d+)", NGINX)) == {str(SETTINGS.port)}


def test_every_metric_of_an_alarm_is_one_of_ours() -> None:
    importlib.import_module("router.app")  # all that is counted is named there
    ours = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in REGISTRY.collect()
    }
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    others = {"psi_shadow", "psi_router", "psi_queue"}  # a database, a role, an anchor
    named = set(re.findall(r"\bpsi_[a-z_]+_?[a-z]+\b", text)) - others
    assert len(named) > 10
    assert named <= ours


def test_every_setting_of_the_readme_is_read() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    config = "".join(
        path.read_text("utf-8") for path in ROOT.glob("router/config/*.py")
    )
    for name in re.findall(r"`(PSI_\w+|WHATSAPP_\w+|DATABASE_URL)`", readme):
        assert f'"{name}"' in config, name
