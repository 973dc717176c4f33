-- Give back what was lent under these tokens: the claim's answer was never heard, so nobody
-- works on it. Rare, after a broken connection; looks through the destination's pending rows.
-- $1 destination, $2 tokens
update router.outbox_open set lease = null, lease_until = null
where destination = $1 and state = 'pending' and lease = any($2::bigint[])
