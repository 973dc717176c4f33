"""Backup, restore and the copy for a rehearsal, by the very commands of docs/operations.md."""

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from router.store import shadow
from router.store.migrate import behind, migrate
from tests.events import body, text_message
from tests.faults.harness import Sink, connected, quiet, service
from tests.servers import Postgres

ROOT = Path(__file__).parents[2]
PHONE = "5491100000001"
PENDING = """
insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
values ('whatsapp', 'psi_reply', 'a', '{}', now(), 'pending'),
       ('ingesta_wsp4', 'psi_told', 'b', '{"message":"waiting"}', now(), 'pending')"""


MESSAGES = "select count(*) from mensajes where direccion = 'entrante'"


def commands(*programs: str) -> list[str]:
    """Return the lines of the paper's shell blocks that begin with one of *programs*."""
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.split(" ")[0] in programs]


def run(line: str, there: Path, binaries: Path, **env: str) -> None:
    path = f"{binaries}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=there,
        env={"PATH": path, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"


async def test_a_restored_dump_is_a_router_s_database_and_nobody_hears_twice(
    database: str,
    postgres: Postgres,
    postgres_binaries: Path,
    tmp_path: Path,
) -> None:
    dump, *restore = (
        line
        for line in commands("pg_dump", "pg_restore", "psql")
        if "psi.dump" in line or line.startswith('psql "$DATABASE_URL"')
    )
    assert len(restore) == 2
    async with service(tmp_path, database) as router:
        for number in range(20):
            data = body(text_message(PHONE, f"wamid.b{number}"))
            assert (await router.post(data))[0] == 200
    async with connected(database) as connection:
        await connection.execute(PENDING)
    run(dump, tmp_path, postgres_binaries, DATABASE_URL=database)
    async with postgres.database() as name:
        dsn = postgres.dsn(name)
        for line in restore:
            run(line, tmp_path, postgres_binaries, DATABASE_URL=dsn)
        assert await behind(dsn) == []
        crm = Sink(0)
        async with crm.running(), service(tmp_path, dsn, crm) as router:
            known = body(text_message(PHONE, "wamid.b7"))
            fresh = body(text_message(PHONE, "wamid.new"))
            for data in (known, fresh):
                assert (await router.post(data))[1]["processed"] == 1
            await quiet(dsn)
            async with connected(dsn) as connection:
                rows = await connection.fetchval(MESSAGES)
                reply = "select state from router.outbox where destination = 'whatsapp'"
                assert await connection.fetchval(reply) == "unknown"
                assert (
                    await connection.fetchval("select count(*) from conversaciones")
                    == 1
                )
        assert rows == 21
    assert "psi_told" in crm.attempts
    assert set(crm.told) == {"waiting", "Hola"}


CRM = """
create function public.calls_somebody() returns trigger language plpgsql as $$
begin raise exception 'it left'; end $$;
create trigger webhook after insert on mensajes for each row
execute function public.calls_somebody();
alter table mensajes enable row level security"""


async def test_the_copy_for_a_rehearsal_has_the_rows_and_no_trigger(
    database: str, postgres: Postgres, postgres_binaries: Path, tmp_path: Path
) -> None:
    copying = [
        line
        for line in commands("createdb", "pg_dump", "pg_restore")
        if "psi.dump" not in line
    ]
    assert len(copying) == 4
    async with service(tmp_path, database) as router:
        assert (await router.post(body(text_message(PHONE, "wamid.one"))))[0] == 200
    async with connected(database) as connection:
        await connection.execute(CRM)
    tcp = urlsplit(postgres.dsn(urlsplit(database).path[1:], tcp=True))
    server = f"{tcp.scheme}://{tcp.netloc}"
    for line in copying:
        run(line, tmp_path, postgres_binaries, CRM=tcp.geturl(), SERVER=server)
    copy = postgres.dsn("psi_shadow")
    try:
        await migrate(copy)
        await shadow.mark(copy)
        async with service(tmp_path, copy, PSI_SHADOW="1") as router:
            for wamid in ("wamid.one", "wamid.two"):
                assert (await router.post(body(text_message(PHONE, wamid))))[0] == 200
        async with connected(copy) as connection:
            assert await connection.fetchval(MESSAGES) == 2
            assert await connection.fetchval("select count(*) from contactos") == 1
    finally:
        await postgres.execute("drop database psi_shadow")
