-- One message in one statement: contact and conversation as they are or new, and the message
-- unless it is there. A contact that is known is only read.
-- $1 telefono, $2 name, $3 WhatsApp's id, $4 text, $5 tipo, $6 seconds, $7 the item as received
with
known as (select id from contactos where telefono = $1),
created as (
  insert into contactos (telefono, nombre) select $1, $2 where not exists (select from known)
  on conflict (telefono) do update set updated_at = now()
  returning id
),
open as (
  insert into conversaciones (contacto_id, telefono, ultimo_mensaje, ts_ultimo_mensaje,
    ventana_24h_fin)
  select id, $1, left($4, 500), to_timestamp($6::float8),
    to_timestamp($6::float8) + interval '24 hours'
  from (select id from known union all select id from created) as contact
  on conflict (telefono) where estado <> 'cerrada' do update set
    ultimo_mensaje = excluded.ultimo_mensaje,
    ts_ultimo_mensaje = excluded.ts_ultimo_mensaje,
    ventana_24h_fin = excluded.ventana_24h_fin,
    updated_at = now()
  returning id
)
insert into mensajes (conversacion_id, mensaje, tipo, direccion, remitente_tipo,
  remitente_nombre, timestamp, whatsapp_message_id, metadata)
select id, $4, $5, 'entrante', 'contact', $2, to_timestamp($6::float8), $3, $7::jsonb
from open
on conflict (whatsapp_message_id) do nothing
