-- Bodies, conversations, messages and what must be told of them: one statement, so that a
-- batch costs the same few round trips whatever its size.
-- Fails when it wins fewer claims than it asked for: another writer has one of the messages.
-- $1-$4 bodies (id, received_at, door, body)
-- $5-$11 new conversations (id, contacto_id, telefono, linea_origen, preview, ts, inbound ts),
-- $36 their estado
-- $12-$15 touched conversations (id, preview, ts, inbound ts)
-- $16 claims (key)
-- $17-$30 and $37 messages; $31-$34 outbox (destination, key, lane, payload); $35 how many claims
with
archived as (
  insert into router.deliveries (id, received_at, door, body)
  overriding system value
  select * from unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::bytea[])
),
opened as (
  insert into conversaciones (id, contacto_id, telefono, linea_origen, ultimo_mensaje,
                              ts_ultimo_mensaje, ventana_24h_fin, estado)
  select id, contacto_id, telefono, linea, preview, ts, inbound + interval '24 hours', estado
  from unnest($5::uuid[], $6::uuid[], $7::text[], $8::text[], $9::text[],
              $10::timestamptz[], $11::timestamptz[], $36::text[])
       as c (id, contacto_id, telefono, linea, preview, ts, inbound, estado)
),
touched as (
  update conversaciones v set
    ultimo_mensaje = case when t.ts >= coalesce(v.ts_ultimo_mensaje, '-infinity')
                          then t.preview else v.ultimo_mensaje end,
    ts_ultimo_mensaje = greatest(v.ts_ultimo_mensaje, t.ts),
    ventana_24h_fin = greatest(v.ventana_24h_fin, t.inbound + interval '24 hours'),
    estado = case when v.estado = 'nueva' and t.inbound is not null
                  then 'activa' else v.estado end,
    updated_at = now()
  from (select t.* from unnest($12::uuid[], $13::text[], $14::timestamptz[],
                               $15::timestamptz[]) as t (id, preview, ts, inbound)
        -- locked in one order by every writer, so that two never wait for each other
        join lateral (select from conversaciones l where l.id = t.id
                      for no key update) l on true) t
  where v.id = t.id
),
claimed as (
  insert into router.claims (key) select * from unnest($16::bytea[]) as k order by k
  on conflict do nothing returning 1
),
written as (
  insert into mensajes (id, conversacion_id, mensaje, tipo, direccion, remitente_tipo,
    remitente_nombre, timestamp, whatsapp_message_id, whatsapp_context_id, media_type,
    media_filename, estado_envio, metadata, error_mensaje)
  select id, conversacion_id, mensaje, tipo, direccion, remitente_tipo, remitente_nombre,
    ts, whatsapp_message_id, whatsapp_context_id, media_type, media_filename,
    estado_envio, metadata::jsonb, error_mensaje
  from unnest($17::uuid[], $18::uuid[], $19::text[], $20::text[], $21::text[], $22::text[],
              $23::text[], $24::timestamptz[], $25::text[], $26::text[], $27::text[],
              $28::text[], $29::text[], $30::text[], $37::text[])
       as m (id, conversacion_id, mensaje, tipo, direccion, remitente_tipo,
             remitente_nombre, ts, whatsapp_message_id, whatsapp_context_id, media_type,
             media_filename, estado_envio, metadata, error_mensaje)
),
told as (
  insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
  select *, now(), 'pending'
  from unnest($31::text[], $32::text[], $33::text[], $34::bytea[])
)
select 1 / (count(*) = $35::int)::int as won from claimed
