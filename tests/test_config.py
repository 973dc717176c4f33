import re
from pathlib import Path

import pytest

from router.cli import main
from router.cli.environment import dot_env
from router.config import Settings, Storage
from router.config.addresses import is_link_local, literal
from router.config.lines import LINE_AREAS
from router.destinations.guard import Guard
from router.errors import ConfigError
from router.stages.desk import BULK, MEDIA, WHATSAPP
from router.store.dialect import WORDS

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


URL = 'url = "http://bi.example/"\n'
EVENTS = 'events = ["message.status"]\n'
BI = f'[[destinations]]\nname = "bi"\n{URL}{EVENTS}'
WSP4 = '[[lines]]\nname = "wsp4"\n'
LINK_LOCAL = "is a link-local address"
TIMEOUT = "PSI_DESTINATION_TIMEOUT_S"

# A variable, its wrong value, and what is said of it.
WRONG = [
    *(
        ("PSI_SIGNING_SECRET", secret, "PSI_SIGNING_SECRET is wrong, expected whsec_")
        for secret in (
            "whsec_",
            "whsec_MTIz,",
            "whsec_MTIz,,whsec_MTIz",
            ",",
            "whsec_!",
            "whsec_MTI",
            "whsec_ñ",
        )
    ),
    *(
        ("PSI_ALLOW_PRIVATE", f"n8n,{part}", f"PSI_ALLOW_PRIVATE: {part!r} is no host")
        for part in ("300.1.1.1", "10.0.0.0/99", "!!!", "a b", "*.lan", "n8n:5678")
    ),
    *(
        ("HOST", host, f"HOST is {host!r}, expected an address or")
        for host in ("not a host!", "999.1.1.1", "a..b", "-a", "x" * 64, "http://a")
    ),
    ("N8N_WEBHOOK_ENVIOS_ROUTER_CRM", "http://169.254.169.254/", LINK_LOCAL),
    ("N8N_WEBHOOK_INGESTA_ROUTER_WSP4", "http://[fe80::1]:80/", LINK_LOCAL),
    ("N8N_WEBHOOK_INGESTA_ROUTER_WSP4", "http://2852039166/", LINK_LOCAL),
    (TIMEOUT, "20", f"{TIMEOUT} is '20', expected seconds > 0 and at most 19"),
]
# What the TOML file has, and what is said of it.
WRONG_FILES = [
    (BI + BI, "destination bi: there are two of this name"),
    *(
        (BI.replace("bi", name, 1), f"destination {name}: the router itself has")
        for name in (WHATSAPP, BULK, MEDIA)
    ),
    (BI.replace(URL, "url = 5\n"), "destination bi: url is no text"),
    (BI.replace(URL, 'url = ["http://u:hush@h/"]\n'), "destination bi: url is no text"),
    (BI.replace(URL, "url_env = 5\n"), "destination bi: url_env is 5"),
    (BI.replace(URL, 'url_env = "NOWHERE"\n'), "bi is no http"),
    (BI.replace(URL, ""), "bi is no http"),
    (BI.replace("bi.example", "169.254.169.254"), f"bi {LINK_LOCAL}"),
    *(
        (f"destinations = {value}", "destinations is no list")
        for value in ("5", "{}", '"x"')
    ),
    *(
        (f"destinations = [{value}]", "each of destinations needs a name")
        for value in ("5", '"x"', "{}", '{name = ["x"]}', '{name = ""}', "{name = 5}")
    ),
    (BI.replace(EVENTS, ""), "destination bi: no events, expected some of"),
    (BI.replace(EVENTS, "events = []"), "destination bi: no events, expected some of"),
    *(
        (BI.replace(EVENTS, f"events = {value}"), "destination bi: events is ")
        for value in ("5", '"message.status"', "[5]", '[["x"], "y"]', "{}")
    ),
    *(
        (f"{BI}retry_schedule_s = {value}", "destination bi: retry_schedule_s is ")
        for value in ("[]", '"123"', "5", "[true]", '["5"]', "{}")
    ),
    *(
        (f"{BI}{key} = {value}", f"destination bi: {key} is ")
        for key in ("timeout_s", "concurrency", "coalesce_statuses_s")
        for value in ('"3"', "true", "[3]", "nan")
    ),
    ("lines = 5", "lines is no list"),
    ("lines = {}", "lines is no list"),
    ('lines = ["x"]', "each of lines needs a name"),
    ('[[lines]]\nname = ""', "each of lines needs a name"),
    ("[[lines]]\nname = 5", "each of lines needs a name"),
    (
        f'{WSP4}phone_number_id = "1"\n{WSP4}phone_number_id = "2"',
        "line wsp4: there are two of this name",
    ),
    (
        f'{WSP4}phone_number_id = "1"\n[[lines]]\nname = "b"\nphone_number_id = 1',
        "line b: there are two lines of the number 1",
    ),
    (f'{WSP4}[[lines]]\nname = "b"', "line b: there are two lines without a phone"),
    *(
        (f"{WSP4}phone_number_id = {value}", "line wsp4: phone_number_id is ")
        for value in ("[]", '""', "true", "1.5")
    ),
    *(
        (f"{WSP4}area = {value}", "line wsp4: area is ")
        for value in ("5", '"Inventada"', "[]", '"ventas"', "false")
    ),
    *(
        (f"{WSP4}menu = {value}", "line wsp4: menu is ")
        for value in ("[]", "0", "true")
    ),
    *((f"{WSP4}menu_as = {value}", "line wsp4: menu_as is ") for value in ("[]", "5")),
    (f'{WSP4}messages_per_s = "80"', "line wsp4: messages_per_s is '80'"),
    *(
        (f"dialect = {value}", "dialect: expected")
        for value in ("5", '""', '" "', "[]")
    ),
    ("bot = 5", "bot is no table"),
    ("[bot]\nmenu_when_derived = []", "bot: menu_when_derived is []"),
    ('[bot]\nreplies_a_minute = "3"', "bot: replies_a_minute is '3'"),
    ("[bot]\ncolour = 1", "bot: unknown key colour"),
]


