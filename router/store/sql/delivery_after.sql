-- $1 number
select id, received_at as at from router.deliveries where id >= $1 order by id limit 1
