-- Lend due rows of one destination, in the order of their lanes.
--
-- Whoever claims takes a lane by the lock on its first pending row, its head. Nobody else
-- gets past a head that is locked, on loan, or waits for its time, so a lane is never in two
-- hands; a head that somebody took after our snapshot fails the recheck that comes with the
-- lock. The rows behind a head come along as far as they are due.
--
-- Found by outbox_due, so the backlog of another destination costs nothing, and by what is
-- still pending, never by a watermark: a number that commits late is just another row. Of a
-- backlog of few lanes most rows are nobody's head: so the oldest are looked at, not all of it,
-- and where a head is due after what stands behind it (it was tried, and waited) that leads to it.
--
-- While a table is empty one look at a row seems to cost as much as a walk through all of it,
-- and a plan that was made then is kept when there is a backlog. So each step can only be done
-- in one way: a lane by outbox_lane ("+ 0": not by the primary key), and the rows to change by
-- an array of their ids (a join may begin at either side). A test asks for such plans.
-- $1 destination, $2 limit, $3 token, $4 seconds on loan, $5 bytes: rows are lent until
-- their payloads come to that; $6 seconds that a status waits for the next one (0: none);
-- $7 rows to look at
with
quick as materialized (select set_config('synchronous_commit', 'off', true) as set),
due as materialized (
  select id, lane, next_attempt_at from router.outbox_open
  where destination = $1 and state = 'pending' and next_attempt_at <= now()
    and (lease_until is null or lease_until <= now()) and not begun
  order by next_attempt_at, id
  limit $7
),
heads as materialized (
  select distinct id, lane, next_attempt_at
  from (
    select l.id, l.lane, l.next_attempt_at
    from due o
    cross join lateral (
      select b.id, b.next_attempt_at from router.outbox_open b
      where b.open_lane = $1 || ' ' || o.lane
        and b.id + 0 >= case o.lane when '' then o.id else 0 end
      order by b.id + 0
      limit 1
    ) h
    cross join lateral (
      select i.id, i.lane, i.next_attempt_at from router.outbox_open i
      where i.id = h.id and i.state <> 'unknown' and i.next_attempt_at <= now()
        and (i.lease_until is null or i.lease_until <= now()) and not i.begun
        and ($6 = 0 or i.created_at <= now() - make_interval(secs => $6)
             or substring(i.payload for 24) <> convert_to('{"type":"message.status"', 'UTF8'))
      for update skip locked
    ) l
    where h.id = o.id
      -- The one behind it leads there, and no other, or a long lane would take all places.
      or (h.next_attempt_at > o.next_attempt_at and o.id = (
        select b.id from router.outbox_open b
        where b.open_lane = $1 || ' ' || o.lane and b.id + 0 > h.id
        order by b.id + 0
        limit 1))
    limit $2
  ) found
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
      from router.outbox_open
      where open_lane = $1 || ' ' || h.lane and id + 0 >= h.id
        and id + 0 <= case h.lane when '' then h.id else 9223372036854775807 end
      order by id + 0
      limit (select each from tails)
    ) b
  ) r
  where r.due
  order by r.place, h.next_attempt_at, r.id  -- every lane's first before anybody's second
  limit $2
  ) s
  where s.before < $5
),
lent as (
  update router.outbox_open o
  set lease = $3, lease_until = now() + make_interval(secs => $4)
  from quick
  where o.id = any(array(select id from picked)) and o.state <> 'unknown' and not o.begun
    and (o.lease_until is null or o.lease_until <= now())
  returning o.id, o.key, o.lane, o.payload, o.attempts
)
-- One row without an id where nothing is lent.
select lent.*, (select count(*) from due) as looked_at, (select count(*) from heads) as lanes
from (select) as always left join lent on true
