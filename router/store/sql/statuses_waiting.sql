-- The furthest state that was reported of messages before their rows were here. $1 wamids
select distinct on (s.wamid) s.wamid,
  case s.status when 'played' then 'read' else s.status end as status,
  coalesce(s.payload->'errors'->0->>'title', s.payload->'errors'->0->>'message',
           s.payload->'errors'->0->'error_data'->>'details',
           s.payload->'errors'->0->>'code') as error
from unnest($1::text[]) as i (wamid)
join router.statuses s on s.wamid = i.wamid and s.type = 'message'
where s.status in ('sent', 'delivered', 'read', 'played', 'failed')
order by s.wamid, case s.status when 'sent' then 1 when 'delivered' then 2
  when 'failed' then 9 else 3 end desc
