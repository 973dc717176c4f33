-- Write what changes made of messages, and the previews that showed them.
-- $1 ids, $2 texts, $3 members of metadata
with
changed as (
  update mensajes m set
    mensaje = c.mensaje,
    metadata = coalesce(m.metadata, '{}') || c.metadata
  from unnest($1::uuid[], $2::text[], $3::jsonb[]) as c (id, mensaje, metadata)
  join lateral (select o.mensaje from mensajes o where o.id = c.id) old on true
  where m.id = c.id
  returning m.conversacion_id, m.timestamp, m.mensaje, old.mensaje as old
)
update conversaciones v set ultimo_mensaje = left(c.mensaje, 500), updated_at = now()
from changed c
where v.id = c.conversacion_id and v.ts_ultimo_mensaje = c.timestamp
  and v.ultimo_mensaje = left(c.old, 500) and c.mensaje <> c.old
returning 1
