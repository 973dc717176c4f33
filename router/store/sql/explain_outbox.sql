-- What a transaction left to tell in a lane, its attempts, and letters of what was given up.
-- $1-$2 numbers, $3 the transaction's time, $4 lane; a file to fetch has one of its own
select o.destination, o.key, jsonb_build_object(
  'id', o.id, 'destination', o.destination, 'webhook_id', o.key, 'state', o.state,
  'attempts', o.attempts, 'created_at', o.created_at, 'next_attempt_at', o.next_attempt_at,
  'tries', coalesce((
    select jsonb_agg(jsonb_build_object('at', a.at, 'status', a.status,
      'latency_ms', a.latency_ms, 'answer', a.answer, 'error', a.error) order by a.id)
    from router.attempts a where a.outbox_id = o.id), '[]'),
  'dead_letters', coalesce((
    select jsonb_agg(jsonb_build_object('id', l.id, 'reason', l.reason,
      'replayed_at', l.replayed_at) order by l.id)
    from router.dead_letters l
    where o.state in ('dead', 'unknown') and l.destination = o.destination and l.key = o.key), '[]')
  ) as row
from router.outbox o
where o.id >= $1 and o.id < $2 and o.created_at = $3 and o.lane in ($4, o.key)
order by o.id
