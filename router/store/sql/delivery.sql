-- $1 number
select received_at, door, body from router.deliveries where id = $1
