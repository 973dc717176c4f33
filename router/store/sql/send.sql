-- An agent's message, and the outbox row by which it leaves; once for each Idempotency-Key.
-- Whoever owns the conversation goes on owning it. Returns nothing where the key is taken.
-- $1 key or null, $2 digest of what was asked; $3 row of mensajes, $4 conversation, $5 text,
-- $6 tipo, $7 agent, $8 quoted id, $9 media link, $10 file name, $11 metadata, $12 preview;
-- $13 destination, $14 outbox key, $15 lane, $16 payload; $17 whether an agent wrote it
with
claimed as (
  insert into router.sends (key, digest, mensaje_id)
  select $1::text, $2::bytea, $3::uuid where $1::text is not null
  on conflict do nothing
  returning 1
),
won as (
  select 1 where $1::text is null or exists (select from claimed)
),
written as (
  insert into mensajes (id, conversacion_id, mensaje, tipo, direccion, remitente_tipo,
    remitente_nombre, timestamp, whatsapp_context_id, media_url, media_filename,
    estado_envio, metadata, mensaje_citado_id)
  select $3, $4::uuid, $5::text, $6::text, /*direccion*/'saliente', /*remitente_tipo*/'agent',
    $7::text, now(), $8::text, $9::text, $10::text, /*estado_envio*/'pendiente', $11::jsonb,
    (select q.id from mensajes q where q.whatsapp_message_id = $8 limit 1)
  from won
),
touched as (
  update conversaciones v set
    ultimo_mensaje = case when now() >= coalesce(v.ts_ultimo_mensaje, '-infinity')
                          then $12::text else v.ultimo_mensaje end,
    ts_ultimo_mensaje = greatest(v.ts_ultimo_mensaje, now()),
    -- What comes next is for the agent (router/conversation/owner.py).
    metadata = case when $17::boolean
               then case when jsonb_typeof(v.metadata) = 'object' then v.metadata else '{}' end
                 || jsonb_build_object('bot',
                      case when jsonb_typeof(v.metadata->'bot') = 'object'
                      then v.metadata->'bot' else '{}' end
                      || jsonb_build_object('agent_at', extract(epoch from now())))
               else v.metadata end,
    updated_at = now()
  from won where v.id = $4
),
told as (
  insert into router.outbox (destination, key, lane, payload, next_attempt_at, state)
  select $13::text, $14::text, $15::text, $16::bytea, now(), 'pending' from won
)
select 1 from won
