"""A shadow takes, stores and decides, and nothing leaves; then the two are compared."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from router.config import Settings
from router.errors import ConfigError
from router.store import shadow
from tests.events import body, text_message
from tests.faults.harness import SETTINGS, Service, Sink, connected, quiet, service
from tests.faults.test_process import reload

PHONE = "5491100000001"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "a-graph-token"
ROOT = Path(__file__).parents[2]


def command(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "router", *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **SETTINGS, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def now() -> str:
    return str(int(datetime.now(UTC).timestamp()))


def said(wamid: str, text: str, phone: str = PHONE) -> bytes:
    message = text_message(phone, wamid) | {"text": {"body": text}, "timestamp": now()}
    return body(message)


async def test_a_shadow_decides_everything_and_tells_nobody(
    database: str, tmp_path: Path
) -> None:
    assert command("shadow", "mark", DATABASE_URL=database).returncode == 0
    crm, graph = Sink(0), Sink(0)
    async with crm.running(), graph.running():
        settings = {
            "PSI_SHADOW": "1",
            "CLOUD_API_TOKEN": TOKEN,
            "CLOUD_API_PHONE_NUMBER_ID": "100000000000001",
            "CLOUD_API_BASE_URL": graph.url,
            "N8N_WEBHOOK_ENVIOS_ROUTER_CRM": crm.url,
            "WEBHOOK_SHARED_SECRET": TOKEN,
        }
        async with service(tmp_path, database, crm, **settings) as router:
            for number, text in enumerate(("Hola", "2", "22")):
                answer = await router.post(said(f"wamid.s{number}", text))
                assert answer == (200, {"success": True, "processed": 1, "failed": 0})
            await quiet(database)
            ready = orjson.loads((await router.get("/ready")).body)
            assert "shadow: nothing leaves" in ready["beside"]
    assert not crm.attempts
    assert not graph.attempts
    async with connected(database) as connection:
        replies = await connection.fetch(
            "select estado_envio from mensajes where direccion = 'saliente'"
        )
        (ticket,) = await connection.fetch("select * from tickets")
        told = await connection.fetch(
            "select o.state, a.answer from router.outbox o"
            " join router.attempts a on a.outbox_id = o.id"
        )
        said_to = "select count(*) from router.outbox where destination = 'whatsapp'"
        assert await connection.fetchval(said_to) == 0
    assert {row["estado_envio"] for row in replies} == {"no_enviado"}
    assert len(replies) == 3
    assert ticket["area"] == "Alumnos"
    assert len(told) == 4  # three messages, one derivation
    assert {tuple(row) for row in told} == {("done", "shadow: not sent")}


def test_a_shadow_has_no_token_to_send_by() -> None:
    settings = Settings(
        database_url="x",
        verify_token="x",
        app_secrets=(b"x",),
        graph_token=TOKEN,
        shadow=True,
    )
    assert settings.graph_token is None


async def test_a_shadow_refuses_a_database_that_is_not_marked_before_it_touches_it(
    empty_database: str,
) -> None:
    more = {"DATABASE_URL": empty_database, "PSI_MIGRATE": "1", "PSI_SHADOW": "1"}
    done = await asyncio.to_thread(command, "serve", **more)
    assert done.returncode == 78
    assert "shadow mark" in done.stderr
    async with connected(empty_database) as connection:
        assert await connection.fetchval("select to_regnamespace('router')") is None


async def test_a_shadow_does_not_start_while_nobody_can_say_whose_database_it_is() -> (
    None
):
    more = {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "PSI_SHADOW": "1"}
    assert (await asyncio.to_thread(command, "serve", **more)).returncode == 69


async def test_a_shadow_s_database_is_never_served_for_real(database: str) -> None:
    await shadow.check(database, shadow=False)
    await shadow.mark(database)
    await shadow.check(database, shadow=True)
    with pytest.raises(ConfigError, match="nobody was told"):
        await shadow.check(database, shadow=False)


async def test_only_a_migrated_database_can_be_marked(empty_database: str) -> None:
    with pytest.raises(ConfigError, match="migrate"):
        await shadow.mark(empty_database)


OLD_TABLES = """
create table conversaciones (id uuid primary key, telefono text, area text);
create table mensajes (id uuid primary key default gen_random_uuid(),
  conversacion_id uuid references conversaciones (id), mensaje text not null, tipo text,
  direccion text, timestamp timestamptz, whatsapp_message_id text);
