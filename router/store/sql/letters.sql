-- Dead letters, the oldest first, a page at a time; the bytes only where they are asked for.
-- A letter that came again after its replay is as new.
-- $1 ids or null, $2 since or null, $3 destination or null, $4 stage or null, $5 in its reason
-- or null, $6 only those not replayed, $7 after this id, $8 how many, $9 with bytes
select id, stage, reason, first_at, last_at, replayed_at, destination, key,
  octet_length(body) as size, case when $9::boolean then body end as body
from router.dead_letters
where id > $7::bigint
  and ($1::bigint[] is null or id = any($1::bigint[]))
  and ($2::timestamptz is null or last_at >= $2)
  and ($3::text is null or destination = $3)
  and ($4::text is null or stage = $4)
  and ($5::text is null or position(lower($5) in lower(reason)) > 0)
  and (not $6::boolean or replayed_at is null or replayed_at < last_at)
order by id
limit $8::integer
