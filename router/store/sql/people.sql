-- New contacts, new aliases (router.add_people), and the name of a contact that nobody has
-- named. Returns how many of each were really added: fewer than asked for means that another
-- writer met the same person at the same moment.
-- $1-$3 contacts (id, telefono, nombre); $4-$7 aliases (scope, kind, value, contacto_id);
-- $8 locks, sorted; $9, $10 aliases ('kind value') and telefonos that nobody had;
-- $11-$12 names (contacto_id, nombre)
with
named as (
  update contactos c set nombre = n.nombre, updated_at = now()
  from unnest($11::uuid[], $12::text[]) as n (id, nombre)
  where c.id = n.id and c.nombre is null
)
select contacts, aliases from router.add_people($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
