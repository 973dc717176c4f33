-- Write down how loans ended, and the attempts that were made on them.
--
-- Fenced: a row counts only while it is lent under the token it was lent under. So nothing
-- that comes late undoes what the next holder did, and writing the same notes once more,
-- since nobody knows whether the first commit was heard, adds no attempt.
-- Returns which were taken.
--
-- The disk is not waited for (`quick`), here and in a claim: what a crash of the server takes
-- back is told once more under its webhook-id, and senders need the disk for their commits.
-- $1 notes (router.note_row): delay_s is null to keep the place, floor_s what a Retry-After
-- asked for, ago_s how long ago the loan ended; an attempt that was tried is kept, and counts
-- against the schedule if it counts
with
quick as materialized (select set_config('synchronous_commit', 'off', true) as set),
ended as (
  update router.outbox o set
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
  from quick, unnest($1::router.note_row[]) as n
  -- Neither "= 'pending'" nor the destination: a plan made while the table was small would
  -- walk the index of the pending rows instead of going by id.
  where o.id = n.id and o.lease = n.token and o.state not in ('done', 'dead')
  returning o.id, n.tried, n.ago_s, n.status, n.latency_ms, n.answer, n.error
),
told as (
  insert into router.attempts (outbox_id, at, status, latency_ms, answer, error)
  select id, now() - make_interval(secs => ago_s + latency_ms / 1000.0),  -- when it began
         status, latency_ms, answer, error
  from ended where tried order by id
)
select id from ended
