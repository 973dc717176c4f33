-- Messages that may change, while nobody else changes them. $1 ids, sorted
select m.id, m.whatsapp_message_id, m.mensaje, m.direccion, m.metadata->'item' as item,
       m.metadata->'reacciones' as reacciones, m.metadata->'ediciones' as ediciones,
       m.metadata->'eliminado' as eliminado
from unnest($1::uuid[]) as i (id)
join lateral (select * from mensajes w where w.id = i.id for no key update) m on true
