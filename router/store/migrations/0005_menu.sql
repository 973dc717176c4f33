-- What the menu needs: a counter of tickets for each year, which goes on where the CRM's own
-- tickets ended.

create table router.ticket_counters (
  year  integer primary key,
  last  integer not null
);
insert into router.ticket_counters (year, last)
select year::integer, max(number::integer)
from (select (regexp_match(ticket_id::text, '^PSI-([0-9]{4})-([0-9]{6,9})$'))[1] as year,
             (regexp_match(ticket_id::text, '^PSI-([0-9]{4})-([0-9]{6,9})$'))[2] as number
      from tickets) t
where year is not null
group by 1;

-- Whether the CRM took a conversation from the bot, by any of its flags: it has one a line.
create function router.is_disconnected(conversation jsonb) returns boolean
language sql immutable as $$
  select coalesce(bool_or(value = 'true'), false) from jsonb_each_text(conversation)
  where key like 'desconectado\_%'
$$;

-- A line of audit_log, of which there are two kinds: where a CRM's wants columns of its own, it
-- gets those. One that takes neither takes the whole derivation back with it.
create function router.audit(conversacion uuid, telefono text, accion text, datos jsonb)
returns void language plpgsql as $$
begin
  insert into audit_log (conversacion_id, telefono, accion, datos)
  values (conversacion, telefono, accion, datos);
exception when not_null_violation then
  execute format(
    'insert into audit_log (entidad, entidad_id, accion, detalles) values (%L, %L, %L, %L)',
    'conversaciones', conversacion, accion, datos);
end $$;
