-- Claims whose message is gone: a claim and its row are committed together, so a claim that is
-- seen without its row belongs to one that somebody deleted. Only under the locks of these
-- messages (lock.sql). $1 keys, $2 message ids
delete from router.claims c
using unnest($1::bytea[], $2::text[]) as m (key, id)
where c.key = m.key and not exists (select from mensajes r where r.whatsapp_message_id = m.id)
returning 1
