"""FastAPI under uvicorn: one transaction a message, answered when it is committed.

With AFTER=1 it answers first and stores afterwards, in a background task, as PyWa's
receiver calls its handlers. uvicorn bench.baselines.fast:app
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

import asyncpg
from fastapi import BackgroundTasks, FastAPI, Header, HTTPException, Request

from bench.baselines.reading import SIGNATURE, Message, read, settings, signed

POOL = 10
_, DSN, SECRET = settings()
AFTER = os.environ.get("AFTER") == "1"

CONTACT = "select id from contactos where telefono = $1"
NEW_CONTACT = """
insert into contactos (telefono, nombre) values ($1, $2)
on conflict (telefono) do update set updated_at = now() returning id"""
CONVERSATION = """
insert into conversaciones (contacto_id, telefono, ultimo_mensaje, ts_ultimo_mensaje,
  ventana_24h_fin)
values ($1, $2, left($3, 500), to_timestamp($4::float8),
  to_timestamp($4::float8) + interval '24 hours')
on conflict (telefono) where estado <> 'cerrada' do update set
  ultimo_mensaje = excluded.ultimo_mensaje, ts_ultimo_mensaje = excluded.ts_ultimo_mensaje,
  ventana_24h_fin = excluded.ventana_24h_fin, updated_at = now()
returning id"""
MESSAGE = """
insert into mensajes (conversacion_id, mensaje, tipo, direccion, remitente_tipo,
  remitente_nombre, timestamp, whatsapp_message_id, metadata)
values ($1, $2, $3, 'entrante', 'contact', $4, to_timestamp($5::float8), $6, $7::jsonb)
on conflict (whatsapp_message_id) do nothing"""


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the pool open while the application runs."""
    async with asyncpg.create_pool(DSN, min_size=POOL, max_size=POOL) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/webhook")
async def webhook(
    request: Request,
    background: BackgroundTasks,
    signature: Annotated[str | None, Header(alias=SIGNATURE)] = None,
) -> dict[str, Any]:
    """Store what a body holds, or promise to."""
    body = await request.body()
    if not signed(body, signature, SECRET):
        raise HTTPException(401)
    messages = read(body)
    if AFTER:
        background.add_task(store, request.app.state.pool, messages)
    else:
        await store(request.app.state.pool, messages)
    return {"success": True, "processed": len(messages), "failed": 0}


async def store(pool: asyncpg.Pool, messages: list[Message]) -> None:
    """Store one after the other, each in its own transaction."""
    for message in messages:
        async with pool.acquire() as connection, connection.transaction():
            await _store(connection, message)


async def _store(connection: asyncpg.Connection, m: Message) -> None:
    contact = await connection.fetchval(CONTACT, m.telefono)
    if contact is None:
        contact = await connection.fetchval(NEW_CONTACT, m.telefono, m.name)
    conversation = await connection.fetchval(
        CONVERSATION, contact, m.telefono, m.text, m.seconds
    )
    await connection.execute(
        MESSAGE, conversation, m.text, m.tipo, m.name, m.seconds, m.wamid, m.item
    )
