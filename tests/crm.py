"""Databases as a CRM leaves them: two shapes, with rows, duplicates and oddities."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from router.store.migrate import migrate

WRITE_S = 0.005  # between two writes

# What the plan's documents say, before the router: no line, no flags, no preview, no
# direction; a CHECK of mensajes.tipo from before stickers, with a default that it refuses.
PLAN = """
create table contactos (
  id uuid primary key default gen_random_uuid(), telefono text not null unique, nombre text,
  email text, origen text, estado text, area text, ubicacion text, notas text,
  last_activity timestamptz, created_at timestamptz default now(), updated_at timestamptz);
create table conversaciones (
  id uuid primary key default gen_random_uuid(), contacto_id uuid references contactos (id),
  telefono text not null, area text default 'PSI Principal', estado text default 'nueva'
    check (estado in ('nueva', 'activa', 'esperando', 'resuelta', 'cerrada')),
  router_estado text default 'principal', subetiqueta text, submenu_actual text,
  last_message_at timestamptz, ts_ultimo_mensaje timestamptz, inbox_id text, metadata jsonb,
  created_at timestamptz default now(), updated_at timestamptz default now());
create table mensajes (
  id uuid primary key default gen_random_uuid(),
  conversacion_id uuid not null references conversaciones (id) on delete cascade,
  mensaje text not null,
  tipo text default 'texto' constraint mensajes_tipo_check check (
    tipo in ('text', 'image', 'audio', 'video', 'document', 'location', 'contact')),
  remitente_tipo text, remitente_nombre text, remitente_id uuid, timestamp timestamptz,
  whatsapp_message_id text, metadata jsonb default '{}', created_at timestamptz default now());
create table tickets (
  id uuid primary key default gen_random_uuid(), ticket_id text not null unique,
  conversacion_id uuid, telefono text not null, area text not null, origen text default 'n8n',
  estado text default 'abierto', prioridad text default 'normal', metadata jsonb,
  created_at timestamptz default now(), updated_at timestamptz default now());
"""
# What the CRM of January 2026 says of itself: its words, varchars, a time without a zone, more
# columns than anybody reads, and an audit_log of another kind.
CRM_2026 = """
create table contactos (
  id uuid primary key default gen_random_uuid(), telefono varchar(30) not null unique,
  nombre varchar(120), email text, tipo text default 'lead', origen text default 'whatsapp',
  estado text default 'activo', estado_lead text default 'nuevo', curso_interes text,
  pais text, pais_codigo text, notas text, metadata jsonb default '{}',
  created_at timestamptz default now(), updated_at timestamptz default now());
create table conversaciones (
  id uuid primary key default gen_random_uuid(), contacto_id uuid references contactos (id),
  telefono varchar(30) not null, area varchar(40) default 'wsp4', estado text default 'activa'
    check (estado in ('nueva', 'activa', 'derivada', 'esperando', 'resuelta', 'cerrada')),
  router_estado text default 'menu_principal', menu_actual text, ultimo_mensaje text,
  linea_origen text not null default 'wsp4', canal text default 'whatsapp',
  prioridad text default 'normal', sin_leer integer default 0, inbox_fijo text,
  desconectado_wsp4 boolean default false, desconectado_ventas_api boolean default false,
  asignado_a text, asignado_nombre text, asignado_ts timestamptz,
  ultimo_mensaje_at timestamptz, ts_ultimo_mensaje timestamptz, metadata jsonb default '{}',
  created_at timestamptz default now(), updated_at timestamptz default now());
create table mensajes (
  id uuid primary key default gen_random_uuid(),
  conversacion_id uuid references conversaciones (id) on delete cascade,
  mensaje text, tipo varchar(20) not null default 'text' constraint mensajes_tipo_check check (
    tipo in ('text', 'image', 'audio', 'video', 'document', 'location', 'contact')),
  direccion text not null check (direccion in ('entrante', 'saliente')),
  remitente_tipo text check (remitente_tipo in ('contacto', 'sistema', 'agente')),
  remitente_nombre text, remitente_id text, timestamp timestamp,
  whatsapp_message_id varchar(255), whatsapp_context_id text, mensaje_citado_id uuid,
  media_url text, media_type text, media_filename text, duracion integer, enviado boolean,
  entregado boolean, leido boolean, fallido boolean, estado_envio text, error_mensaje text,
  editado boolean default false, metadata jsonb default '{}',
  created_at timestamptz default now());
create index idx_mensajes_whatsapp_message_id on mensajes (whatsapp_message_id);
create table tickets (
  id uuid primary key default gen_random_uuid(), ticket_id text not null unique,
  conversacion_id uuid, telefono text not null, area text not null, origen text default 'n8n',
  estado text default 'abierto', prioridad text default 'normal', asignado_a integer,
  metadata jsonb default '{}', ts_abierto timestamptz default now(),
  created_at timestamptz default now(), updated_at timestamptz default now());
create table derivaciones (
  id uuid primary key default gen_random_uuid(), conversacion_id uuid, telefono text not null,
  area text not null, inbox_destino text, api_destino text, status text default 'enviada',
  payload jsonb default '{}', ts_derivacion timestamptz default now(), ts_ack timestamptz,
  ticket_id text);
create table audit_log (
  id uuid primary key default gen_random_uuid(), entidad text not null, entidad_id text,
  accion text not null, detalles jsonb, usuario_email text, created_at timestamptz default now());
