-- Replies that may have left and whose sender is gone: nobody knows what became of them.
-- $1 destination, $2 seconds until a person is told that nobody knows
update router.outbox_open set state = 'unknown', lease = null, lease_until = null,
  next_attempt_at = now() + make_interval(secs => $2)
where destination = $1 and state = 'pending' and begun and lease_until <= now()
returning key
