-- Whoever writes one of these messages at this moment is waited for, or waits. $1 keys, sorted
insert into router.claims (key) select * from unnest($1::bytea[])
on conflict do nothing
returning 1
