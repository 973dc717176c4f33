-- What has been told leaves the rows that claims walk through: those still to be told are a
-- partition of their own, a few pages that stay in memory and are vacuumed in no time, however
-- many days of told ones are kept beside them. A row moves when its state does.
--
-- The table there was becomes the partition of the ended, where nearly all of its rows belong.
alter table router.outbox rename to outbox_ended;
create table router.outbox (
  like router.outbox_ended including defaults including generated including identity
) partition by list (state);
alter table router.outbox_ended alter column id drop identity;

create table router.outbox_open partition of router.outbox
  for values in ('pending', 'unknown')
  with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 1000);
alter table router.outbox_open add primary key (id);
with moved as (
  delete from router.outbox_ended where state = 'pending' or state = 'unknown' returning *
)
insert into router.outbox (id, destination, key, lane, payload, attempts, next_attempt_at,
  state, lease, lease_until, created_at, not_before, begun)
overriding system value
select id, destination, key, lane, payload, attempts, next_attempt_at,
  state, lease, lease_until, created_at, not_before, begun
from moved;
select setval(pg_get_serial_sequence('router.outbox', 'id'),
  greatest((select max(id) from router.outbox_ended), (select max(id) from router.outbox_open), 0) + 1,
  false);

drop index router.outbox_due, router.outbox_unknown;
-- Empty from now on, and for a version from before alone, which asks both partitions.
alter index router.outbox_lane rename to outbox_ended_lane;
create index outbox_due on router.outbox_open (destination, next_attempt_at, id)
  where state = 'pending';
-- Over a column of its own: right after a vacuum of a table in which nothing is pending the
-- planner takes any index of pending rows for free, so no query may fit two of them.
create index outbox_lane on router.outbox_open (open_lane, id) where open_lane is not null;
-- A status says what became of a reply of unknown outcome.
create index outbox_unknown on router.outbox_open (key) where state = 'unknown';

-- They come at its end, and only leave: nothing of a row ever changes here.
alter table router.outbox_ended reset (fillfactor, autovacuum_vacuum_scale_factor,
  autovacuum_vacuum_threshold);
alter table router.outbox attach partition router.outbox_ended for values in ('done', 'dead');
