-- What a batch comes to, in one statement: for people who are known it is the whole
-- transaction, and the one round trip.
--
-- It takes itself back (division by zero) when what it was computed from is not true any more:
-- somebody changed one of the conversations, has one of the messages, or changed it already.
-- $1 bodies; $2 new conversations; $3 known ones, at the version they were read in;
-- $4 claims (keys of the messages); $5 messages; $6 ids of messages that nobody looked up;
-- $7 statuses; $8 notices; $9 what must be told, some of it only if its status is new;
-- $10 how many claims, $11 how many known conversations; $12 tokens under which rows of $9 are
-- lent at once (null: not), $13 for how many seconds
with
archived as (
  insert into router.deliveries (id, received_at, door, body)
  overriding system value
  select * from unnest($1::router.body_row[])
),
opened as (
  insert into conversaciones (id, contacto_id, telefono, linea_origen, area, estado,
    router_estado, submenu_actual, subetiqueta, ultima_derivacion, ts_ultima_derivacion,
    metadata, ultimo_mensaje, ts_ultimo_mensaje, ventana_24h_fin, ventana_72h_fin)
  select id, contacto_id, telefono, linea, area, estado, router_estado, submenu_actual,
    subetiqueta, ultima_derivacion, derived_at, coalesce(metadata, '{}'), preview, ts,
    inbound + interval '24 hours', referred + interval '72 hours'
  from unnest($2::router.conversation_row[])
),
touched as (
  -- In the order of their ids, and so locked in one order by every writer.
  update conversaciones v set
    area = t.area,
    estado = t.estado,
    router_estado = t.router_estado,
    submenu_actual = t.submenu_actual,
    subetiqueta = t.subetiqueta,
    ultima_derivacion = t.ultima_derivacion,
    ts_ultima_derivacion = coalesce(t.derived_at, v.ts_ultima_derivacion),
    asignado_a = case when t.unassigned then null else v.asignado_a end,
    metadata = case when t.metadata is null then v.metadata
               else coalesce(v.metadata, '{}') || t.metadata end,
    ultimo_mensaje = case when t.ts >= coalesce(v.ts_ultimo_mensaje, '-infinity')
                          then t.preview else v.ultimo_mensaje end,
    ts_ultimo_mensaje = greatest(v.ts_ultimo_mensaje, t.ts),
    ventana_24h_fin = greatest(v.ventana_24h_fin, t.inbound + interval '24 hours'),
    ventana_72h_fin = greatest(v.ventana_72h_fin, t.referred + interval '72 hours'),
    updated_at = now()
  from unnest($3::router.conversation_row[]) as t
  where v.id = t.id and v.xmin = t.version
  returning 1
),
claimed as (
  insert into router.claims (key) select * from unnest($4::bytea[])
  on conflict do nothing returning 1
),
written as (
  insert into mensajes (id, conversacion_id, mensaje, tipo, direccion, remitente_tipo,
    remitente_nombre, timestamp, whatsapp_message_id, whatsapp_context_id, media_type,
    media_filename, estado_envio, error_mensaje, metadata, media_url, mensaje_citado_id)
  select w.id, w.conversacion_id, w.mensaje, w.tipo, w.direccion, w.remitente_tipo,
    w.remitente_nombre, w.ts, w.whatsapp_message_id, w.whatsapp_context_id, w.media_type,
    w.media_filename, w.estado_envio, w.error, w.metadata, w.media_url,
    -- What it quotes: in this batch, or here by its id, or by the end of that (targets.sql).
    case when w.whatsapp_context_id is not null then coalesce(
      w.citado,
      (select q.id from mensajes q where q.whatsapp_message_id = w.whatsapp_context_id limit 1),
      (select q.id from mensajes q
       where q.direccion is distinct from /*direccion*/'entrante'
         and (case when q.whatsapp_message_id ~ '^wamid\.[A-Za-z0-9+/]{22,}={0,2}$'
                    and length(q.whatsapp_message_id) % 4 = 2
              then right(encode(decode(right(q.whatsapp_message_id, 24), 'base64'), 'hex'), 32)
              end) = w.context_tail
       limit 1)) end
  from unnest($5::router.message_row[]) as w
),
report as (select * from unnest($7::router.status_row[])),
kept as (
  -- Every report is kept once; one that was known moves nothing.
  insert into router.statuses (key, phone_number_id, wamid, type, status, participant, ts,
                               payload, received_at)
  select key, phone_number_id, wamid, type, status, participant, ts, payload, received_at
  from report
  on conflict do nothing returning key
),
furthest as (
  select distinct on (r.wamid) r.wamid, r.state, r.rank, r.error, r.reply
  from report r join kept on kept.key = r.key
  where r.rank > 0 and r.wamid is not null
  order by r.wamid, r.rank desc
),
moved as (
  -- A message's own state moves by rank, never back; `failed` is the last word.
  update mensajes m set estado_envio = f.state,
    error_mensaje = coalesce(f.error, m.error_mensaje)
  from furthest f
  where m.whatsapp_message_id = f.wamid and m.direccion <> /*direccion*/'entrante'
    and f.rank > case coalesce(m.estado_envio, '')
      when /*estado_envio*/'sent' then 1 when /*estado_envio*/'delivered' then 2
      when /*estado_envio*/'read' then 3 when /*estado_envio*/'failed' then 9
      else 0 end
),
settled as (
  -- A reply whose outcome nobody knew: WhatsApp took it, or says why not.
  update mensajes m set whatsapp_message_id = f.wamid, estado_envio = f.state,
    error_mensaje = f.error
  from furthest f
  where m.id = f.reply and m.whatsapp_message_id is null
    and m.direccion <> /*direccion*/'entrante'
),
known as (
  update router.outbox o set state = 'done'
  from furthest f
  where o.key = 'psi_' || replace(f.reply::text, '-', '') and o.state = 'unknown'
),
noticed as (
  insert into router.notices (key, kind, payload, received_at, target, target_tail)
  select * from unnest($8::router.notice_row[])
  on conflict do nothing
),
told as (
  insert into router.outbox (destination, key, lane, payload, next_attempt_at, state, lease,
    lease_until)
  select destination, key,
    -- A status of what was told as a message waits behind that message.
    case when o.status is null then lane else coalesce(
      (select m.conversacion_id::text from report r
       join mensajes m on m.whatsapp_message_id = r.wamid
       where r.key = o.status and m.direccion = /*direccion*/'entrante' limit 1), lane) end,
    payload, now(), 'pending', advance,
    case when advance is not null then now() + make_interval(secs => seconds) end
  from (
    -- Lent at once, where nothing of the lane stands before it (advance.py).
    select o.*, case when token is not null and (
      select b.id from router.outbox_open b
      where b.open_lane = o.destination || ' ' || o.lane
      order by b.id + 0
      limit 1) is null then token end as advance
    from unnest($9::router.outbox_row[], $12::bigint[], $13::float8[])
      as o (destination, key, lane, payload, status, token, seconds)
  ) o
  where o.status is null or o.status in (select key from kept)
  returning id, destination || ' ' || key as name, lease
)
-- In this order: whoever waits for a claim has its conversations, as in _look_closer (ledger.py).
select 1 / (
  (select count(*) from touched) = $11::int
  and (select count(*) from claimed) = $10::int
  and not exists (select from unnest($6::text[]) as i (id)
                  join mensajes m on m.whatsapp_message_id = i.id)
  and not exists (select from unnest($6::text[]) as i (id)
                  join router.notices n on n.target = i.id)
)::int as won, pg_current_xact_id()::xid as version,
  (select array_agg(name) from told where lease is not null) as lent,
  (select array_agg(id) from told where lease is not null) as lent_ids