def with_file(path: Path, text: str) -> dict[str, str]:
    (path / "psi.toml").write_text(text, encoding="utf-8")
    return {"PSI_CONFIG": str(path / "psi.toml")}


@pytest.mark.parametrize(("name", "value", "problem"), WRONG)
def test_a_value_that_makes_no_sense_is_said_once(
    name: str, value: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as said:
        load(**{name: value})
    (line,) = str(said.value).splitlines()
    assert problem in line


@pytest.mark.parametrize(("text", "problem"), WRONG_FILES)
def test_what_a_file_says_wrongly_is_said_once(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as said:
        load(**with_file(tmp_path, text))
    (line,) = str(said.value).splitlines()
    assert problem in line
    assert "hush" not in line


@pytest.mark.parametrize("command", ["serve", "doctor"])
@pytest.mark.parametrize(
    "wrong",
    [
        *({name: value} for name, value, _ in WRONG),
        *({"file": text} for text, _ in WRONG_FILES),
    ],
)
def test_wrong_settings_end_a_command_with_78(
    wrong: dict[str, str],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("faulthandler.enable", lambda: None)
    monkeypatch.chdir(tmp_path)
    text = wrong.get("file")
    for name, value in {
        **ENOUGH,
        **(wrong if text is None else with_file(tmp_path, text)),
    }.items():
        monkeypatch.setenv(name, value)
    assert main([command]) == 78
    printed = capsys.readouterr()
    assert "ok    settings" not in printed.out
    assert (printed.out or printed.err).startswith(("psi-router: ", "fail  settings: "))


def test_problems_of_the_file_and_of_variables_are_in_one_message(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError) as said:
        load(
            HOST="999.1.1.1",
            PSI_SIGNING_SECRET=",",
            **with_file(tmp_path, f"dialect = 5\n{WSP4}area = 5\n{BI}timeout_s = 0"),
        )
    assert len(str(said.value).splitlines()) == 5


def test_a_destination_of_the_file_may_stand_for_a_variable_that_is_not_set(
    tmp_path: Path,
) -> None:
    file = f'[[destinations]]\nname = "envios_crm"\n{URL}events = []\ntimeout_s = 3\n'
    env = with_file(tmp_path, file)
    (destination,) = load(**env).destinations
    assert (destination.name, destination.events) == ("envios_crm", frozenset())
    with pytest.raises(ConfigError, match="N8N_WEBHOOK_ENVIOS_ROUTER_CRM is set"):
        load(**env, N8N_WEBHOOK_ENVIOS_ROUTER_CRM="http://127.0.0.1:5678/b")


def test_lines_differ_by_name_and_number_and_one_may_answer_for_any(
    tmp_path: Path,
) -> None:
    env = with_file(
        tmp_path,
        f'{WSP4}[[lines]]\nname = "b"\nphone_number_id = 2\narea = "Ventas"\n'
        '[[lines]]\nname = "c"\narea = ""\n',
    )
    lines = load(**env, CLOUD_API_PHONE_NUMBER_ID="1").lines
    assert [line.phone_number_id for line in lines] == ["1", "2", None]
    assert [line.area for line in lines] == [None, "Ventas", None]
    with pytest.raises(ConfigError, match="line b: there are two lines of the number"):
        load(**env, CLOUD_API_PHONE_NUMBER_ID="2")


def test_the_areas_of_lines_are_those_of_the_database() -> None:
    assert WORDS["area"] == LINE_AREAS


def test_hosts_and_networks_may_be_private() -> None:
    parts = (
        "n8n, my_n8n.lan., ñandú.example, 10.0.0.0/8, 10.1.2.3/8, ::1, [::1], fc00::/7"
    )
    assert len(load(PSI_ALLOW_PRIVATE=f"{parts},").allow_private) == 8


@pytest.mark.parametrize("host", ["127.0.0.2", "::", "localhost", "127.1", "a.invalid"])
def test_a_host_is_an_address_or_may_be_a_name(host: str) -> None:
    assert load(HOST=host).host == host


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "169.254.43518",
        "0xa9fea9fe",
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "2606:4700::1111",
        "2002:0a00:1::1",
    ],
)
def test_settings_call_link_local_what_the_guard_refuses_to_all(host: str) -> None:
    address = literal(host)
    assert address
    assert is_link_local(host) is not Guard().allows(address, trusted=True)
