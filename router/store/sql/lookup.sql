-- What is known already: one row for each thing that exists.
--   what = 'message'      value: a WhatsApp message id that is stored
--   what = 'waiting'      value: a WhatsApp message id that some change is of
--   what = 'telefono'     value: a telefono that has a contact
--   what = 'orphan'       value: a telefono whose open conversation has no contact
--   what = an alias kind  scope, value: an alias that has a contact
--   what = 'group'        value: a group that has an open conversation
-- $1 message ids; $2 aliases as 'kind value', of whatever business;
-- $3 telefonos (a CRM's contacts have no aliases yet); $4 group ids
with
alias as (
  select i.scope, i.kind, i.value, i.contacto_id, i.left_at
  from unnest($2::text[]) as a (alias)
  join router.identities i on i.kind || ' ' || i.value = a.alias
  union all
  select '', 'telefono', c.telefono, c.id, null
  from unnest($3::text[]) as t (telefono) join contactos c using (telefono)
),
person as materialized (
  -- Once each, however many names found them.
  select c.id as contacto_id, c.nombre, c.telefono, c.created_at as made_at,
         coalesce(c.email::text, c.notas::text) is null and c.metadata::text = '{}' as plain,
         (select jsonb_agg(jsonb_build_array(i.scope, i.kind, i.value))
          from router.identities i
          where i.contacto_id = c.id and i.kind in ('bsuid', 'wa_id')) as aliases,
         v.ts_ultimo_mensaje as active_at,
         v.id as conversacion_id, v.xmin as version, v.area, v.estado, v.router_estado,
         v.submenu_actual, v.subetiqueta, v.ultima_derivacion, v.asignado_a::text,
         v.inbox_fijo::text, v.disconnected, v.metadata->'bot' as bot
  from (select distinct contacto_id as id from alias) a
  join contactos c using (id)
  left join lateral (
    -- a database with several open ones: the one that was used last
    select v.xmin, v.*, router.is_disconnected(to_jsonb(v)) as disconnected
    from conversaciones v
    where v.contacto_id = c.id and v.estado <> /*estado*/'cerrada'
    order by v.ts_ultimo_mensaje desc nulls last, v.created_at desc, v.id
    limit 1) v on true
)
select 'message' as what, '' as scope, m.whatsapp_message_id as value,
       null::timestamptz as left_at, null::uuid as contacto_id, null as nombre,
       null as telefono, null::timestamptz as made_at, null::boolean as plain,
       null::jsonb as aliases, null::timestamptz as active_at,
       null::uuid as conversacion_id, null::xid as version, null as area, null as estado,
       null as router_estado, null as submenu_actual, null as subetiqueta,
       null as ultima_derivacion, null as asignado_a, null as inbox_fijo,
       null::boolean as desconectado, null::jsonb as bot
from unnest($1::text[]) as i (id) join mensajes m on m.whatsapp_message_id = i.id
union all
select 'waiting', '', n.target, null, null, null, null, null, null, null, null, null, null,
       null, null, null, null, null, null, null, null, null, null
from unnest($1::text[]) as i (id) join router.notices n on n.target = i.id
union all
select a.kind, a.scope, a.value, a.left_at, p.*
from alias a join person p using (contacto_id)
union all
select 'group', '', g.id, null, null, null, g.id, null, null, null, null,
       v.id, v.xmin, v.area, v.estado, v.router_estado, v.submenu_actual, v.subetiqueta,
       v.ultima_derivacion, v.asignado_a::text, v.inbox_fijo::text,
       v.disconnected, v.metadata->'bot'
from unnest($4::text[]) as g (id)
cross join lateral (
  select v.xmin, v.*, router.is_disconnected(to_jsonb(v)) as disconnected
  from conversaciones v
  where v.telefono = g.id and v.contacto_id is null and v.estado <> /*estado*/'cerrada'
  order by v.ts_ultimo_mensaje desc nulls last, v.created_at desc, v.id
  limit 1) v
union all
select 'orphan', '', t.telefono, null, null, null, t.telefono, null, null, null, null,
       v.id, v.xmin, v.area, v.estado, v.router_estado, v.submenu_actual, v.subetiqueta,
       v.ultima_derivacion, v.asignado_a::text, v.inbox_fijo::text,
       v.disconnected, v.metadata->'bot'
from unnest($3::text[]) as t (telefono)
cross join lateral (
  select v.xmin, v.*, router.is_disconnected(to_jsonb(v)) as disconnected
  from conversaciones v
  where v.telefono = t.telefono and v.contacto_id is null
    and v.estado <> /*estado*/'cerrada'
  order by v.ts_ultimo_mensaje desc nulls last, v.created_at desc, v.id
  limit 1) v
