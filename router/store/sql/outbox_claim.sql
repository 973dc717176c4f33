-- Lend due rows of one destination, in the order of their lanes.
--
-- Whoever claims takes a lane by the lock on its first pending row, its head. Nobody else
-- gets past a head that is locked, on loan, or waits for its time, so a lane is never in two
-- hands; a head that somebody took after our snapshot fails the recheck that comes with the
-- lock. The rows behind a head come along as far as they are due.
--
-- Found by outbox_due, so the backlog of another destination costs nothing, and by what is
-- still pending, never by a watermark: a number that commits late is just another row. Of a
-- backlog of few lanes most rows are nobody's head: so the oldest are looked at, not all of it.
-- A lane is looked up by open_lane, and by nothing that another index could serve: its state
-- is said so that the partition of the ended is left out, and no index of the pending fits.
-- $1 destination, $2 limit, $3 token, $4 seconds on loan, $5 bytes: rows are lent until
-- their payloads come to that; $6 seconds that a status waits for the next one (0: none);
-- $7 rows to look at
with
quick as materialized (select set_config('synchronous_commit', 'off', true) as set),
heads as materialized (
  select l.id, l.lane, l.next_attempt_at
  from (
    select o.id, o.lane
    from router.outbox o
    where o.destination = $1 and o.state = 'pending' and o.next_attempt_at <= now()
      and (o.lease_until is null or o.lease_until <= now()) and not o.begun
      and ($6 = 0 or o.created_at <= now() - make_interval(secs => $6)
           or substring(o.payload for 24) <> convert_to('{"type":"message.status"', 'UTF8'))
    order by o.next_attempt_at, o.id
    limit $7
  ) w
  cross join lateral (
    select o.id, o.lane, o.next_attempt_at
    from router.outbox o
    where o.id = w.id and o.state not in ('done', 'dead')
      and (o.lease_until is null or o.lease_until <= now())
    for update skip locked
  ) l
  where w.lane = '' or not exists (
    select from router.outbox e
    where e.open_lane = $1 || ' ' || w.lane and e.id < w.id
      and e.state not in ('done', 'dead'))
  limit $2
),
tails as materialized (
  -- No lane's second is wanted where there are firsts enough.
  select case when count(*) >= $2 then 1
         else least($2, 4 * $2 / greatest(count(*), 1)) end as each
  from heads
),
picked as materialized (
  select s.id from (
  select r.id,
         sum(r.size) over (order by r.place, h.next_attempt_at, r.id) - r.size as before
  from heads h
  cross join lateral (
    select b.id, b.size, row_number() over (order by b.id) as place,
           bool_and(b.next_attempt_at <= now()
                    and (b.lease_until is null or b.lease_until <= now()) and not b.begun)
             over (order by b.id) as due
    from (
      select id, next_attempt_at, lease_until, begun, octet_length(payload) as size
      from router.outbox
      where open_lane = $1 || ' ' || h.lane and id >= h.id and state not in ('done', 'dead')
        and id <= case h.lane when '' then h.id else 9223372036854775807 end
      order by id
      limit (select each from tails)
    ) b
  ) r
  where r.due
  order by r.place, h.next_attempt_at, r.id  -- every lane's first before anybody's second
  limit $2
  ) s
  where s.before < $5
)
update router.outbox o
set lease = $3, lease_until = now() + make_interval(secs => $4)
from quick, picked p
where o.id = p.id
  -- not "= 'pending'": that would invite a walk through the index of all pending rows
  and o.state not in ('done', 'dead', 'unknown')
  and (o.lease_until is null or o.lease_until <= now())
returning o.id, o.key, o.lane, o.payload, o.attempts
