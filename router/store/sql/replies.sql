-- What became of replies, in their rows of mensajes: the id that WhatsApp gave one, and how far
-- it got; its statuses may have been here first. A row that a status moved on stays there.
-- $1-$4 replies (id, WhatsApp id, estado_envio, error)
update mensajes m set
  whatsapp_message_id = coalesce(m.whatsapp_message_id, r.wamid),
  estado_envio = case when m.estado_envio = 'pendiente' and r.state is not null
                      then coalesce(s.state, r.state) else m.estado_envio end,
  error_mensaje = coalesce(m.error_mensaje, s.error, r.error)
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as r (id, wamid, state, error)
left join lateral (
  select case s.status when 'played' then 'read' else s.status end as state,
         coalesce(s.payload->'errors'->0->>'title', s.payload->'errors'->0->>'code') as error
  from router.statuses s
  where s.wamid = r.wamid and s.type = 'message'
    and s.status in ('sent', 'delivered', 'read', 'played', 'failed')
  order by case s.status when 'sent' then 1 when 'delivered' then 2 when 'failed' then 9
           else 3 end desc
  limit 1
) s on true
where m.id = r.id
