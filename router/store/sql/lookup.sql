-- What is known about the people and messages of a batch, in one round trip. A row is
--   what = 'delivery'  a number for a body that is to be archived
--   what = 'message'   value: an id that mensajes holds already
--   what = wa_id, bsuid, …, telefono   an alias, its contact, and the contact's open conversation
--   what = 'group'     value: a group that has an open conversation
-- $1 how many deliveries; $2 message ids; $3-$5 aliases (scope, kind, value);
-- $6 telefonos (a CRM's contacts have no aliases yet); $7 group ids
with
alias as (
  select a.scope, a.kind, a.value, i.contacto_id
  from unnest($3::text[], $4::text[], $5::text[]) as a (scope, kind, value)
  join router.identities i using (scope, kind, value)
  union all
  select '', 'telefono', c.telefono, c.id
  from unnest($6::text[]) as t (telefono) join contactos c using (telefono)
)
select 'delivery' as what, '' as scope,
       nextval('router.deliveries_id_seq')::text as value,
       null::uuid as contacto_id, null as nombre, null as telefono,
       null::uuid as conversacion_id, null as area, null as estado, null as router_estado
from generate_series(1, $1::int)
union all
select 'message', '', m.whatsapp_message_id, null, null, null, null, null, null, null
from unnest($2::text[]) as i (id) join mensajes m on m.whatsapp_message_id = i.id
union all
select a.kind, a.scope, a.value, c.id, c.nombre, c.telefono,
       v.id, v.area, v.estado, v.router_estado
from alias a
join contactos c on c.id = a.contacto_id
left join lateral (
  -- a database with several open ones: the one that was used last
  select v.id, v.area, v.estado, v.router_estado from conversaciones v
  where v.contacto_id = c.id and v.estado <> 'cerrada'
  order by v.ts_ultimo_mensaje desc nulls last, v.created_at desc, v.id
  limit 1) v on true
union all
select 'group', '', g.id, null, null, g.id, v.id, v.area, v.estado, v.router_estado
from unnest($7::text[]) as g (id)
cross join lateral (
  select v.id, v.area, v.estado, v.router_estado from conversaciones v
  where v.telefono = g.id and v.contacto_id is null and v.estado <> 'cerrada'
  order by v.ts_ultimo_mensaje desc nulls last, v.created_at desc, v.id
  limit 1) v
