-- Write down how loans ended, and the attempts that were made on them.
--
-- Fenced: a row counts only while it is lent under the token it was lent under. So nothing
-- that comes late undoes what the next holder did, and writing the same notes once more,
-- since nobody knows whether the first commit was heard, adds no attempt.
-- Returns which were taken, and whether something of their lane stands behind them.
--
-- What is told, or will never be, leaves the rows that claims walk through. As in
-- outbox_claim.sql each step has one way: rows are found by their id and taken by their place.
-- Where that changes at this moment (replies_begin.sql) the note is not taken, and written again.
--
-- The disk is not waited for (`quick`), here and in a claim: what a crash of the server takes
-- back is told once more under its webhook-id, and senders need the disk for their commits.
-- $1 notes (router.note_row): delay_s is null to keep the place, floor_s what a Retry-After
-- asked for, ago_s how long ago the loan ended; an attempt that was tried is kept, and counts
-- against the schedule if it counts
with
quick as materialized (select set_config('synchronous_commit', 'off', true) as set),
noted as materialized (
  select n.*, i.spot
  from quick, unnest($1::router.note_row[]) as n
  cross join lateral (
    select o.ctid as spot from router.outbox_open o
    where o.id = n.id and o.lease = n.token
    offset 0
  ) i
),
gone as (
  delete from router.outbox_open o
  using noted n
  where n.state in ('done', 'dead') and o.ctid = n.spot and o.lease = n.token
  returning o.*, n.state as became, n.counts, n.tried, n.ago_s, n.status, n.latency_ms,
    n.answer, n.error
),
moved as (
  insert into router.outbox_ended (id, destination, key, lane, payload, attempts,
    next_attempt_at, state, created_at, not_before)
  overriding system value
  select id, destination, key, lane, payload, attempts + counts::integer,
    next_attempt_at, became, created_at, not_before
  from gone
),
stayed as (
  update router.outbox_open o set
    state = n.state,
    attempts = o.attempts + n.counts::integer,
    next_attempt_at = greatest(
      case when n.delay_s is null then o.next_attempt_at
           else now() + make_interval(secs => n.delay_s - n.ago_s) end,
      now() + make_interval(secs => n.floor_s - n.ago_s)),
    not_before = coalesce(now() + make_interval(secs => n.floor_s - n.ago_s), o.not_before),
    begun = false,
    lease = null,
    lease_until = null
  from noted n
  where n.state not in ('done', 'dead') and o.ctid = n.spot and o.lease = n.token
  returning o.id, o.open_lane, n.tried, n.ago_s, n.status, n.latency_ms, n.answer, n.error
),
ended as (
  select id, open_lane, tried, ago_s, status, latency_ms, answer, error from gone
  union all
  select * from stayed
),
told as (
  insert into router.attempts (outbox_id, at, status, latency_ms, answer, error)
  select id, now() - make_interval(secs => ago_s + latency_ms / 1000.0),  -- when it began
         status, latency_ms, answer, error
  from ended where tried order by id
)
select e.id, (
  select b.id from router.outbox_open b
  where b.open_lane = e.open_lane and b.id + 0 > e.id
  order by b.id + 0
  limit 1) is not null as leads
from ended e
