-- Events that are neither a message of a conversation nor a status, each kept once.
-- $1-$4 (key, kind, payload, received_at)
insert into router.notices (key, kind, payload, received_at)
select k, kind, payload::jsonb, at
from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) as n (k, kind, payload, at)
order by k
on conflict do nothing returning key
