-- A notification that was given up is told again, under its key, with a whole schedule.
-- $1 destination, $2 key, $3 letter
with
again as (
  update router.outbox set state = 'pending', attempts = 0, next_attempt_at = now(),
    not_before = null, begun = false, lease = null, lease_until = null
  where state = 'dead' and destination = $1 and key = $2
  returning 1
)
update router.dead_letters set replayed_at = clock_timestamp()
where id = $3 and exists (select from again)
returning 1
