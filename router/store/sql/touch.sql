-- Conversations of people whose names changed: their telefono follows the contact's, and
-- what any process remembers of the open ones is not the present version any more.
-- $1 contacts, $2 the telefono that each had
update conversaciones v set
  telefono = case when v.telefono = t.telefono then c.telefono else v.telefono end,
  updated_at = now()
from unnest($1::uuid[], $2::text[]) as t (id, telefono)
join contactos c on c.id = t.id
where v.contacto_id = c.id
  and (v.estado <> /*estado*/'cerrada' or (v.telefono = t.telefono and v.telefono <> c.telefono))
returning 1
