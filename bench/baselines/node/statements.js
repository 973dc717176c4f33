// What the plan's two designs write. The conflicts are there because two first messages of a
// person come at once, and because Meta sends again.
export const NEW_CONTACT = `
insert into contactos (telefono, nombre) values ($1, $2)
on conflict (telefono) do update set updated_at = now() returning *`;

export const NEW_CONVERSATION = `
insert into conversaciones (contacto_id, telefono) values ($1, $2)
on conflict (telefono) where estado <> 'cerrada' do update set updated_at = now() returning *`;

export const MESSAGE = `
insert into mensajes (conversacion_id, mensaje, tipo, direccion, remitente_tipo,
  remitente_nombre, timestamp, whatsapp_message_id)
values ($1, $2, $3, 'entrante', 'contact', $4, to_timestamp($5::float8), $6)
on conflict (whatsapp_message_id) do nothing`;

export const NAME = 'update contactos set nombre = $2, updated_at = now() where id = $1';

export const LAST = `
update conversaciones set ultimo_mensaje = left($2, 500),
  ts_ultimo_mensaje = to_timestamp($3::float8),
  ventana_24h_fin = to_timestamp($3::float8) + interval '24 hours', updated_at = now()
where id = $1`;
