-- A dead letter, and the body that it came in unless that is archived already.
-- $1 stage, $2 reason, $3 fingerprint, $4 bytes; $5-$7 body (received_at, door, bytes) or nulls;
-- $8-$9 of what could not be told: destination and webhook-id, or nulls
with
archived as (
  insert into router.deliveries (received_at, door, body)
  select $5::timestamptz, $6::text, $7::bytea where $7::bytea is not null
  returning id
),
buried as (
  insert into router.dead_letters (stage, reason, fingerprint, body, first_at, last_at,
                                   destination, key)
  values ($1, $2, $3, $4, now(), now(), $8, $9)
  on conflict (fingerprint) do update set last_at = now()
)
select id from archived
