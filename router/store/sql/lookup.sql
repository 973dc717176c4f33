-- What is known already: one row for each thing that exists.
--   what = 'message'      value: a WhatsApp message id that is stored
--   what = 'telefono'     value: a telefono that has a contact
--   what = an alias kind  scope, value: an alias that has a contact
--   what = 'group'        value: a group that has an open conversation
-- $1 message ids; $2-$4 aliases (scope, kind, value);
-- $5 telefonos (a CRM's contacts have no aliases yet); $6 group ids
with
alias as (
  select a.scope, a.kind, a.value, i.contacto_id
  from unnest($2::text[], $3::text[], $4::text[]) as a (scope, kind, value)
  join router.identities i using (scope, kind, value)
  union all
  select '', 'telefono', c.telefono, c.id
  from unnest($5::text[]) as t (telefono) join contactos c using (telefono)
)
select 'message' as what, '' as scope, m.whatsapp_message_id as value,
       null::uuid as contacto_id, null as nombre, null as telefono,
       null::uuid as conversacion_id, null::xid as version, null as area, null as estado,
       null as router_estado, null as submenu_actual, null as subetiqueta,
       null as ultima_derivacion, null as asignado_a, null as inbox_fijo,
       null::boolean as desconectado, null::jsonb as bot
from unnest($1::text[]) as i (id) join mensajes m on m.whatsapp_message_id = i.id
union all
select a.kind, a.scope, a.value, c.id, c.nombre, c.telefono,
       v.id, v.xmin, v.area, v.estado, v.router_estado, v.submenu_actual, v.subetiqueta,
       v.ultima_derivacion, v.asignado_a::text, v.inbox_fijo::text,
       coalesce(v.desconectado_wsp4, false), v.metadata->'bot'
from alias a
join contactos c on c.id = a.contacto_id
left join lateral (
  -- a database with several open ones: the one that was used last
  select v.xmin, v.* from conversaciones v
  where v.contacto_id = c.id and v.estado <> 'cerrada'
  order by v.ts_ultimo_mensaje desc nulls last, v.created_at desc, v.id
  limit 1) v on true
union all
select 'group', '', g.id, null, null, g.id,
       v.id, v.xmin, v.area, v.estado, v.router_estado, v.submenu_actual, v.subetiqueta,
       v.ultima_derivacion, v.asignado_a::text, v.inbox_fijo::text,
       coalesce(v.desconectado_wsp4, false), v.metadata->'bot'
from unnest($6::text[]) as g (id)
cross join lateral (
  select v.xmin, v.* from conversaciones v
  where v.telefono = g.id and v.contacto_id is null and v.estado <> 'cerrada'
  order by v.ts_ultimo_mensaje desc nulls last, v.created_at desc, v.id
  limit 1) v
