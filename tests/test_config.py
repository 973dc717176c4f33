import re
from pathlib import Path

import pytest

from router.cli.environment import dot_env
from router.config import Settings, Storage
from router.errors import ConfigError

ENOUGH = {
    "DATABASE_URL": "postgresql://localhost/psi",
    "WHATSAPP_APP_SECRET": "one",
    "WHATSAPP_VERIFY_TOKEN": "token",
}


def load(**more: str) -> Settings:
    return Settings.load({**ENOUGH, **more})


def test_three_settings_are_enough() -> None:
    settings = load()
    assert (settings.host, settings.port) == ("127.0.0.1", 3002)
    assert [line.name for line in settings.lines] == ["wsp4"]
    assert settings.shared_secret is None


def test_every_problem_is_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load({"PORT": "http", "PSI_ACK_TIMEOUT_S": "-1", "PSI_LOOP": "gevent"})
    for name in (*ENOUGH, "PORT", "PSI_ACK_TIMEOUT_S", "PSI_LOOP"):
        assert name in str(caught.value)


@pytest.mark.parametrize("secret", ["", "  ", ",", "one,", "one,,two"])
def test_an_empty_secret_refuses_to_start(secret: str) -> None:
    with pytest.raises(ConfigError, match="WHATSAPP_APP_SECRET"):
        load(WHATSAPP_APP_SECRET=secret)


@pytest.mark.parametrize(
    "dsn", ["garbage", "mysql://h/d", "postgresql://u:hush@h:abc/d", "embedded:"]
)
def test_an_address_that_is_none_is_a_wrong_setting(dsn: str) -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL") as caught:
        load(DATABASE_URL=dsn)
    assert "hush" not in str(caught.value)


def test_tls_modes_are_those_of_postgresql() -> None:
    load(DATABASE_URL="postgresql://h/d?sslmode=verify-full")
    with pytest.raises(ConfigError, match="sslmode is none of disable, "):
        load(DATABASE_URL="postgresql://h/d?sslmode=verify")


def test_fewer_than_two_connections_are_too_few() -> None:
    assert load(PSI_DATABASE_CONNECTIONS="2").connections == 2
    with pytest.raises(ConfigError, match="PSI_DATABASE_CONNECTIONS is '1'"):
        load(PSI_DATABASE_CONNECTIONS="1")


def test_secrets_rotate() -> None:
    assert load(WHATSAPP_APP_SECRET="one, two").app_secrets == (b"one", b"two")


def test_no_secret_is_in_a_settings_repr() -> None:
    settings = load(
        WHATSAPP_APP_SECRET="hush", WEBHOOK_SHARED_SECRET="hush", CLOUD_API_TOKEN="hush"
    )
    for secret in ("hush", "postgresql", "'token'"):
        assert secret not in repr(settings)


def test_destinations_are_named_by_their_settings() -> None:
    settings = load(
        N8N_WEBHOOK_INGESTA_ROUTER_WSP4="http://127.0.0.1:5678/a",
        N8N_WEBHOOK_ENVIOS_ROUTER_VENTAS_1="http://127.0.0.1:5678/b",
    )
    names = {destination.name for destination in settings.destinations}
    assert names == {"ingesta_wsp4", "envios_ventas_1"}


def test_a_destination_that_is_the_router_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="itself"):
        load(N8N_WEBHOOK_INGESTA_ROUTER_WSP4="http://localhost:3002/webhook")


def test_structure_comes_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "psi.toml"
    path.write_text(
        '[[lines]]\nname = "wsp4"\nphone_number_id = "1"\n'
        "messages_per_s = 20\n"
        '[[destinations]]\nname = "bi"\nurl_env = "BI"\nevents = ["message.status"]\n'
        "timeout_s = 3\nretry_schedule_s = [1, 2]\n"
    )
    settings = load(PSI_CONFIG=str(path), BI="https://bi.example/in")
    (destination,) = settings.destinations
    assert (destination.url, destination.timeout_s) == ("https://bi.example/in", 3)
    assert destination.retry_schedule_s == (1.0, 2.0)
    assert settings.lines[0].phone_number_id == "1"
    assert settings.lines[0].messages_per_s == 20


