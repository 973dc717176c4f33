-- What was ever said of some messages. $1 their ids, $2 what the ids' other spellings share
select n.id, n.key, n.kind, n.payload, n.received_at, n.target, n.target_tail
from unnest($1::text[]) as i (target) join router.notices n on n.target = i.target
union
select n.id, n.key, n.kind, n.payload, n.received_at, n.target, n.target_tail
from unnest($2::text[]) as i (tail) join router.notices n on n.target_tail = i.tail
