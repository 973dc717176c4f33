-- Aliases that are somebody else's now, or were given up.
-- $1-$4 aliases (scope, kind, value, contacto_id); $5 when each was given up, or null
update router.identities i set contacto_id = a.contacto_id, left_at = a.left_at
from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[])
  as a (scope, kind, value, contacto_id, left_at)
where (i.scope, i.kind, i.value) = (a.scope, a.kind, a.value)
returning 1
