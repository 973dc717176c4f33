-- no-transaction
-- What was asked for with an Idempotency-Key at /api/messages/send: the same again is
-- answered as the first time, and adds no message.
create table if not exists router.sends (
  key         text primary key,            -- as the CRM named it
  digest      bytea not null,              -- internal: of what was asked
  mensaje_id  uuid not null,
  at          timestamptz not null default now()
);

-- The row of a notification that was given up, to be told again: few, and found by name.
create index concurrently if not exists outbox_dead on router.outbox (destination, key)
  where state = 'dead';

-- The attempts of one notification, for who asks after it. They are appended as the outbox's
-- numbers grow, so a summary of each stretch is enough, and costs the sender nothing.
create index concurrently if not exists attempts_outbox_id on router.attempts
  using brin (outbox_id) with (pages_per_range = 16, autosummarize = on);
