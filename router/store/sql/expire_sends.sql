-- $1 days
delete from router.sends where key in (
  select key from router.sends where at < now() - make_interval(days => $1) limit 2000)
returning 1
