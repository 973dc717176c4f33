-- What became of what went out: every report is kept once, and the message's own state
-- moves by rank, never back; `failed` is the last word.
-- $1-$9 reports (key, phone_number_id, wamid, type, status, participant, ts, payload, received_at)
-- $10-$13 the furthest state of each message in this batch (wamid, status, rank, error)
with
kept as (
  insert into router.statuses (key, phone_number_id, wamid, type, status, participant, ts,
                               payload, received_at)
  select k, phone, wamid, type, status, participant, ts, payload::jsonb, at
  from unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
              $7::timestamptz[], $8::text[], $9::timestamptz[])
       as s (k, phone, wamid, type, status, participant, ts, payload, at)
  order by k
  on conflict do nothing returning key
),
moved as (
  update mensajes m set estado_envio = b.status,
    error_mensaje = coalesce(b.error, m.error_mensaje)
  from unnest($10::text[], $11::text[], $12::int[], $13::text[])
       as b (wamid, status, rank, error)
  where m.whatsapp_message_id = b.wamid and m.direccion <> 'entrante'
    and b.rank > case coalesce(m.estado_envio, '')
      when 'sent' then 1 when 'delivered' then 2 when 'read' then 3 when 'failed' then 9
      else 0 end
)
select key from kept
