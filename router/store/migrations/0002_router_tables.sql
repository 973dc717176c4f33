-- What is the router's own. The names, types and meanings are promises to the outside;
-- columns marked "internal" are not.

create table router.deliveries (           -- every authenticated body
  -- Each process takes a thousand numbers at once and hands them out by itself.
  id           bigint generated always as identity (increment by 1000) primary key,
  received_at  timestamptz not null,
  door         text not null,              -- meta, secret
  body         bytea not null
);

-- Who is writing this WhatsApp message right now. The truth about "stored already" is
-- mensajes itself; this key only makes two writers of one moment wait for each other, so it
-- needs no WAL: after a crash of the server it is empty and no writer is left to wait.
-- See docs/decisions/0003-dedupe.md.
create unlogged table router.claims (
  key  bytea primary key,                  -- 16 bytes of SHA-256 over the message id
  at   timestamptz not null default now()
);

create table router.statuses (             -- what became of what went out
  id               bigint generated always as identity primary key,
  key              bytea not null unique,  -- internal: digest of the columns that make it one
  phone_number_id  text,
  wamid            text,
  type             text not null default 'message',
  status           text,
  participant      text,
  ts               timestamptz,
  payload          jsonb not null,
  received_at      timestamptz not null
);
-- hash: an id may be longer than a btree key can be (2704 bytes)
create index statuses_wamid on router.statuses using hash (wamid);

create table router.notices (              -- neither a message of a conversation nor a status
  id           bigint generated always as identity primary key,
  key          text not null unique,
  kind         text not null,
  payload      jsonb not null,
  received_at  timestamptz not null
);

create table router.outbox (               -- what must still be told to whom
  id               bigint generated always as identity primary key,
  destination      text not null,
  key              text not null,          -- the webhook-id
  lane             text not null,          -- what must stay in order
  payload          bytea not null,         -- the very bytes that are sent
  attempts         integer not null default 0,
  next_attempt_at  timestamptz not null,
  state            text not null           -- pending, done, dead, unknown
    check (state in ('pending', 'done', 'dead', 'unknown')),
  open_lane        text                    -- internal: the lane, while the row is pending
    generated always as (case when state = 'pending' then lane end) stored,
  lease            bigint,                 -- internal: the fencing token of the holder
  lease_until      timestamptz             -- internal: when the holder is taken for dead
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 1000);
create index outbox_due on router.outbox (destination, next_attempt_at, id)
  where state = 'pending';
-- Over a column of its own: right after a vacuum of a table in which nothing is pending the
-- planner takes any index of pending rows for free, so no query may fit two of them.
create index outbox_lane on router.outbox (open_lane, id) where open_lane is not null;

create table router.attempts (
  id          bigint generated always as identity primary key,
  outbox_id   bigint not null,
  at          timestamptz not null,
  status      integer,
  latency_ms  integer,
  answer      text,
  error       text
);

create table router.dead_letters (
  id           bigint generated always as identity primary key,
  stage        text not null,              -- normalize, persist, notify
  reason       text not null,
  fingerprint  text not null unique,
  body         bytea not null,
  first_at     timestamptz not null,
  last_at      timestamptz not null,
  replayed_at  timestamptz
);

create table router.identities (           -- aliases of a contact
  scope        text not null,
  kind         text not null,              -- wa_id, bsuid, parent_bsuid, username
  value        text not null,
  contacto_id  uuid not null references contactos (id) on delete cascade,
  primary key (scope, kind, value)
);
create index identities_contacto_id on router.identities (contacto_id);

-- The rows of a batch as parameters (sql/record.sql): one array of rows a table costs the
-- driver a fifth of an array a column.
create type router.body_row as (id bigint, received_at timestamptz, door text, body bytea);
create type router.conversation_row as (
  id uuid, version xid, contacto_id uuid, telefono text, linea text,
  area text, estado text, router_estado text, submenu_actual text, subetiqueta text,
  ultima_derivacion text, derived_at timestamptz, unassigned boolean, metadata jsonb,
  preview text, ts timestamptz, inbound timestamptz, referred timestamptz);
create type router.message_row as (
  id uuid, conversacion_id uuid, mensaje text, tipo text, direccion text, remitente_tipo text,
  remitente_nombre text, ts timestamptz, whatsapp_message_id text, whatsapp_context_id text,
  media_type text, media_filename text, estado_envio text, error text, metadata jsonb,
  media_url text, citado uuid, context_tail text);
create type router.status_row as (
  key bytea, phone_number_id text, wamid text, type text, status text, participant text,
  ts timestamptz, payload jsonb, received_at timestamptz, state text, rank integer, error text, reply uuid);
create type router.notice_row as (
  key text, kind text, payload jsonb, received_at timestamptz, target text, target_tail text);
create type router.outbox_row as (
  destination text, key text, lane text, payload bytea, status bytea);
