-- What trusted delivery needs to know of a row: how long it waits, and how long it must.

alter table router.outbox
  add column if not exists created_at  timestamptz not null default now(),
  -- internal: what a Retry-After asked for; a recovery brings nothing forward past it
  add column if not exists not_before  timestamptz,
  -- internal: a WhatsApp reply that may have left; what happened to it is found out by its
  -- status or by a person, and never by sending it again
  add column if not exists begun       boolean not null default false;

-- A lane belongs to one destination: a conversation's rows of another one, which may be away
-- for days, are not to be walked past.
alter table router.outbox drop column open_lane;
alter table router.outbox
  add column open_lane text                -- internal: the lane, while the row is pending
    generated always as (case when state = 'pending' then destination || ' ' || lane end) stored;
create index outbox_lane on router.outbox (open_lane, id) where open_lane is not null;

-- How loans ended, as a parameter (sql/outbox_settle.sql): one array of rows costs the driver
-- less than an array for each column.
create type router.note_row as (
  id bigint, token bigint, state text, delay_s float8, floor_s float8, ago_s float8,
  tried boolean, counts boolean, status integer, latency_ms integer, answer text, error text);

alter table router.dead_letters            -- internal: whose outbox row a letter was
  add column if not exists destination  text,
  add column if not exists key          text;

-- A status says what became of a reply of unknown outcome.
create index outbox_unknown on router.outbox (key) where state = 'unknown';
