-- $1 days
delete from router.attempts where id in (
  select id from (select id, at from router.attempts order by id limit 2000) oldest
  where at < now() - make_interval(days => $1))
returning 1
