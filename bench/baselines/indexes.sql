-- What a baseline's database has beside the CRM's tables (router/store/migrations/0001): the
-- plan's seven indexes, and the two that keep a message and an open conversation single.
create index idx_conversaciones_telefono on conversaciones (telefono);
create index idx_conversaciones_contacto_id on conversaciones (contacto_id);
create index idx_conversaciones_ts_ultimo_mensaje on conversaciones (ts_ultimo_mensaje desc);
create index idx_mensajes_conversacion_id on mensajes (conversacion_id);
create index idx_mensajes_timestamp on mensajes (timestamp desc);
create index idx_mensajes_remitente_tipo on mensajes (remitente_tipo);
create index idx_contactos_telefono on contactos (telefono);

create unique index on conversaciones (telefono) where estado <> 'cerrada';
create unique index on mensajes (whatsapp_message_id);
