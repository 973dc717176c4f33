"""Serving with no more rights than it takes: what `migrate --grants ROLE` prints."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from router.cli.fake_graph import FakeGraph, fake_graph
from router.store import checkup
from router.store.database import Database
from router.store.dialect import PLAN
from router.store.ledger import Ledger
from router.store.migrate import migrations
from router.store.needs import functions, grants, rights, sequences
from router.store.upkeep import Upkeep
from tests.events import SilentDesk, body, message, received, text_message
from tests.faults.harness import HOST, connected, quiet, service
from tests.integration.test_identity import NEW, OLD, number_changed
from tests.integration.test_service import command

ROLE = "psi_router_serves"
TOKEN = "admin-token-of-the-roles"
WHO = "5491100000001"


@pytest.fixture
async def limited(database: str) -> AsyncIterator[str]:
    """The DSN of a role that may do what is written down, and nothing else."""
    async with connected(database) as owner:
        await owner.execute(f"drop role if exists {ROLE}; create role {ROLE} login")
        await owner.execute("revoke all on all functions in schema router from public")
        await owner.execute(grants(ROLE))
        yield database.replace("postgres@", f"{ROLE}@", 1)
        await owner.execute(f"drop owned by {ROLE}; drop role {ROLE}")


async def lines_of(dsn: str) -> list[str]:
    found = await checkup.look(dsn, PLAN)
    return [f"{one.what}: {one.detail}" for one in found if one.level == "fail"]


@asynccontextmanager
async def somebody_told() -> AsyncIterator[str]:
    """Lend the URL of a CRM that says yes to everything."""

    async def yes(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/", yes)
    async with TestServer(app, host=HOST) as server:
        yield str(server.make_url("/"))


async def test_a_whole_life_needs_no_more_than_what_is_written_down(
    database: str, limited: str, tmp_path: Path
) -> None:
    graph = FakeGraph(token="graph-token")
    async with (
        fake_graph(graph) as api,
        somebody_told() as url,
        connected(database) as owner,
        service(
            tmp_path,
            limited,
            N8N_WEBHOOK_INGESTA_ROUTER_WSP4=url,
            PSI_ADMIN_TOKEN=TOKEN,
            CLOUD_API_TOKEN="graph-token",
            CLOUD_API_BASE_URL=api.url,
            CLOUD_API_PHONE_NUMBER_ID="100000000000001",
            N8N_WEBHOOK_ENVIOS_ROUTER_CRM=url,
        ) as router,
    ):
        for number, text in enumerate(("Hola", "2", "22", "gracias")):
            sent = text_message(WHO, f"wamid.life{number}", text)
            assert await router.post(body(sent)) == (200, processed(1))
        said = await graph.taken(3)
        statuses = [status_of(said[0].wamid, word) for word in ("sent", "read")]
        assert await router.post(body(statuses=statuses)) == (200, processed(2))
        reaction = text_message(WHO, "wamid.heart") | {
            "type": "reaction",
            "reaction": {"message_id": "wamid.life0", "emoji": "❤"},
        }
        assert await router.post(body(reaction)) == (200, processed(1))
        assert (await router.post(b"{"))[0] == 200  # buried
        async with aiohttp.ClientSession() as session:
            address = f"http://{HOST}:{router.port}/api"
            headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "k1"}
            answer = await session.post(
                f"{address}/messages/send",
                json={"to": WHO, "text": "Acá estoy"},
                headers=headers,
            )
            assert answer.status == 202
            for path in (f"conversations/{WHO}", "messages/wamid.life2"):
                answer = await session.get(f"{address}/{path}", headers=headers)
                assert answer.status == 200
        await graph.taken(4)
        await quiet(database)
        waits = router.lines("stage_waits") + router.lines("upkeep_failed")
        assert waits == [], router.last_words()
        assert await owner.fetchval("select count(*) from tickets") == 1
        assert await owner.fetchval("select count(*) from audit_log") == 1
        assert await owner.fetchval("select count(*) from router.dead_letters") == 1


def processed(count: int) -> dict[str, Any]:
    return {"success": True, "processed": count, "failed": 0}


def status_of(wamid: str, word: str) -> dict[str, Any]:
    return {
        "id": wamid,
        "status": word,
        "timestamp": "1795000000",
        "recipient_id": WHO,
    }


async def test_people_are_moved_and_old_rows_swept_with_these_rights(
    database: str, limited: str
) -> None:
    async with connected(database) as owner:
        await owner.execute(
            "create table of_the_crm (contacto_id uuid references contactos (id))"
        )
    store = Database(limited)
    await store.open()
    ledger = Ledger(store, SilentDesk())
    for event in (message(OLD), message(NEW), number_changed()):
        await ledger.write(received(event))
    # The CRM's own table may not be read, so nobody is removed for good.
    (row,) = await store.fetch("select count(*) as n from contactos")
    assert row["n"] == 2
    await Upkeep(store, retention_days=0).sweep()
    (row,) = await store.fetch("select count(*) as n from router.deliveries")
    assert row["n"] == 0
    await store.close()


async def test_every_statement_is_allowed(limited: str) -> None:
    connection = await asyncpg.connect(limited)
    for path in (resources.files("router.store") / "sql").iterdir():
        if path.name.endswith(".sql"):
            await connection.execute(
                f"explain (generic_plan) {path.read_text('utf-8')}"
            )
    await connection.close()


async def test_the_commands_work_with_these_rights(
    limited: str, tmp_path: Path
) -> None:
    settings = {
        "DATABASE_URL": limited,
        "WHATSAPP_APP_SECRET": "s",
        "WHATSAPP_VERIFY_TOKEN": "t",
    }
    for words in (["doctor"], ["migrate", "--check"], ["dead-letters", "list"]):
        done = await asyncio.to_thread(command, *words, **settings)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_one_right_less_is_named(database: str, limited: str) -> None:
    assert await lines_of(limited) == []
    less = [(verb, f"table {table}", table) for table, verb in sorted(rights())]
    less += [("usage", f"sequence {name}", name) for name in sequences()]
    less += [("execute", f"function {name}", name) for name in functions()]
    async with connected(database) as owner:
        for verb, what, name in less:
            await owner.execute(f"revoke {verb} on {what} from {ROLE}")
            assert f"rights: no {verb.upper()} on {name}" in await lines_of(limited)
            await owner.execute(f"grant {verb} on {what} to {ROLE}")
    assert await lines_of(limited) == []


async def test_who_had_the_table_has_its_partitions_by_the_migration(
    database: str, limited: str
) -> None:
    (room,) = (m.text for m in migrations() if m.name.startswith("0013"))
    async with connected(database) as owner:
        # As they were granted before anybody asked the partitions.
        await owner.execute(
            f"revoke all on router.outbox_open, router.outbox_ended from {ROLE}"
        )
        assert await lines_of(limited)
        await owner.execute(room)
    assert await lines_of(limited) == []


async def test_it_may_not_change_the_tables(limited: str) -> None:
    connection = await asyncpg.connect(limited)
    for statement in (
        "drop table mensajes",
        "truncate contactos",
        "delete from mensajes",
        "delete from conversaciones",
        "alter table tickets add column x text",
        "create table router.mine (x int)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


def test_the_script_quotes_the_role() -> None:
    assert 'on mensajes to "a ""b";' in grants('a "b')
    assert "truncate" not in grants("x")