insert into conversaciones values
  ('00000000-0000-0000-0000-000000000001', '+5491100000001', 'PSI Principal')"""


async def old_stored(connection: Any, wamid: str | None, text: str, tipo: str) -> None:
    await connection.execute(
        "insert into mensajes (conversacion_id, mensaje, tipo, direccion, timestamp,"
        " whatsapp_message_id) select id, $2, $3, 'entrante', now() - interval '5 min', $1"
        " from conversaciones",
        *(wamid, text, tipo),
    )


async def test_what_both_stored_is_compared_by_its_id_and_nothing_is_written(
    database: str, empty_database: str, tmp_path: Path
) -> None:
    await shadow.mark(database)
    async with connected(empty_database) as old:
        await old.execute(OLD_TABLES)
        await old_stored(old, "wamid.same", "Hola", "text")
        await old_stored(old, "wamid.text", "otra cosa", "text")
        await old_stored(old, "wamid.lost", "Hola", "text")
        await old_stored(old, None, "Hola", "text")
    async with service(tmp_path, database, PSI_SHADOW="1") as router:
        for wamid in ("wamid.same", "wamid.text", "wamid.extra"):
            assert (await router.post(said(wamid, "Hola")))[0] == 200
    async with connected(database) as connection:
        await connection.execute(
            "update mensajes set timestamp = now() - interval '5 min'"
        )
    urls = {"DATABASE_URL": database, "PSI_SHADOW_OF": empty_database}
    done = command("shadow", "compare", "--since", "1h", **urls)
    first, without, *rest = done.stdout.splitlines()
    assert first == (
        "in both 2, only in the old one 1, only in the shadow 1, different 1"
    )
    assert without.startswith("of the old one's 1 have no WhatsApp id")
    assert [line.split()[0:2] for line in rest][:2] == [
        ["only", "old"],
        ["only", "shadow"],
    ]
    assert " mensaje: old " in rest[2]
    assert done.returncode == 1
    for secret in (PHONE, "wamid.", "otra cosa"):
        assert secret not in done.stdout
    async with connected(empty_database) as old:
        assert await old.fetchval("select count(*) from mensajes") == 4


def test_a_shadow_is_no_shadow_of_itself() -> None:
    more = {"DATABASE_URL": "postgresql://h/a", "PSI_SHADOW_OF": "postgresql://h/a"}
    done = command("serve", **more)
    assert done.returncode == 78
    assert "PSI_SHADOW_OF" in done.stderr


async def test_two_that_agree_end_with_0(database: str, tmp_path: Path) -> None:
    await shadow.mark(database)
    async with service(tmp_path, database, PSI_SHADOW="1") as router:
        assert (await router.post(said("wamid.one", "Hola")))[0] == 200
    urls = {"DATABASE_URL": database, "PSI_SHADOW_OF": database}
    done = command("shadow", "compare", **urls)
    assert (done.returncode, done.stdout.split(",")[0]) == (0, "in both 1")


async def test_the_old_database_is_read_and_never_written(database: str) -> None:
    async with shadow._connected(database, read_only=True) as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("delete from mensajes")


def test_what_may_still_be_on_its_way_is_not_missing() -> None:
    at = SINCE + timedelta(hours=1)
    row = {"id": "a", "row": "1", "at": at, "telefono": "1", "tipo": "text"}
    assert shadow.compared([row], [], SINCE, at).only_old == []
    assert shadow.compared([row], [], SINCE, at + timedelta(seconds=1)).only_old == [
        row
    ]
    early = row | {"at": SINCE - timedelta(seconds=1)}
    assert shadow.compared([early], [], SINCE, at).only_old == []


async def test_a_reload_makes_no_shadow_real(database: str, tmp_path: Path) -> None:
    await shadow.mark(database)
    (tmp_path / ".env").write_text("PSI_SHADOW=1\n")
    router = Service(tmp_path, {"DATABASE_URL": database})
    router.start()
    try:
        await router.ready()
        (tmp_path / ".env").write_text(f"PSI_SHADOW=0\nCLOUD_API_TOKEN={TOKEN}\n")
        await reload(router)
        ready = orjson.loads((await router.get("/ready")).body)
        assert "shadow: nothing leaves" in ready["beside"]
        assert router.lines("reloaded")[-1]["needs_restart"] == ["shadow"]
    finally:
        router.kill()
