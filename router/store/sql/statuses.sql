-- What became of what went out: every report is kept once, and the message's own state
-- moves by rank, never back; `failed` is the last word. A report that was known moves nothing.
-- $1-$9 reports (key, phone_number_id, wamid, type, status, participant, ts, payload, received_at)
-- $10-$12 what each means for its message (estado_envio, rank, error)
with
report as (
  select *
  from unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
              $7::timestamptz[], $8::text[], $9::timestamptz[], $10::text[], $11::int[],
              $12::text[])
       as s (k, phone, wamid, type, status, participant, ts, payload, at, state, rank, error)
),
kept as (
  insert into router.statuses (key, phone_number_id, wamid, type, status, participant, ts,
                               payload, received_at)
  select k, phone, wamid, type, status, participant, ts, payload::jsonb, at
  from report order by k
  on conflict do nothing returning key
),
furthest as (
  select distinct on (r.wamid) r.wamid, r.state, r.rank, r.error
  from report r join kept on kept.key = r.k
  where r.rank > 0 and r.wamid is not null
  order by r.wamid, r.rank desc
),
moved as (
  update mensajes m set estado_envio = f.state,
    error_mensaje = coalesce(f.error, m.error_mensaje)
  from furthest f
  where m.whatsapp_message_id = f.wamid and m.direccion <> 'entrante'
    and f.rank > case coalesce(m.estado_envio, '')
      when 'sent' then 1 when 'delivered' then 2 when 'read' then 3 when 'failed' then 9
      else 0 end
)
select key from kept
