-- The last messages of some conversations, newest first. $1 conversations, $2 how many of each
select c.id as conversacion_id, m.mensaje, m.direccion, m.remitente_tipo, m.timestamp
from unnest($1::uuid[]) as c (id)
cross join lateral (
  select left(m.mensaje, 200) as mensaje, m.direccion, m.remitente_tipo, m.timestamp
  from mensajes m
  where m.conversacion_id = c.id
  order by m.timestamp desc
  limit $2
) m
