-- Replies of unknown outcome of which no status came in time: a person shall see them. A row's
-- next_attempt_at is when, and infinity once it is done. $1 destination, $2 at most
select id, key, lane, payload, attempts from router.outbox_open
where destination = $1 and state = 'unknown' and next_attempt_at <= now()
order by id + 0  -- and so by the index of the unknown ones
limit $2