"""
SHAPES = {"plan": PLAN, "crm-2026": CRM_2026}
INBOUND = {"plan": "contact", "crm-2026": "contacto"}

# $messages, $people: a person for fifty messages; one in ten has two open conversations; of
# a hundred messages the last two share an id. Foreign keys are not checked row by row.
FILL = """
set session_replication_role = replica;
insert into contactos (telefono, nombre)
  select '54911' || lpad(n::text, 8, '0'), 'Ana' from generate_series(1, {people}) n;
insert into conversaciones (contacto_id, telefono, estado, ts_ultimo_mensaje)
  select c.id, c.telefono, 'activa', now() - n * interval '1 day'
  from contactos c cross join generate_series(1, 2) n
  where n = 1 or c.telefono like '%0';
insert into mensajes (conversacion_id, mensaje, tipo, {more} remitente_tipo, timestamp,
                      whatsapp_message_id)
  select v.ids[1 + n % array_length(v.ids, 1)], 'Hola ' || n, 'text', {values} '{inbound}',
    now() - n * interval '1 minute', 'wamid.OLD' || (n - (n % 100 = 99)::int)
  from generate_series(1, {messages}) n, (select array_agg(id) as ids from conversaciones) v;
insert into tickets (ticket_id, telefono, area)
  values ('PSI-2026-000041', '1', 'Alumnos'), ('PSI-VIEJO', '2', 'Alumnos');
reset session_replication_role;
analyze;
"""

# All that was there: columns, constraints, indexes, and where each table's rows are.
THERE = """
select 'column ' || a.attrelid::regclass || '.' || a.attname || ' '
       || format_type(a.atttypid, a.atttypmod) as what
from pg_attribute a join pg_class c on c.oid = a.attrelid
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0
  and not a.attisdropped
union all
select 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid)
from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'index ' || pg_get_indexdef(indexrelid) from pg_index i join pg_class c on c.oid = i.indexrelid
where c.relnamespace = 'public'::regnamespace and i.indisvalid
union all
select 'file ' || relname || ' ' || relfilenode from pg_class
where relnamespace = 'public'::regnamespace and relkind = 'r'
"""


class Rows(NamedTuple):
    """What a table's old rows add up to."""

    many: int
    digest: int


NONE = Rows(0, 0)


@dataclass(slots=True)
class Crm:
    """One database of a CRM's, and what happened to it."""

    dsn: str
    shape: str
    there: set[str] = field(default_factory=set)  # before
    rows: Rows = NONE
    writes_s: list[float] = field(default_factory=list)  # while it was migrated
    applied: list[str] = field(default_factory=list)

    async def fill(self, messages: int) -> None:
        """Make the tables, with *messages* rows."""
        more = ("direccion,", "'entrante',") if self.shape == "crm-2026" else ("", "")
        text = FILL.format(
            people=messages // 50,
            messages=messages,
            inbound=INBOUND[self.shape],
            more=more[0],
            values=more[1],
        )
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(SHAPES[self.shape] + text)
        await connection.close()
        self.there, self.rows = await self.look(), await self.old_rows()

    async def ask(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Run *sql* by itself."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async def look(self) -> set[str]:
        """Return all columns, constraints, valid indexes and files of the CRM's tables."""
        return {row["what"] for row in await self.ask(THERE)}

    async def old_rows(self) -> Rows:
        """Return what the messages that were there add up to, in their own columns."""
        (row,) = await self.ask(
            "select count(*) as many, sum(hashtext(concat(id, conversacion_id, mensaje, tipo,"
            " remitente_tipo, timestamp, whatsapp_message_id))::bigint)::bigint as digest"
            " from mensajes where whatsapp_message_id like 'wamid.OLD%'"
        )
        return Rows(row["many"], row["digest"])

    async def migrate(self, *, held_s: float) -> None:
        """Migrate while the CRM writes, and has a transaction open for *held_s*."""
        done = asyncio.Event()
        writer = asyncio.create_task(self._write_until(done))
        reader = asyncio.create_task(self._read_for(held_s))
        try:
            self.applied = await migrate(self.dsn)
        finally:
            done.set()
            await asyncio.gather(writer, reader)

    async def _write_until(self, done: asyncio.Event) -> None:
        connection = await asyncpg.connect(self.dsn)
        more = ("direccion,", "'entrante',") if self.shape == "crm-2026" else ("", "")
        message = (
            f"insert into mensajes (conversacion_id, mensaje, tipo, {more[0]} remitente_tipo,"  # noqa: S608 -- ours
            f" timestamp) select id, 'nuevo', 'text', {more[1]} $1, now() from conversaciones"
            " limit 1"
        )
        number = 0
        while not done.is_set():
            number += 1
            began = time.monotonic()
            await connection.execute(
                "insert into contactos (telefono) values ($1)", f"w{number}"
            )
            await connection.execute(message, INBOUND[self.shape])
            await connection.execute(
                "update conversaciones set updated_at = now() where ctid = '(0,1)'"
            )
            await connection.execute("update tickets set updated_at = now()")
            self.writes_s.append(time.monotonic() - began)
            await asyncio.sleep(WRITE_S)
        await connection.close()

    async def _read_for(self, seconds: float) -> None:
        connection = await asyncpg.connect(self.dsn)
        async with connection.transaction():
            for table in ("mensajes", "conversaciones", "contactos"):
                await connection.fetchval(f"select 1 from {table} limit 1")  # noqa: S608 -- ours
            await asyncio.sleep(seconds)  # a report that somebody looks at
        await connection.close()
