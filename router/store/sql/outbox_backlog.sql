-- How many rows wait for each destination, and for how long the oldest has. Reads outbox_due
-- alone, without its rows, as far as vacuum has been there.
select w.destination, w.pending, extract(epoch from now() - (
  select o.created_at from router.outbox_open o where o.id = w.oldest
))::float8 as oldest_s
from (
  select destination, count(*) as pending, min(id) as oldest
  from router.outbox_open
  where state = 'pending'
  group by destination
) w
