-- no-transaction
-- Concurrently, so that no writer of a live CRM waits for an index to be built.

create index concurrently if not exists idx_conversaciones_telefono
  on conversaciones (telefono);
create index concurrently if not exists idx_conversaciones_contacto_id
  on conversaciones (contacto_id);
create index concurrently if not exists idx_conversaciones_ts_ultimo_mensaje
  on conversaciones (ts_ultimo_mensaje desc);
create index concurrently if not exists idx_mensajes_conversacion_id
  on mensajes (conversacion_id);
create index concurrently if not exists idx_mensajes_timestamp
  on mensajes (timestamp desc);
create index concurrently if not exists idx_mensajes_remitente_tipo
  on mensajes (remitente_tipo);
create index concurrently if not exists idx_contactos_telefono
  on contactos (telefono);

-- The last messages of a conversation, newest first.
create index concurrently if not exists idx_mensajes_conversacion_timestamp
  on mensajes (conversacion_id, timestamp desc);
-- "Is this message stored already?", statuses, quotes. Hash: ids may exceed a btree key.
create index concurrently if not exists idx_mensajes_whatsapp_message_id_hash
  on mensajes using hash (whatsapp_message_id);
