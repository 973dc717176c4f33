-- One writer at a time opens a conversation for a contact or a group. $1: keys, sorted.
select pg_advisory_xact_lock(k) from unnest($1::bigint[]) as k
