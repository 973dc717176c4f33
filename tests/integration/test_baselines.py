"""Whom the bench compares the router with does what it is measured for."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bench.load import Client, closed_loop, post
from bench.machine import HOST, OTHER_CORE, free_port, server
from bench.peers import PEERS, Peer, make_tables
from router.cli.traffic import Body, Traffic
from tests.servers import Postgres, until

SECRET = b"a-secret"
START = 1_790_000_000
BODIES, CONTACTS = 300, 40
ROWS = """
select whatsapp_message_id as wamid, m.telefono, metadata from mensajes
join (select v.id, c.telefono from conversaciones v join contactos c on c.id = contacto_id) m
  on m.id = conversacion_id"""
# What `make peers` has to make first runs with the long tests.
STORING = [
    pytest.param(p.name, marks=[pytest.mark.slow] if p.files else [])
    for p in PEERS
    if p.stores
]
COUNTS = (
    "select (select count(*) from contactos), (select count(*) from conversaciones)"
)


def bodies() -> list[Body]:
    traffic = Traffic(seed=7, start=START, contacts=CONTACTS, batch=2, duplicates=0.1)
    return list(traffic.bodies(2 * BODIES))


@asynccontextmanager
async def running(peer: Peer, dsn: str, place: Path) -> AsyncIterator[str]:
    port = free_port()
    command, env = peer.arguments(port), peer.settings(port, dsn, SECRET)
    async with server(OTHER_CORE, port, command, place / "peer.log", **env):
        yield f"http://{HOST}:{port}/webhook"


async def fetch(dsn: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


@pytest.mark.parametrize("baseline", STORING, indirect=True)
async def test_a_baseline_stores_once_what_it_answers_200(
    baseline: Peer, postgres: Postgres, tmp_path: Path
) -> None:
    sent = bodies()
    async with postgres.database() as name:
        dsn = postgres.dsn(name)
        await make_tables(dsn)
        async with running(baseline, dsn, tmp_path) as url:
            run = await closed_loop(url, [post(url, b.data, SECRET) for b in sent], 20)
            acked = {wamid for place in run.acked for wamid in sent[place].messages}

            async def stored() -> bool:
                return {row["wamid"] for row in await fetch(dsn, ROWS)} == acked

            if baseline.durable:
                assert await stored()
            else:
                await until(stored)
            assert len(run.acked) == len(sent)
            rows = await fetch(dsn, ROWS)
            people = {row["telefono"] for row in rows}
            assert max(Counter(row["wamid"] for row in rows).values()) == 1
            assert await fetch(dsn, COUNTS) == [(len(people), len(people))]
            assert 1 < len(people) <= CONTACTS


@pytest.mark.parametrize("baseline", STORING, indirect=True)
async def test_a_baseline_refuses_what_is_not_signed(
    baseline: Peer, postgres: Postgres, tmp_path: Path
) -> None:
    async with postgres.database() as name:
        dsn = postgres.dsn(name)
        await make_tables(dsn)
        async with running(baseline, dsn, tmp_path) as url:
            client = Client(url, 1)
            forged = await client.send(post(url, bodies()[0].data, b"another"))
            client.close()
        assert forged.status == HTTPStatus.UNAUTHORIZED
        assert await fetch(dsn, ROWS) == []
