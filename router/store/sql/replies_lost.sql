-- Replies that may have left and whose sender is gone: nobody knows what became of them.
-- $1 destination
update router.outbox set state = 'unknown', lease = null, lease_until = null
where destination = $1 and state = 'pending' and begun and lease_until <= now()
returning key
