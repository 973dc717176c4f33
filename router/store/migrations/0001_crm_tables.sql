-- no-transaction
-- The CRM's tables, as far as the router reads or writes them. On a database that the CRM
-- already fills, only what is missing is added; nothing is dropped, retyped or rewritten.
-- Every default below is a constant or a stable function, so adding a column rewrites no row.
-- A column that a table lacks comes without a reference: to check one would lock both tables
-- while it reads all of them. Each statement locks one table of the CRM's, and for a moment.

create table if not exists contactos (
  id          uuid primary key default gen_random_uuid(),
  telefono    text not null unique
);
alter table contactos
  add column if not exists telefono    text,
  add column if not exists nombre      text,
  add column if not exists email       text,
  add column if not exists origen      text default 'whatsapp',
  add column if not exists estado      text default 'activo',
  add column if not exists notas       text,
  add column if not exists metadata    jsonb not null default '{}',
  add column if not exists created_at  timestamptz not null default now(),
  add column if not exists updated_at  timestamptz not null default now();

create table if not exists conversaciones (
  id           uuid primary key default gen_random_uuid(),
  contacto_id  uuid references contactos (id),
  telefono     text not null
);
alter table conversaciones
  add column if not exists contacto_id          uuid,
  add column if not exists telefono             text,
  add column if not exists area                 text not null default 'PSI Principal',
  add column if not exists estado               text not null default 'nueva',
  add column if not exists router_estado        text not null default 'principal',
  add column if not exists submenu_actual       text,
  add column if not exists subetiqueta          text,
  add column if not exists ultima_derivacion    text,
  add column if not exists ts_ultima_derivacion timestamptz,
  add column if not exists linea_origen         text not null default 'wsp4',
  add column if not exists desconectado_wsp4    boolean not null default false,
  add column if not exists inbox_fijo           text,
  add column if not exists asignado_a           text,
  add column if not exists ultimo_mensaje       text,
  add column if not exists ts_ultimo_mensaje    timestamptz,
  add column if not exists ventana_24h_fin      timestamptz,
  add column if not exists ventana_72h_fin      timestamptz,
  add column if not exists metadata             jsonb not null default '{}',
  add column if not exists created_at           timestamptz not null default now(),
  add column if not exists updated_at           timestamptz not null default now();

create table if not exists mensajes (
  id               uuid primary key default gen_random_uuid(),
  conversacion_id  uuid not null references conversaciones (id) on delete cascade,
  mensaje          text not null,
  tipo             text not null check (tipo in ('text', 'image', 'audio', 'video',
                     'document', 'location', 'contact', 'sticker')),
  direccion        text not null,
  remitente_tipo   text not null,
  timestamp        timestamptz not null
);
alter table mensajes
  add column if not exists conversacion_id      uuid,
  add column if not exists mensaje              text,
  add column if not exists tipo                 text,
  add column if not exists remitente_tipo       text,
  add column if not exists direccion            text,
  add column if not exists remitente_nombre     text,
  add column if not exists timestamp            timestamptz,
  add column if not exists whatsapp_message_id  text,
  add column if not exists whatsapp_context_id  text,
  add column if not exists mensaje_citado_id    uuid,
  add column if not exists media_url            text,
  add column if not exists media_type           text,
  add column if not exists media_filename       text,
  add column if not exists estado_envio         text,
  add column if not exists error_mensaje        text,
  add column if not exists metadata             jsonb not null default '{}',
  add column if not exists created_at           timestamptz not null default now();

create table if not exists tickets (
  id               uuid primary key default gen_random_uuid(),
  ticket_id        text not null unique,
  conversacion_id  uuid references conversaciones (id),
  telefono         text not null,
  area             text not null
);
alter table tickets
  add column if not exists ticket_id   text,
  add column if not exists conversacion_id uuid,
  add column if not exists telefono    text,
  add column if not exists area        text,
  add column if not exists origen      text default 'Router Automático',
  add column if not exists estado      text not null default 'abierto',
  add column if not exists prioridad   text not null default 'normal',
  add column if not exists metadata    jsonb not null default '{}',
  add column if not exists ts_abierto  timestamptz not null default now(),
  add column if not exists created_at  timestamptz not null default now(),
  add column if not exists updated_at  timestamptz not null default now();

create table if not exists derivaciones (
  id               uuid primary key default gen_random_uuid(),
  conversacion_id  uuid references conversaciones (id),
  telefono         text not null,
  area             text not null,
  ticket_id        text references tickets (ticket_id)
);
alter table derivaciones
  add column if not exists conversacion_id uuid,
  add column if not exists telefono       text,
  add column if not exists area           text,
  add column if not exists subetiqueta    text,
  add column if not exists inbox_destino  text,
  add column if not exists ticket_id      text,
  add column if not exists status         text not null default 'enviada',
  add column if not exists payload        jsonb not null default '{}',
  add column if not exists ts_derivacion  timestamptz not null default now();

create table if not exists audit_log (
  id  uuid primary key default gen_random_uuid()
);
alter table audit_log
  add column if not exists conversacion_id  uuid,
  add column if not exists telefono         text,
  add column if not exists actor            text not null default 'Router PSI',
  add column if not exists accion           text not null default '',
  add column if not exists datos            jsonb not null default '{}',
  add column if not exists created_at       timestamptz not null default now();
