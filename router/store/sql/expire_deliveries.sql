-- Bodies lie in the order of their numbers, which is the order of their age: look at the
-- oldest, never at the whole table. $1 days
delete from router.deliveries where id in (
  select id from (select id, received_at from router.deliveries order by id limit 2000) oldest
  where received_at < now() - make_interval(days => $1))
returning 1
