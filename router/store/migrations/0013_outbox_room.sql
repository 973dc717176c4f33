-- Room on each page for what a loan rewrites: then no index hears of a claim.
alter table router.outbox_open set (fillfactor = 45);

-- A lane in its order. Over an expression, so that no other index serves: a plan that was made
-- while the table was empty took the primary key, and walked the whole backlog for each row.
drop index router.outbox_lane;
create index outbox_lane on router.outbox_open (open_lane, (id + 0)) where open_lane is not null;
