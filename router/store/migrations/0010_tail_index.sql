-- no-transaction
-- What went out, by the end of its WhatsApp id: the same message comes back with another
-- beginning, which holds a phone number or an id in base64. Checked before it is decoded,
-- for a row of the CRM's may hold anything. As in sql/targets.sql, sql/record.sql and
-- router/store/changes.py.
create index concurrently if not exists idx_mensajes_whatsapp_tail on mensajes (
  (case when whatsapp_message_id ~ '^wamid\.[A-Za-z0-9+/]{22,}={0,2}$'
         and length(whatsapp_message_id) % 4 = 2
   then right(encode(decode(right(whatsapp_message_id, 24), 'base64'), 'hex'), 32) end))
  where direccion is distinct from 'entrante';
