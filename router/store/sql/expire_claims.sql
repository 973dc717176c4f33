-- A claim matters while its transaction is open, which is seconds; see 0003-dedupe.md.
delete from router.claims where ctid = any(array(
  select ctid from router.claims where at < now() - interval '10 minutes' limit 10000))
returning 1
