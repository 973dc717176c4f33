-- Dead letters, the oldest first, a page at a time; the bytes only where they are asked for.
-- A letter that came again after its replay is as new.
-- $1 ids or null, $2 since or null, $3 destination or null, $4 stage or null, $5 in its reason
-- or null, $6 only those not replayed, $7 after this id, $8 how many, $9 with bytes, $10 until
-- or null, $11 what a person is called: in the bytes, or the lane of what was to be told, or null
select id, stage, reason, fingerprint, first_at, last_at, replayed_at, destination, key,
  octet_length(body) as size, case when $9::boolean then body end as body
from router.dead_letters
where id > $7::bigint
  and ($1::bigint[] is null or id = any($1::bigint[]))
  and ($2::timestamptz is null or last_at >= $2)
  and ($3::text is null or destination = $3)
  and ($4::text is null or stage = $4)
  and ($5::text is null or position(lower($5) in lower(reason)) > 0)
  and ($10::timestamptz is null or first_at <= $10)
  and ($11::text[] is null
       or exists (select from unnest($11::text[]) as n (name)
                  where position(convert_to(n.name, 'UTF8') in body) > 0)
       -- One for each partial index.
       or exists (select from router.outbox o
                  where o.destination = dead_letters.destination and o.key = dead_letters.key
                    and o.state = 'dead' and o.lane = any($11::text[]))
       or exists (select from router.outbox o
                  where o.key = dead_letters.key and o.state = 'unknown'
                    and o.lane = any($11::text[])))
  and (not $6::boolean or replayed_at is null or replayed_at < last_at)
order by id
limit $8::integer
