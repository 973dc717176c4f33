-- One person, several names: numbers that change hands, people who turn out to be one.
-- See docs/decisions/0009-identity.md.

alter table router.identities
  add column if not exists left_at  timestamptz;  -- internal: when the person gave a number up

-- New people. Two writers of one moment may write the same number in two forms, which no
-- unique index sees: the locks stand for the numbers, and what is asked behind them is asked
-- with a new snapshot. Returns how many contacts and aliases were added.
create function router.add_people(
  contact_ids uuid[], telefonos text[], nombres text[],
  scopes text[], kinds text[], alias_values text[], owners uuid[],
  locks bigint[], unheard_aliases text[], unheard_telefonos text[],
  out contacts bigint, out aliases bigint)
language plpgsql as $$
begin
  contacts := 0;
  aliases := 0;
  perform pg_advisory_xact_lock(k) from unnest(locks) as k;
  if exists (select from unnest(unheard_aliases) as a (alias)
             join router.identities i on i.kind || ' ' || i.value = a.alias)
     or exists (select from unnest(unheard_telefonos) as t (telefono)
                join contactos c using (telefono)) then
    return;
  end if;
  insert into contactos (id, telefono, nombre)
  select c.* from unnest(contact_ids, telefonos, nombres) as c (id, telefono, nombre)
  order by c.telefono
  on conflict do nothing;
  get diagnostics contacts = row_count;
  insert into router.identities (scope, kind, value, contacto_id)
  select a.* from unnest(scopes, kinds, alias_values, owners) as a (s, k, v, c)
  order by 1, 2, 3
  on conflict do nothing;
  get diagnostics aliases = row_count;
end $$;

-- Remove a contact that nobody and nothing points at any more, also no table of the CRM's:
-- one that we may not read could.
create function router.drop_contact(contact uuid) returns void
language plpgsql as $$
declare
  pointer record;
  found_one boolean;
begin
  for pointer in
    select k.conrelid::regclass as tab, a.attname as col
    from pg_constraint k
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
    where k.contype = 'f' and k.confrelid = 'contactos'::regclass
  loop
    if not has_table_privilege(pointer.tab, 'SELECT') then
      return;
    end if;
    execute format('select exists (select from %s where %I = $1)', pointer.tab, pointer.col)
      into found_one using contact;
    if found_one then
      return;
    end if;
  end loop;
  delete from contactos where id = contact;
end $$;

-- Two contacts turn out to be one person. The conversations go along with what is in them,
-- and `open_one` is the one that stays open.
create function router.merge_contacts(
  loser uuid, survivor uuid, open_one uuid, old_telefono text, disposable boolean)
returns void
language plpgsql as $$
begin
  update router.identities set contacto_id = survivor where contacto_id = loser;
  update conversaciones v set
    contacto_id = survivor,
    telefono = case when v.telefono = old_telefono
               then (select telefono from contactos where id = survivor) else v.telefono end,
    updated_at = now()
  where contacto_id = loser;
  update conversaciones set
    estado = case when id <> open_one then 'cerrada' else estado end,
    updated_at = now()
  where contacto_id = survivor and estado <> 'cerrada';
  if disposable then
    perform router.drop_contact(loser);
  end if;
end $$;