@pytest.mark.parametrize(
    "text",
    [
        "lines = 1 =",
        "colour = 1",
        "[[lines]]\nphone_number_id = 1",
        '[[lines]]\nname = "a"\nmessages_per_s = 0',
        '[[lines]]\nname = "a"\nmessages_per_s = 1001',
        '[[lines]]\nname = "a"\nmessages_per_s = "many"',
        '[[destinations]]\nname = "x"\nurl = "ftp://x"\nevents = []',
        '[[destinations]]\nname = "x"\nurl = "http://x"\nevents = ["nothing"]',
        '[[destinations]]\nname = "x"\nevents = []',
    ],
)
def test_a_file_that_makes_no_sense_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "psi.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"PSI_CONFIG|no http"):
        load(PSI_CONFIG=str(path))


def test_a_dot_env_file_may_quote_and_comment(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# settings\nexport A='one # two'\nB=three # four\nC=\n")
    assert dot_env(path) == {"A": "one # two", "B": "three", "C": ""}


def test_a_broken_dot_env_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\nnonsense\n")
    with pytest.raises(ConfigError, match="line 2"):
        dot_env(path)


def test_files_go_to_a_directory_unless_it_is_said_otherwise() -> None:
    assert load().storage == Storage(directory="media", url="/media/")
    assert load(PSI_MEDIA="off").storage is None
    own = load(
        PSI_MEDIA="/srv/files",
        PSI_MEDIA_URL="https://f.example/x",
        PSI_MEDIA_MAX_MB="3",
    ).storage
    assert own == Storage(
        directory="/srv/files", url="https://f.example/x/", max_bytes=3 * 2**20
    )


def test_a_bucket_needs_its_keys_and_shows_none() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hush"}
    endpoint = "https://project.example/storage/v1/s3"
    settings = load(PSI_MEDIA="s3://files/a/b/", AWS_ENDPOINT_URL=endpoint, **keys)
    storage = settings.storage
    assert storage
    assert (storage.bucket, storage.prefix) == ("files", "a/b")
    assert (storage.endpoint, storage.region) == (endpoint, "us-east-1")
    assert "AKIA" not in repr(settings)
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"PSI_MEDIA": "s3://files"}, "AWS_ACCESS_KEY_ID is not set"),
        ({"PSI_MEDIA": "s3:///prefix"}, "PSI_MEDIA names no bucket"),
        ({"PSI_MEDIA": "s3://b", "AWS_ENDPOINT_URL": "x"}, "AWS_ENDPOINT_URL is no"),
        (
            {"PSI_MEDIA": "s3://b", "AWS_ENDPOINT_URL": "https://a:hush@x.test"},
            "AWS_ENDPOINT_URL holds a user's name",
        ),
        ({"PSI_MEDIA_MAX_MB": "0"}, "PSI_MEDIA_MAX_MB is '0'"),
    ],
)
def test_where_files_go_has_to_be_a_place(env: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as said:
        load(**env)
    assert "hush" not in str(said.value)


@pytest.mark.parametrize(
    "where",
    [
        "memory",
        "spool:/var/lib/psi-router/spool",
        "redis://user:hush@localhost:6379/1",
        "rediss://redis.example.org",
        "unix:///run/redis/redis.sock?db=2",
    ],
)
def test_a_queue_is_in_memory_in_a_directory_or_on_a_server(where: str) -> None:
    settings = load(PSI_QUEUE=where)
    assert settings.queue == where
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    "where", ["disk", "spool:", "spool", "redis:", "redis://", "http://hush@x", "unix:"]
)
def test_a_queue_that_is_none_is_a_wrong_setting_and_is_not_quoted(where: str) -> None:
    with pytest.raises(ConfigError, match=r"PSI_QUEUE is wrong") as caught:
        load(PSI_QUEUE=where)
    assert "hush" not in str(caught.value)
