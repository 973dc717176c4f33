-- Nothing was to be lent: tidy up, and say in how many seconds the next row is due (null:
-- none is waiting).
--
-- What is due but stands behind a head that waits would be looked at by every claim until
-- the head's time comes: hours of arrivals, for a destination that is away. It gets the
-- head's time instead. What stands behind a head on loan is left alone, it may be next.
-- $1 destination
with
blocked as materialized (
  select o.id, o.spot, head.id as head, head.next_attempt_at
  from (
    select id, ctid as spot, lane from router.outbox_open
    where destination = $1 and state = 'pending' and next_attempt_at <= now() and lane <> ''
      and (lease_until is null or lease_until <= now())
    order by next_attempt_at, id
    limit 1000
  ) o
  cross join lateral (
    select h.id, h.next_attempt_at from router.outbox_open h
    where h.open_lane = $1 || ' ' || o.lane
    order by h.id + 0
    limit 1
  ) head
  where head.id < o.id and head.next_attempt_at > now()
),
parked as (
  update router.outbox_open o set next_attempt_at = b.next_attempt_at
  from (select b.* from blocked b
        join lateral (select from router.outbox_open l where l.id = b.id
                      for no key update skip locked) l on true
        -- Unless it is being brought forward: nobody would do that for these again.
        join lateral (select from router.outbox_open h
                      where h.id = b.head and h.next_attempt_at > now()
                      for share skip locked) h on true) b
  where o.ctid = b.spot and (o.lease_until is null or o.lease_until <= now())
)
select extract(epoch from w.next_attempt_at - now())::float8 as due_in_s
from router.outbox_open w
where w.destination = $1 and w.state = 'pending' and w.next_attempt_at > now()
order by w.next_attempt_at, w.id
limit 1
