-- New contacts, new aliases, and the name of a contact that nobody has named.
-- Returns how many of each were really added: fewer than asked for means that another
-- writer met the same person at the same moment.
-- $1-$3 contacts (id, telefono, nombre); $4-$7 aliases (scope, kind, value, contacto_id);
-- $8-$9 names (contacto_id, nombre)
with
contact as (
  insert into contactos (id, telefono, nombre)
  select * from unnest($1::uuid[], $2::text[], $3::text[]) as c (id, telefono, nombre)
  order by telefono
  on conflict do nothing returning 1
),
alias as (
  insert into router.identities (scope, kind, value, contacto_id)
  select * from unnest($4::text[], $5::text[], $6::text[], $7::uuid[]) as a (s, k, v, c)
  order by 1, 2, 3
  on conflict do nothing returning 1
),
named as (
  update contactos c set nombre = n.nombre, updated_at = now()
  from unnest($8::uuid[], $9::text[]) as n (id, nombre)
  where c.id = n.id and c.nombre is null
)
select (select count(*) from contact) as contacts, (select count(*) from alias) as aliases
