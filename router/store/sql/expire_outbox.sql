-- What was told. What is dead or unknown stays until a person has looked. $1 days
delete from router.outbox where state = 'done' and id in (
  select id from router.outbox
  where state = 'done' and next_attempt_at < now() - make_interval(days => $1) limit 2000)
returning 1
