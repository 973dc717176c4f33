-- Everything that a person is called: numbers, ids, and the conversations, which are lanes.
-- $1 telefonos, $2 aliases as 'kind value'
with
found as (
  select id from contactos where telefono = any($1::text[])
  union
  select contacto_id from router.identities where kind || ' ' || value = any($2::text[])
)
select ltrim(c.telefono, '+') as name from contactos c join found f on f.id = c.id
union
select i.value from router.identities i join found f on f.id = i.contacto_id
union
select v.id::text from conversaciones v
where v.contacto_id in (select id from found) or v.telefono = any($1::text[])
