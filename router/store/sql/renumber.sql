-- A contact whose telefono is another one now; with a mark behind it where somebody whom
-- nobody asked about has that already. $1 contact, $2 telefono
update contactos c set
  telefono = case when exists (select from contactos o where o.telefono = $2)
             then $2 || '~' || left(c.id::text, 8) else $2 end,
  updated_at = now()
where c.id = $1
returning 1
