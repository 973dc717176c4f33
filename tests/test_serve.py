"""Where `serve` reads its settings, and what a SIGHUP changes."""

import itertools
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from router.cli.environment import HOME, SETTINGS, settings_here
from router.cli.serve import (
    Source,
    forget_what_a_reload_brought,
    settings_file,
    without_values,
)
from router.config import Destination, Settings
from router.errors import ConfigError
from tests.faults.harness import Load, Service, Sink, check, quiet, say
from tests.servers import until

READ = Settings(
    database_url="postgresql://router@db.example/crm",
    verify_token="token",
    app_secrets=(b"old",),
)
EMBEDDED = replace(READ, database_url="embedded:/var/lib/psi-router/postgres")
SEED = 48


def test_settings_come_from_a_reload_s_copy_before_the_credential(
    tmp_path: Path,
) -> None:
    runtime, credentials = tmp_path / "run", tmp_path / "credentials"
    env = {"RUNTIME_DIRECTORY": str(runtime), "CREDENTIALS_DIRECTORY": str(credentials)}
    assert settings_file({}) == Path(".env")
    assert settings_file(env) == credentials / "env"
    runtime.mkdir()
    (runtime / "env").touch()
    assert settings_file(env) == runtime / "env"
    forget_what_a_reload_brought(env)  # at a start: the credential is as new as that
    assert settings_file(env) == credentials / "env"
    forget_what_a_reload_brought(env)
    forget_what_a_reload_brought({})


def test_the_installed_command_finds_the_service_s_settings_and_a_checkout_s_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_here() == Path(".env")
    monkeypatch.setattr(sys, "prefix", str(HOME / "releases/1.0"))
    assert settings_here() == SETTINGS
    Path(".env").touch()
    assert settings_here() == Path(".env")


def reread(old: Settings, new: Settings, dsn: str = "") -> tuple[Settings, list[str]]:
    return Source(old, dsn or old.database_url, lambda: new).reread()


def test_a_reload_takes_secrets_destinations_and_the_password_of_the_database() -> None:
    new = replace(
        READ,
        app_secrets=(b"new", b"old"),
        destinations=(Destination(name="crm", url="https://crm.example/"),),
        database_url="postgresql://router:another@db.example/crm",
    )
    assert reread(READ, new) == (new, [])


def test_a_reload_keeps_what_a_process_has_once_and_names_it() -> None:
    new = replace(READ, port=4000, host="::1", loop="asyncio", queue_size=5)
    found, waiting = reread(READ, new)
    assert waiting == ["host", "port", "loop"]
    assert found == replace(READ, queue_size=5)


def test_a_reload_keeps_the_embedded_server_s_address() -> None:
    dsn = "postgresql://postgres@/postgres?host=/tmp/socket"
    new = replace(EMBEDDED, app_secrets=(b"new",))
    assert reread(EMBEDDED, new, dsn) == (replace(new, database_url=dsn), [])
    for other in (READ, replace(EMBEDDED, database_url="embedded:/elsewhere")):
        found, waiting = reread(EMBEDDED, other, dsn)
        assert (found.database_url, waiting) == (dsn, ["database_url"])
    found, waiting = reread(READ, EMBEDDED)
    assert (found.database_url, waiting) == (READ.database_url, ["database_url"])


def test_problems_are_told_without_the_values_they_quote() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(
            {
                "DATABASE_URL": "mysql://secret",
                "PSI_SIGNING_SECRET": "not-base64!",
                "WHATSAPP_APP_SECRET": "x",
                "WHATSAPP_VERIFY_TOKEN": "x",
                "PSI_CONFIG": "/nowhere",
            }
        )
    told = without_values(caught.value)
    assert sorted(told) == ["DATABASE_URL", "PSI_CONFIG", "PSI_SIGNING_SECRET"]
    assert without_values(TypeError("secret")) == ["TypeError"]


def told_to(directory: Path, url: str) -> None:
    """Write the settings that a reload reads."""
    (directory / ".env").write_text(f"N8N_WEBHOOK_INGESTA_ROUTER_WSP4={url}\n")


async def test_reloads_under_load_change_who_is_told_and_lose_nothing(
    database: str, tmp_path: Path
) -> None:
    sink, other = Sink(SEED), Sink(SEED)
    service = Service(tmp_path, {"DATABASE_URL": database})
    async with sink.running(), other.running():
        told_to(tmp_path, sink.url)
        service.start()
        await service.ready()
        load = Load(service.url, SEED, rate=200)
        async with load.running():
            for number, url in enumerate(alternating(other.url, sink.url, times=4), 1):
                await load.acks(60)
                told_to(tmp_path, url)
                service.send(signal.SIGHUP)
                await until(lambda: len(service.lines("reloaded")) == number)  # noqa: B023
            (tmp_path / ".env").write_text("PSI_LOOP=gevent\n")
            service.send(signal.SIGHUP)
            await until(lambda: service.lines("reload_refused"))
            await load.acks(60)
        await load.settle()
        await quiet(database)
        say(f"{load.ledger.answers}, {load.ledger.unknown} cut")
        assert sink.told
        assert other.told
        sink.told.update(other.told)
        sink.bodies.update(other.bodies)
        assert await check(database, load.ledger, sink) == {}
        assert set(load.ledger.answers) == {200}
        service.send(signal.SIGTERM)
        assert await service.exit_status(15) == 0
    assert service.lines("reload_refused")[0]["problems"] == ["PSI_LOOP"]


def alternating(first: str, second: str, *, times: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle((first, second)), times)
