-- The body that brought a conversation's last inbound message. $1 conversation
select d.body, d.door, m.whatsapp_message_id as wamid
from (
  select whatsapp_message_id, case when jsonb_typeof(metadata) = 'object'
                              then metadata->>'delivery' end as delivery
  from mensajes
  where conversacion_id = $1 and direccion = /*direccion*/'entrante'
  order by timestamp desc limit 1
) m
join router.deliveries d on d.id = case when m.delivery ~ '^\d{1,18}$' then m.delivery::bigint end
