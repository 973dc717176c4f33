-- Where a message of ours goes: a person's open conversation, else the latest; its windows, and
-- the person's names for WhatsApp. A name that several people have, and a number that
-- somebody gave up, is nobody's here.
-- $1 conversation or null, else: $2 telefonos, $3 aliases as 'kind value'
with
asked as (select id, contacto_id from conversaciones where id = $1::uuid),
found as (
  select contacto_id as id, 0 as rank from asked where contacto_id is not null
  union all
  select c.id, 0 from unnest($2::text[]) as t (telefono) join contactos c using (telefono)
  union all
  select i.contacto_id, a.rank::integer
  from unnest($3::text[]) with ordinality as a (alias, rank)
  join router.identities i on i.kind || ' ' || i.value = a.alias
  where i.left_at is null
    and (i.kind not in ('username', 'parent_bsuid') or not exists (
      select from router.identities o
      where o.kind || ' ' || o.value = a.alias and o.contacto_id <> i.contacto_id))
),
candidate as (
  select id, 0 as rank from asked where contacto_id is null
  union all
  select v.id, f.rank from found f join conversaciones v on v.contacto_id = f.id
)
select v.id, coalesce(c.telefono, v.telefono) as telefono, v.linea_origen, v.ventana_72h_fin,
  coalesce(v.ventana_24h_fin, (
    select max(m.timestamp) + interval '24 hours' from mensajes m
    where m.conversacion_id = v.id and m.direccion = /*direccion*/'entrante'))
    as ventana_24h_fin,
  (select array_agg(i.value order by i.value) from router.identities i
   where i.contacto_id = c.id and i.kind = 'wa_id' and i.left_at is null) as phones,
  (select array_agg(i.value order by i.scope desc) from router.identities i
   where i.contacto_id = c.id and i.kind = 'bsuid' and i.left_at is null) as user_ids
from candidate k
join conversaciones v on v.id = k.id
left join contactos c on c.id = v.contacto_id
order by k.rank, (v.estado = /*estado*/'cerrada'), v.ts_ultimo_mensaje desc nulls last,
         v.created_at desc, v.id
limit 1
