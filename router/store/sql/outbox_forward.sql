-- A destination is back: what waits for a later attempt need not, the oldest first. What a
-- Retry-After asked for still holds.
--
-- A thousand rows at a time, from where the last portion ended; returns where this one did
-- (nothing: it was the last).
-- $1 destination, $2 after this time (null: now, by the database's clock, as all times of
-- the table), $3 after this id
with
waiting as materialized (
  select id, ctid as spot, next_attempt_at,
         case when not_before > now() then not_before else created_at end as due
  from router.outbox_open
  where destination = $1 and state = 'pending' and (next_attempt_at, id) > (coalesce($2, now()), $3)
  order by next_attempt_at, id
  limit 1000
),
moved as (
  update router.outbox_open o set next_attempt_at = w.due
  from (select w.spot, w.due from waiting w
        join lateral (select from router.outbox_open l where l.id = w.id
                      for no key update skip locked) l on true
        where w.due < w.next_attempt_at) w
  where o.ctid = w.spot and o.lease is null
)
select next_attempt_at, id from waiting
order by next_attempt_at desc, id desc
limit 1
