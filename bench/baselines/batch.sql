-- Many messages in one statement, from one writer; no id twice among them.
-- $1 telefonos, $2 names, $3 WhatsApp's ids, $4 texts, $5 tipos, $6 seconds, $7 items
with
item as (
  select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
    $6::float8[], $7::text[]) as i (telefono, name, wamid, text, tipo, seconds, item)
  where wamid <> all (array(select whatsapp_message_id from mensajes
                            where whatsapp_message_id = any($3)))
),
known as (select id, telefono from contactos where telefono = any($1)),
created as (
  insert into contactos (telefono, nombre)
  select distinct on (telefono) telefono, name from item
  where telefono <> all (array(select telefono from known))
  order by telefono
  returning id, telefono
),
contact as (select * from known union all select * from created),
last as (
  select distinct on (telefono) telefono, text, to_timestamp(seconds) as ts
  from item order by telefono, seconds desc
),
open as (
  insert into conversaciones (contacto_id, telefono, ultimo_mensaje, ts_ultimo_mensaje,
    ventana_24h_fin)
  select contact.id, telefono, left(text, 500), ts, ts + interval '24 hours'
  from last join contact using (telefono)
  on conflict (telefono) where estado <> 'cerrada' do update set
    ultimo_mensaje = excluded.ultimo_mensaje,
    ts_ultimo_mensaje = excluded.ts_ultimo_mensaje,
    ventana_24h_fin = excluded.ventana_24h_fin,
    updated_at = now()
  returning id, telefono
)
insert into mensajes (conversacion_id, mensaje, tipo, direccion, remitente_tipo,
  remitente_nombre, timestamp, whatsapp_message_id, metadata)
select open.id, text, tipo, 'entrante', 'contact', name, to_timestamp(seconds), wamid,
  item::jsonb
from item join open using (telefono)
