"""What the TOML file may say of one destination's own policy."""

from pathlib import Path

import pytest

from router.config import Destination, Settings
from router.errors import ConfigError

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://127.0.0.1/psi",
    "WHATSAPP_VERIFY_TOKEN": "token",
    "WHATSAPP_APP_SECRET": "secret",
    "PSI_RETRY_SCHEDULE_S": "7,8",
    "PSI_DESTINATION_TIMEOUT_S": "4",
}
HEAD = (
    '[[destinations]]\nname = "bi"\nurl = "http://bi.example/"\n'
    'events = ["message.status"]\n'
)


def read(path: Path, policy: str) -> Destination:
    path = path / "psi.toml"
    path.write_text(HEAD + policy)
    (found,) = Settings.load({**ENVIRONMENT, "PSI_CONFIG": str(path)}).destinations
    return found


def test_a_destination_has_the_common_policy_unless_it_says_otherwise(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, "")
    assert (found.retry_schedule_s, found.timeout_s) == ((7.0, 8.0), 4.0)
    assert (found.concurrency, found.coalesce_statuses_s) == (8, 0.0)


def test_each_part_of_the_policy_can_be_its_own(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "retry_schedule_s = [1, 2.5]\ntimeout_s = 3\nconcurrency = 2\n"
        "coalesce_statuses_s = 1.5\n",
    )
    assert found.retry_schedule_s == (1.0, 2.5)
    assert (found.timeout_s, found.concurrency) == (3.0, 2)
    assert found.coalesce_statuses_s == 1.5


@pytest.mark.parametrize(
    "policy",
    [
        "timeout_s = 0",
        "timeout_s = 20",
        "timeout_s = 'soon'",
        "retry_schedule_s = [0]",
        "retry_schedule_s = ['x']",
        "retry_schedule_s = 5",
        "concurrency = 0",
        "concurrency = 1.5",
        "coalesce_statuses_s = -1",
        "coalesce_statuses_s = 61",
        "timeout = 5",
        "retries = 3",
    ],
)
def test_a_policy_that_makes_no_sense_is_an_error(tmp_path: Path, policy: str) -> None:
    with pytest.raises(ConfigError, match="PSI_CONFIG"):
        read(tmp_path, policy)


def test_what_is_said_of_a_wrong_destination_quotes_no_password(tmp_path: Path) -> None:
    path = tmp_path / "psi.toml"
    path.write_text(HEAD.replace("//bi", "//user:s3cret@bi") + "concurrency = 0\nx = 1")
    with pytest.raises(ConfigError) as raised:
        Settings.load({**ENVIRONMENT, "PSI_CONFIG": str(path)})
    assert "s3cret" not in str(raised.value)
