-- How many rows wait for each destination, and for how long the oldest has. Reads outbox_due
-- alone, without its rows, as far as vacuum has been there.
select w.destination, w.pending, extract(epoch from now() - o.created_at)::float8 as oldest_s
from (
  select destination, count(*) as pending, min(id) as oldest
  from router.outbox
  where state = 'pending'
  group by destination
) w
join router.outbox o on o.id = w.oldest and o.state = 'pending'
