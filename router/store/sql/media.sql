-- Where the files of messages lie, in their rows of mensajes; what WhatsApp said of a file stays.
-- The key of a file is as old as its message, so whoever comes twice writes the same.
-- $1-$4 files (WhatsApp id of the message, address, MIME type, name)
update mensajes m set
  media_url = f.url,
  media_type = coalesce(nullif(m.media_type, ''), f.mime_type),
  media_filename = coalesce(nullif(m.media_filename, ''), f.filename)
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as f (wamid, url, mime_type, filename)
where m.whatsapp_message_id = f.wamid
