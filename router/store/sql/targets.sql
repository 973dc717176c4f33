-- Messages by WhatsApp id, and else, of what went out, by the end of it (0010_tail_index.sql).
-- $1 ids, $2 what their other spellings share, or nulls
select a.target, coalesce(exact.id, alike.id) as id
from unnest($1::text[], $2::text[]) as a (target, tail)
left join lateral (
  select m.id from mensajes m where m.whatsapp_message_id = a.target limit 1) exact on true
left join lateral (
  select m.id from mensajes m
  where exact.id is null and m.direccion is distinct from /*direccion*/'entrante'
    and (case when m.whatsapp_message_id ~ '^wamid\.[A-Za-z0-9+/]{22,}={0,2}$'
               and length(m.whatsapp_message_id) % 4 = 2
         then right(encode(decode(right(m.whatsapp_message_id, 24), 'base64'), 'hex'), 32)
         end) = a.tail
  limit 1) alike on true
