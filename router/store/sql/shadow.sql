-- What a router stored of the messages that came in since $1, whichever router it was. A
-- column that its tables lack is null; the text is compared, not read, and never leaves.
select nullif(m.whatsapp_message_id, '') as id, m.id::text as row, m.timestamp as at,
  to_jsonb(m) ->> 'tipo' as tipo,
  md5(m.mensaje) as mensaje,
  regexp_replace(to_jsonb(v) ->> 'telefono', '[^0-9A-Za-z.]', '', 'g') as telefono,
  to_jsonb(v) ->> 'area' as area
from mensajes m
join conversaciones v on v.id = m.conversacion_id
where m.timestamp >= $1 and m.direccion = 'entrante'
order by m.timestamp, m.id
