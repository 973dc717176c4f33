-- A ticket for each conversation: its open one, or the next number of the year.
-- $1 conversations, each once; $2 year
with
asked as (
  select id, place from unnest($1::uuid[]) with ordinality as a (id, place)
),
had as materialized (
  select a.id, t.ticket_id from asked a
  cross join lateral (
    select t.ticket_id from tickets t
    where t.conversacion_id = a.id and t.estado in (/*ticket_estado*/'abierto', /*ticket_estado*/'en_progreso')
    order by t.created_at desc
    limit 1
  ) t
),
fresh as materialized (
  select id, row_number() over (order by place) as nth, count(*) over () as many
  from asked where id not in (select id from had)
),
counted as (
  insert into router.ticket_counters as c (year, last)
  select $2::int, max(many) from fresh having count(*) > 0
  on conflict (year) do update set last = c.last + excluded.last
  returning last
)
select id, ticket_id, false as fresh from had
union all
select f.id, format('PSI-%s-%s', $2::int, lpad(n::text, greatest(6, length(n::text)), '0')), true
from fresh f
cross join counted c
cross join lateral (select c.last - f.many + f.nth as n) x
