-- $1 number
select id, created_at as at from router.outbox where id >= $1 order by id limit 1
