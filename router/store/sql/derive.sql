-- Conversations handed to their areas: ticket, derivation, audit. $1 an array of objects
with
handed as (
  select * from jsonb_to_recordset($1::jsonb) as h (
    conversacion_id uuid, telefono text, area text, subetiqueta text, inbox_destino text,
    ticket_id text, fresh boolean, prioridad text, metadata jsonb, payload jsonb,
    at timestamptz)
),
opened as (
  insert into tickets (ticket_id, conversacion_id, telefono, area, estado, prioridad,
                       metadata, ts_abierto)
  select ticket_id, conversacion_id, telefono, area, /*ticket_estado*/'abierto', prioridad,
         metadata, at
  from handed where fresh
),
moved as (
  -- The area reads why it is asked now; what was asked before it stands beside.
  update tickets t set area = h.area, updated_at = now(),
    metadata = coalesce(t.metadata, '{}') || h.metadata
      || case when t.metadata->>'motivo' = h.metadata->>'motivo' then '{}'
         else jsonb_build_object('derivaciones_previas',
           coalesce(t.metadata->'derivaciones_previas', '[]')
           || jsonb_build_object('area_destino', t.metadata->'area_destino',
                'motivo', t.metadata->'motivo', 'hasta', h.at)) end,
    prioridad = case when h.prioridad = /*prioridad*/'alta' then h.prioridad else t.prioridad end
  from handed h where t.ticket_id = h.ticket_id and not h.fresh
),
derived as (
  insert into derivaciones (conversacion_id, telefono, area, subetiqueta, inbox_destino,
                            ticket_id, status, payload, ts_derivacion)
  select conversacion_id, telefono, area, subetiqueta, inbox_destino, ticket_id,
         /*derivacion_estado*/'enviada', payload, at
  from handed
)
select router.audit(conversacion_id, telefono,
  case when fresh then 'ticket_creado' else 'ticket_reutilizado' end, payload)
from handed
