-- $1 ids
update router.dead_letters set replayed_at = clock_timestamp()
where id = any($1::bigint[])
