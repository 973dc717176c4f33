-- What was sent under an Idempotency-Key. $1 key
select digest, mensaje_id from router.sends where key = $1
