-- Lend one row of a destination that may be down, to see whether it is: what has waited
-- longest for its turn, also when its time has not come (`early`), but never before what a
-- Retry-After asked for.
--
-- As in outbox_claim.sql a lane is taken by the lock on its head, and each step has one way.
-- Rows behind a head lead to that head, so that a lane with a long tail cannot hide that there
-- is something to lend.
-- $1 destination, $2 token, $3 seconds on loan
with
quick as materialized (select set_config('synchronous_commit', 'off', true) as set),
heads as materialized (
  select h.id
  from (
    select id, lane from router.outbox_open
    where destination = $1 and state = 'pending'
    order by next_attempt_at, id
    limit 200
  ) o
  cross join lateral (
    select b.id, b.not_before, b.next_attempt_at, b.lease_until, b.begun
    from router.outbox_open b
    where b.open_lane = $1 || ' ' || o.lane
      and b.id + 0 >= case o.lane when '' then o.id else 0 end
    order by b.id + 0
    limit 1
  ) h
  where (h.not_before is null or h.not_before <= now())
    and (h.lease_until is null or h.lease_until <= now()) and not h.begun
  limit 1
),
picked as materialized (
  select h.id from heads h
  join lateral (select from router.outbox_open o where o.id = h.id
                for update skip locked) l on true
)
update router.outbox_open o
set lease = $2, lease_until = now() + make_interval(secs => $3)
from quick
where o.id = any(array(select id from picked)) and o.state <> 'unknown' and not o.begun
  and (o.lease_until is null or o.lease_until <= now())
returning o.id, o.key, o.lane, o.payload, o.attempts, o.next_attempt_at > now() as early
