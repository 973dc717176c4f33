-- One person by any alias: contact, open or else latest conversation, its last messages.
-- The first alias that has somebody decides; of several people, who was active last.
-- $1 telefonos, $2 aliases as 'kind value', $3 how many messages
with
found as (
  select c.id, 0 as rank from unnest($1::text[]) as t (telefono) join contactos c using (telefono)
  union all
  select i.contacto_id, a.rank::integer
  from unnest($2::text[]) with ordinality as a (alias, rank)
  join router.identities i on i.kind || ' ' || i.value = a.alias
),
somebody as (
  select f.id, v.id as conversacion_id
  from found f
  left join lateral (
    select v.id, v.estado, v.ts_ultimo_mensaje, v.created_at from conversaciones v
    where v.contacto_id = f.id
    order by (v.estado = /*estado*/'cerrada'), v.ts_ultimo_mensaje desc nulls last,
             v.created_at desc, v.id
    limit 1) v on true
  order by f.rank, v.ts_ultimo_mensaje desc nulls last, f.id
  limit 1
)
select to_jsonb(c) as contacto, to_jsonb(v) as conversacion, m.mensajes
from somebody s
join contactos c on c.id = s.id
left join conversaciones v on v.id = s.conversacion_id
cross join lateral (
  select coalesce(jsonb_agg(to_jsonb(l) order by l.timestamp desc, l.id desc), '[]')
         as mensajes
  from (
    select m.* from mensajes m
    where m.conversacion_id = s.conversacion_id
    order by m.timestamp desc, m.id desc
    limit $3) l
) m
