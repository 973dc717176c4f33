-- Nobody else changes these conversations until we are done. $1 ids, sorted
select v.id from unnest($1::uuid[]) as t (id)
join lateral (select l.id from conversaciones l where l.id = t.id for no key update) v on true
