-- Write down how loans ended, and the attempts that were made on them.
--
-- Fenced: a row counts only while it is lent under the token it was lent under. So nothing
-- that comes late undoes what the next holder did, and writing the same notes once more,
-- since nobody knows whether the first commit was heard, adds no attempt.
-- Returns which were taken.
-- $1-$5 loans (id, token, state, seconds until the next attempt or null to keep the place,
-- seconds since they ended), $6 whether an attempt was made, $7-$10 the attempt (HTTP
-- status, milliseconds, start of the answer, error)
with
ended as (
  update router.outbox o set
    state = n.state,
    attempts = o.attempts + n.tried::integer,
    next_attempt_at = case when n.delay_s is null then o.next_attempt_at
                      else now() + make_interval(secs => n.delay_s - n.ago_s) end,
    lease = null,
    lease_until = null
  from unnest($1::bigint[], $2::bigint[], $3::text[], $4::float8[], $5::float8[],
              $6::boolean[], $7::integer[], $8::integer[], $9::text[], $10::text[])
       as n (id, token, state, delay_s, ago_s, tried, status, latency_ms, answer, error)
  -- Nothing about state or destination: a plan made while the table was small would walk
  -- the index of the pending rows instead of going by id.
  where o.id = n.id and o.lease = n.token
  returning o.id, n.tried, n.ago_s, n.status, n.latency_ms, n.answer, n.error
),
told as (
  insert into router.attempts (outbox_id, at, status, latency_ms, answer, error)
  select id, now() - make_interval(secs => ago_s + latency_ms / 1000.0),  -- when it began
         status, latency_ms, answer, error
  from ended where tried order by id
)
select id from ended
