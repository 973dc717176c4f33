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
