-- One message by its WhatsApp id: its row, its conversation as it is now, the body that
-- brought it, what was said after it, and what was said about it. Columns as in the tables,
-- without what was received in full. $1 WhatsApp id, $2 its bytes, $3 as some JSON escapes it
with
message as (
  select m.*, m.created_at::timestamptz as stored_at,
    case when jsonb_typeof(m.metadata) = 'object' then m.metadata else '{}' end as meta
  from mensajes m where m.whatsapp_message_id = $1::text
  order by m.created_at, m.id limit 1
),
brought as (
  select d.*, d.xmin from message m
  join router.deliveries d on d.id = case when m.meta->>'delivery' ~ '^\d{1,18}$'
                                     then (m.meta->>'delivery')::bigint end
),
said as (
  select r.* from message m join mensajes r on r.conversacion_id = m.conversacion_id
  where r.metadata->>'answers' = $1
),
told_of as (
  select s.wamid, jsonb_agg(jsonb_build_object('status', s.status, 'type', s.type, 'ts', s.ts,
    'received_at', s.received_at, 'participant', s.participant,
    'errors', s.payload->'errors') order by s.ts, s.id) as statuses
  from router.statuses s
  where s.wamid = any(array(select $1 union all select whatsapp_message_id from said))
  group by s.wamid
)
select
  (select to_jsonb(m) - '{meta,stored_at}'::text[] || jsonb_build_object('metadata',
     case when jsonb_typeof(m.metadata) = 'object' then m.metadata - 'item' else m.metadata end)
   from message m) as message,
  (select m.id from message m) as id,
  (select m.stored_at from message m) as stored_at,
  (select m.meta->>'kind' from message m) as kind,
  (select m.meta->'decision' from message m
   where jsonb_typeof(m.meta->'decision') = 'object') as decision,
  (select m.meta->'item' from message m) as item,
  (select to_jsonb(v) from message m join conversaciones v on v.id = m.conversacion_id)
    as conversation,
  (select jsonb_build_object('delivery', d.id, 'received_at', d.received_at, 'door', d.door,
     'bytes', octet_length(d.body),
     'lag_s', round(extract(epoch from d.received_at - m.timestamp), 3))
   from brought d, message m) as received,
  (select jsonb_build_object(
     'normalize', case when jsonb_typeof(m.meta->'normalized_ms') = 'number'
                  then m.meta->'normalized_ms' end,
     'persist', round(1000 * extract(epoch from m.stored_at - d.received_at), 3),
     'commit', round(1000 * extract(epoch from c.at - d.received_at), 3))
   from message m cross join brought d left join lateral (
     -- Of the body's first transaction: not of a later one, nor of a restore of the table.
     select case when current_setting('track_commit_timestamp')::bool
            then pg_xact_commit_timestamp(d.xmin) end as at) c
     on c.at between m.stored_at and m.stored_at + interval '10 s') as stages,
  coalesce((
    select jsonb_agg(to_jsonb(r) - 'metadata'
                     || jsonb_build_object('statuses', coalesce(o.statuses, '[]'))
                     order by r.timestamp, r.id)
    from said r left join told_of o on o.wamid = r.whatsapp_message_id), '[]') as replies,
  coalesce((
    select jsonb_agg(to_jsonb(d) - 'payload' order by d.ts_derivacion)
    from message m join derivaciones d on d.conversacion_id = m.conversacion_id
    where d.payload->>'whatsapp_message_id' = $1), '[]') as derivations,
  coalesce((select o.statuses from told_of o where o.wamid = $1), '[]') as statuses,
  coalesce((
    select jsonb_agg(jsonb_build_object('kind', n.kind, 'received_at', n.received_at)
                     order by n.id)
    from router.notices n
    where n.id in (select id from router.notices where target = $1
                   union select id from router.notices where key = $1)), '[]') as notices,
  coalesce((
    select jsonb_agg(jsonb_build_object('id', l.id, 'stage', l.stage, 'reason', l.reason,
      'first_at', l.first_at, 'last_at', l.last_at, 'replayed_at', l.replayed_at)
      order by l.id)
    from router.dead_letters l
    where case when l.stage <> 'notify' then position($2::bytea in l.body) > 0
                                          or position($3::bytea in l.body) > 0 end), '[]')
    as dead_letters
