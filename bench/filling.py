"""Years of messages, made by one statement a table: the past of a router that has a past.

Twenty messages a conversation, a conversation a person; ids in the order of their time, as
the router makes them; columns, lengths and shares as in its own rows. Phones have 15 digits,
two more than any of that country.
"""

import shutil
import sys
import tempfile
import time

import asyncpg

EACH = 20  # messages of a conversation
CHUNK = 500_000
ROW_BYTES = (
    1700  # of a message with its indexes, its share of WAL, and room to build them
)

INDEXES = """
select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as made from pg_index
where indrelid = 'mensajes'::regclass and not indisprimary"""
# Ids that are ordered by n: version 7 in form, so that they fall where new ones would.
ID = "(lpad(to_hex(1640995200000 + {n} * 10), 12, '0') || '7000a000' || lpad(to_hex({n}), 12, '0'))::uuid"

PEOPLE = f"""
insert into contactos (id, telefono, nombre)
select {ID.format(n="n")}, '5491100' || lpad(n::text, 8, '0'), 'Persona ' || n
from generate_series(1, $1::int) n"""
CONVERSATIONS = f"""
insert into conversaciones (id, contacto_id, telefono, area, estado, router_estado,
  ultimo_mensaje, ts_ultimo_mensaje, ventana_24h_fin)
select {ID.format(n="n")}, {ID.format(n="n")}, '5491100' || lpad(n::text, 8, '0'),
  'Alumnos', 'activa', 'derivada', 'Gracias', t, t + interval '1 day'
from generate_series(1, $1::int) n, lateral (
  select timestamptz '2023-01-01' + n * interval '3 years' / $1 as t) as last"""
ALIASES = f"""
insert into router.identities (scope, kind, value, contacto_id)
select scope, kind, start || lpad(n::text, 8, '0'), {ID.format(n="n")}
from generate_series(1, $1::int) n, (values
  ('', 'wa_id', '5491100'), ('200000000000001', 'bsuid', 'AR.80000000')
) as k (scope, kind, start)"""
MESSAGES = f"""
insert into mensajes (id, conversacion_id, mensaje, tipo, direccion, remitente_tipo,
  remitente_nombre, timestamp, whatsapp_message_id, estado_envio, metadata, created_at)
select {ID.format(n="n")}, {ID.format(n="(1 + (n * 7919) % $3::bigint)")},
  (array['Hola', 'Buenas tardes, quería hacer una consulta', '¿Cuándo empiezan las clases?',
         'No puedo entrar al campus virtual, me pide la contraseña otra vez', 'Gracias'])[1 + n % 5],
  case when n % 8 = 0 then 'image' else 'text' end,
  case when inbound then 'entrante' else 'saliente' end,
  case when inbound then 'contact' when n % 5 = 3 then 'agent' else 'system' end,
  'Persona', t, wamid, case when inbound then null else 'read' end,
  jsonb_build_object('kind', 'message.text', 'delivery', n, 'item', jsonb_build_object(
    'id', wamid, 'from', '5491100', 'type', 'text', 'timestamp', n::text,
    'from_user_id', 'AR.80000000', 'text', jsonb_build_object('body', md5(n::text)))), t
from generate_series($1::bigint, $2::bigint) n, lateral (
  select n % 5 < 3 as inbound,
    timestamptz '2023-01-01' + n * (interval '3 years' / $4::float8) as t,
    'wamid.' || encode(decode('1c180d353439313130', 'hex') || decode(md5(n::text), 'hex')
      || decode(substr(md5((-n)::text), 1, 30), 'hex'), 'base64') as wamid) as made"""


async def fill(connection: asyncpg.Connection, rows: int) -> None:
    """Put so many messages, and whom they are of, into an empty migrated database."""
    if not rows:
        return
    _room(rows)
    people, began = max(1, rows // EACH), time.perf_counter()
    indexes = await connection.fetch(INDEXES)
    # Without the look-up of a foreign key for each row: they are right by construction.
    await connection.execute("set session_replication_role = replica")
    for index in indexes:
        await connection.execute(f"drop index {index['name']}")
    for statement in (PEOPLE, CONVERSATIONS, ALIASES):
        await connection.execute(statement, people)
    for start in range(1, rows + 1, CHUNK):
        end = min(rows, start + CHUNK - 1)
        await connection.execute(MESSAGES, start, end, people, rows)
    for index in indexes:
        await connection.execute(index["made"])
    await connection.execute("reset session_replication_role")
    print(f"{rows} rows made in {time.perf_counter() - began:.0f} s", flush=True)


def _room(rows: int) -> None:
    free, needed = shutil.disk_usage(tempfile.gettempdir()).free, rows * ROW_BYTES
    if free < needed:
        sys.exit(
            f"{rows} rows need about {needed / 1e9:.0f} GB, {free / 1e9:.0f} are free"
        )
